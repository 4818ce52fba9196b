"""A terminal as the tests see it: its size, and what is written on it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import time


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
