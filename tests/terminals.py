"""A terminal and processes as the tests see them."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path


def set_size(terminal: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 100, 0, 0))


def read_until(terminal: int, pattern: str) -> str:
    shown, deadline = "", time.monotonic() + 120
    while not re.search(pattern, shown):
        assert time.monotonic() < deadline, shown
        try:
            shown += os.read(terminal, 65536).decode()
        except OSError:  # nobody is at the other end any more
            raise AssertionError(shown) from None
    return shown


def descendants(process: int) -> list[int]:
    """Processes that came from a process, itself not among them, as long as it is there."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
