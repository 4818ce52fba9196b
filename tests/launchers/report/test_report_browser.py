"""The page of `metaslac report` in a real browser, at the width of a desk and of a phone.

Skipped where there is no selenium or no Chromium with its driver.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import WIDTHS, chromium, open_at, requests, wait_until
from PIL import Image
from reports import ONE_THREAD, run


@pytest.fixture(scope="module")
def page_path(family_of_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    run("report", *map(str, family_of_runs), "--out", str(path), *ONE_THREAD)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module", params=WIDTHS)
def opened(browser: Any, page_path: Path, request: pytest.FixtureRequest) -> Any:
    """The browser with the page open, and all it asked for in `asked`."""
    open_at(browser, page_path.as_uri(), request.param)
    return browser


def test_everything_loads_and_nothing_is_asked_of_anyone(opened: Any, page_path: Path) -> None:
    wait_until(opened, "[...document.images].every((image) => image.complete)")
    assert opened.execute_script("return document.images.length") > 50
    assert opened.execute_script("return [...document.images].filter((i) => !i.naturalWidth).length") == 0
    wait_until(opened, "[...document.querySelectorAll('video')].every((film) => film.readyState >= 1)")
    assert opened.execute_script("return document.querySelectorAll('video').length") == 8
    asked = requests(opened)
    assert page_path.as_uri() in asked
    assert all(address.startswith("data:") for address in asked - {page_path.as_uri()}), asked
    assert opened.get_log("browser") == []


def test_it_is_no_wider_than_the_window(opened: Any) -> None:
    for state in ("", "document.querySelectorAll('details').forEach((part) => part.open = true);"):
        opened.execute_script(state)
        widest, room, window = opened.execute_script(
            "const page = document.documentElement; return [page.scrollWidth, page.clientWidth, innerWidth]"
        )
        assert widest <= room and window in WIDTHS


def test_a_table_says_that_it_goes_on_until_its_end_was_seen(opened: Any) -> None:
    boxes = """return [...document.querySelectorAll('.scroll')].filter((box) => box.clientWidth).map((box) =>
      [box.scrollWidth > box.clientWidth + box.scrollLeft + 1, box.classList.contains('goes-on'),
       box.previousElementSibling.offsetHeight > 0])"""
    before = opened.execute_script(boxes)
    assert all(wide == fades == told for wide, fades, told in before)
    if opened.execute_script("return innerWidth") == min(WIDTHS):
        assert sum(wide for wide, _, _ in before) >= 3
    opened.execute_script("document.querySelectorAll('.scroll').forEach((box) => { box.scrollLeft = 1e5; })")
    wait_until(opened, "document.querySelectorAll('.goes-on').length === 0")
    assert not any(told for _, _, told in opened.execute_script(boxes))
    opened.execute_script("document.querySelectorAll('.scroll').forEach((box) => { box.scrollLeft = 0; })")
    assert [wide for wide, _, _ in opened.execute_script(boxes)] == [wide for wide, _, _ in before]


def test_the_axis_is_switched_with_the_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    shown = "return [...document.querySelectorAll('.panel')].map((part) => part.offsetHeight > 0)"
    opened.execute_script("document.getElementById('x1').click(); document.getElementById('x1').focus()")
    assert opened.execute_script(shown) == [True, False, False]
    opened.find_element(By.ID, "x1").send_keys(Keys.ARROW_RIGHT)
    assert opened.execute_script(shown) == [False, True, False]


def test_every_chart_is_saved_as_it_is_and_as_pixels(opened: Any) -> None:
    opened.execute_script(
        "window.saved = []; HTMLAnchorElement.prototype.click = function () {"
        " window.saved.push([this.download, this.href]); }"
    )
    charts = opened.execute_script("return document.querySelectorAll('.charts img').length")
    opened.execute_script("document.querySelectorAll('.save button').forEach((button) => button.click())")
    saved = opened.execute_script("return window.saved")
    assert len(saved) == 2 * charts > 10
    for (svg, drawing), (png, picture) in zip(saved[::2], saved[1::2], strict=True):
        assert svg.endswith(".svg") and drawing.startswith("data:image/svg+xml;base64,")
        assert png == svg.replace(".svg", ".png")
        with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as image:
            assert image.format == "PNG" and min(image.size) > 600
            low, high = image.convert("L").getextrema()
            assert low < 100 and high == 255  # drawn on white


def test_films_play_together_when_asked_and_not_before(opened: Any) -> None:
    playing = "[...document.querySelectorAll('video')].filter((film) => !film.paused).length"
    assert opened.execute_script(f"return {playing}") == 0
    opened.execute_script("document.getElementById('play').click()")
    wait_until(opened, f"{playing} === 8")
    wait_until(opened, "[...document.querySelectorAll('video')].every((film) => film.currentTime > 0)")
    assert opened.execute_script("return document.getElementById('play').textContent") == "Pause all"
    opened.execute_script("document.getElementById('play').click()")
    wait_until(opened, f"{playing} === 0")
