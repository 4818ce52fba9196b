"""Chromium without a window, for the tests of pages; they are skipped where it or selenium is not there."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (1280, 390)
PATIENCE_SECONDS = 20
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(directory: Path) -> Iterator[Any]:
    """A browser that keeps what it has in a directory, and logs consoles and requests."""
    pytest.importorskip("selenium")
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (program and driver):
        pytest.skip("no Chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*QUIET, f"--user-data-dir={directory}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def open_at(browser: Any, address: str, width: int) -> None:
    """Open a page in a window of a desk's or a phone's width, with nothing asked for before."""
    browser.get("about:blank")
    requests(browser)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)


def requests(browser: Any) -> set[str]:
    """What pages have asked for since the last call, by the beginning of its address."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {entry["request"]["url"][:200] for entry in sent}


def wait_until(browser: Any, condition: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Until an expression of the page is true."""
    deadline = time.monotonic() + seconds
    while not browser.execute_script(f"return {condition}"):
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)
