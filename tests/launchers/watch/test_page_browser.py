"""`metaslac watch` as a person uses it: the command, the shipped agent, and its page in a real browser.

Skipped where there is no selenium or no Chromium with its driver.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import WIDTHS, chromium, open_at, requests, wait_until

ROOT = Path(__file__).parents[3]
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "metaslac", "watch", "--port", "0", "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = iter(process.stdout)
    yield next(found[0] for line in said if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out.splitlines()[-1]) == (0, "ended"), err
    assert "Traceback" not in err and len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(params=WIDTHS)
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Any:
    open_at(browser, address, request.param)
    wait_until(browser, "document.getElementById('picture').naturalWidth > 0")
    return browser


def set_slider(page: Any, name: str, value: float) -> None:
    page.execute_script(
        "const slider = document.getElementById(arguments[0]); slider.value = arguments[1];"
        "for (const kind of ['input', 'change']) { slider.dispatchEvent(new Event(kind)); }",
        name,
        value,
    )


def click(page: Any, goal: tuple[float, float]) -> None:
    """On the place of the picture where a goal in [-2, 2]^2 is."""
    from selenium.webdriver.common.action_chains import ActionChains

    picture = page.find_element("id", "picture")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    side = picture.size["width"]
    right, down = goal[0] / 4 * side, -goal[1] / 4 * side
    ActionChains(page).move_to_element_with_offset(picture, right, down).click().perform()


def sliders(page: Any) -> list[float]:
    said: list[float] = page.execute_script(
        "return ['goal_x', 'goal_y'].map((name) => document.getElementById(`param-${name}`).valueAsNumber)"
    )
    return said


def test_a_click_hides_a_goal_there(page: Any, address: str) -> None:
    goal = (0.5, 0.7)
    click(page, goal)
    wait_until(page, "Math.abs(document.getElementById('param-goal_y').value - 0.7) < 0.03")
    assert sliders(page) == pytest.approx(goal, abs=0.03)
    assert not page.execute_script(f"return {WIDER}")
    asked = requests(page)
    assert address in asked and all(url.startswith((address, "data:")) for url in asked), asked
    assert page.get_log("browser") == []


@pytest.mark.parametrize("page", WIDTHS[:1], indirect=True)
def test_three_episodes_later_the_agent_has_found_it(page: Any) -> None:
    set_slider(page, "pace", 30)
    click(page, (-0.6, 0.5))
    rows = "[...document.querySelectorAll('#returns tr')].map((row) => row.innerText.split('\\t'))"
    wait_until(page, f"{rows}.length === 1 && {rows}[0][1] === 'a guess'")
    wait_until(page, f"{rows}.some((row) => row[0] === '7')", 60)
    shown = page.execute_script(f"return {rows}")
    returns = {int(number): float(value.replace("\u2212", "-")) for number, _, value in shown}
    # Of three, for what one comes to depends on how far from the goal it starts.
    assert np.mean([returns[4], returns[5], returns[6]]) > -9


def test_it_is_played_with_from_the_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    body = page.find_element("tag name", "body")
    body.send_keys(Keys.SPACE)
    wait_until(page, "document.getElementById('pause').textContent === 'Go on'")
    page.find_element("id", "by-hand").send_keys(Keys.SPACE)
    wait_until(page, "document.querySelectorAll('.dimension input:not([hidden])').length === 5")
    page.find_element("css selector", ".dimension input").send_keys(Keys.END)
    page.find_element("id", "pause").send_keys(Keys.ENTER)
    wait_until(page, "document.querySelector('.dimension .acted').getAttribute('x1') === '300'")
    assert "m by hand" in page.find_element("id", "returns").text
    page.find_element("id", "by-hand").send_keys(Keys.SPACE)
    wait_until(page, "document.querySelectorAll('.dimension input:not([hidden])').length === 0")
    before = sliders(page)[0]
    page.find_element("id", "param-goal_x").send_keys(Keys.ARROW_RIGHT)
    wait_until(page, f"document.getElementById('param-goal_x').value > {before}")
    assert page.get_log("browser") == []


def test_everything_that_is_set_has_a_name(page: Any) -> None:
    nameless = page.execute_script(
        "return [...document.querySelectorAll('input, button, img')].filter((part) =>"
        " !(part.labels?.length || part.getAttribute('aria-label') || part.alt || part.textContent.trim()))"
    )
    assert nameless == []
