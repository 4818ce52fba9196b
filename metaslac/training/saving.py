"""When the checkpoints of a training are written, and what happens where one cannot be.

What is in them is state.py's business, and how they are written that of storage/.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from metaslac.errors import MetaslacError, TrainingFault

SECONDS_BETWEEN_TRIES = 60.0


class Saver:
    """Saves a training; where that fails, goes on without for some time and tries again.

    Args:
        write: writes a checkpoint and gives its path; raises MetaslacError if it cannot, and TrainingFault
            where the training itself is at fault.
        grace_minutes: for how long a training may go on that cannot be saved.
        warn: is told that it goes on without.
        last: the checkpoint that the training goes on from, if it does.
        clock: in seconds, the same for all ranks.
    """

    def __init__(
        self,
        write: Callable[[], Path],
        grace_minutes: float,
        warn: Callable[[str], None],
        last: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.last = last  # good checkpoint
        self.behind = last is None  # the training has gone on since
        self._warn = warn
        self._write = write
        self._grace = grace_minutes
        self._failing_since: float | None = None
        self._next_try = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last try to save failed."""
        return self._failing_since is not None

    def try_to_save(self) -> None:
        """Save, or warn and go on without; does nothing so soon after a try that failed.

        Raises TrainingFault once saving has failed for the whole grace.
        """
        now = self._clock()
        if now < self._next_try:
            return
        try:
            self._save()
            self._next_try, self._failing_since = 0.0, None
        except TrainingFault:
            raise
        except MetaslacError as error:
            if self._failing_since is None:
                self._failing_since = now
            left = self._grace - (now - self._failing_since) / 60
            if left <= 0:
                raise self._fault(error) from None
            self._warn(f"{error}; training goes on without for at most {left:.0f} minutes")
            self._next_try = now + SECONDS_BETWEEN_TRIES

    def save_at_last(self) -> None:
        """Save, with no time left to try again. Raises TrainingFault if it cannot be."""
        try:
            self._save()
        except TrainingFault:
            raise
        except MetaslacError as error:
            raise self._fault(error) from None

    def last_in_words(self) -> str:
        """What is left of the run, for a fault's message."""
        return f"the last good checkpoint is {self.last}" if self.last else "no checkpoint yet"

    def _save(self) -> None:
        self.last, self.behind = self._write(), False

    def _fault(self, error: MetaslacError) -> TrainingFault:
        return TrainingFault(f"{error}; {self.last_in_words()}")
