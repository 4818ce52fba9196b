"""Being asked to stop: signals that let a training end where it can go on later, and other work clear up.

The first one is only noted; `stop_requested` is asked by the training between two steps of its work.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from metaslac.ranks.environment import signals_come_twice

# Of a training that was stopped and whose last checkpoint holds all it had done (EX_TEMPFAIL: try again).
STOPPED = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
STDERR = 2
# Slurm signals all processes of a job, and those that start others (torchrun, a sweep) pass it on.
SECONDS_OF_ECHO = 0.5
SECONDS_TO_SEND_ON = 10.0


@dataclass
class Stop:
    """Says whether one of SIGNALS has come, and which."""

    number: int | None = None

    def __call__(self) -> bool:
        """Whether one has."""
        return self.number is not None


@contextmanager
def stop_requested() -> Iterator[Stop]:
    """Whether one of SIGNALS has come since; a second one ends the process at once, with 128 + its number.

    The same once more within SECONDS_OF_ECHO is taken for the first, and under torchrun any within
    SECONDS_TO_SEND_ON. There they are ignored afterwards: one that is sent on late, or because another
    process has died, does not end this one before it has said what became of the training.
    """
    stop, came, torchrun = Stop(), 0.0, signals_come_twice()

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if stop():
            since = time.monotonic() - came
            echo = number == stop.number and since < SECONDS_OF_ECHO
            if echo or (torchrun and since < SECONDS_TO_SEND_ON):
                return
            os._exit(128 + number)
        stop.number, came = number, time.monotonic()
        name = signal.Signals(number).name
        # Not through print: the main thread may be in the middle of one.
        with suppress(OSError):  # nobody may be there to read it
            os.write(STDERR, f"metaslac: {name}: stopping; once more to stop at once\n".encode())

    # A job in the background ignores some, and goes on doing so.
    wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if torchrun else handler)


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
