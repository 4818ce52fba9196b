"""Being asked to stop: signals that let a training end where it can go on later, and other work clear up.

The first one is only noted; `stop_requested` is asked by the training between two steps of its work.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Of a training that was stopped and whose last checkpoint holds all it had done (EX_TEMPFAIL: try again).
STOPPED = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
STDERR = 2


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Whether one of SIGNALS has come since; a second one ends the process at once, with 128 + its number."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        name = signal.Signals(number).name
        # Not through print: the main thread may be in the middle of one.
        with suppress(OSError):  # nobody may be there to read it
            os.write(STDERR, f"metaslac: {name}: stopping; once more to stop at once\n".encode())

    # A job in the background ignores some, and goes on doing so.
    wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within, what ends a process otherwise is Ctrl-C, for work that clears up when it is interrupted."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    wanted = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
