"""The log of a rank that is not the first: what there is to tell is the same on all, and told once."""

from __future__ import annotations

from collections.abc import Mapping

from metaslac.training.log.run_log import LogState, RunLog
from metaslac.training.log.trackers.trackers import Trackers


class Unheard(RunLog):
    """Writes nothing and shows nothing."""

    def __init__(self) -> None:
        """No file is opened, and no tracker."""
        self.trackers = Trackers(self.warning)

    def state(self) -> LogState:
        """Nothing to go on from: the first rank's is saved."""
        return LogState()

    def row(self, update: int, values: Mapping[str, float | None]) -> None:
        """Nothing."""

    def pretraining(self, update: int, total: int, values: Mapping[str, float] | None = None) -> None:
        """Nothing."""

    def progress(self, update: int, text: Mapping[str, str] | None = None) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def warning(self, text: str) -> None:
        """Nothing."""

    def result(self) -> None:
        """Nothing."""

    def close(self, finished: bool = True) -> None:
        """Nothing."""
