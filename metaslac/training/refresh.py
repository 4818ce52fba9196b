"""An encoder at rest is trained again, on what has been collected since: at first it saw random episodes.

When it is due is counted in updates; features, and what inputs are standardised by, are then made anew.
"""

from __future__ import annotations

from collections.abc import Callable

from metaslac.training.log.run_log import RunLog
from metaslac.training.saving import Saver
from metaslac.training.trainer import Trainer
from metaslac.training.updates import Updates


class Refresh:
    """Makes the refreshes of one run.

    Args:
        trainer: of the run.
        updates: makes the encoder's.
        saver: is to save them, should the run be stopped in between.
        log: is told of each refresh, and how far it moved the features.
        between: called where the state is whole; it may raise, and the refresh is then gone on with later.
    """

    def __init__(
        self, trainer: Trainer, updates: Updates, saver: Saver, log: RunLog, between: Callable[[], None]
    ) -> None:
        self._trainer = trainer
        self._updates = updates
        self._saver = saver
        self._log = log
        self._between = between

    def if_due(self) -> None:
        """Train the encoder if it is time: after `train.refresh_first` updates, twice as many, and so on."""
        progress, train = self._trainer.progress, self._trainer.config.train
        if not is_due(progress.updates, train.refresh_first) or progress.refreshed == progress.updates:
            return
        learner, kept = self._trainer.learner, self._trainer.kept
        learner.anneal(progress.updates / train.updates)  # for the context encoder, which learns too
        kept.pause()
        while progress.refreshing < train.refresh_updates:
            self._between()
            learner.anneal_refresh(progress.refreshing / train.refresh_updates)
            metrics = self._updates.make(learner.pretrain, train.pretrain_windows)
            progress.refreshing += 1
            self._saver.behind = True
        progress.refreshed, progress.refreshing = progress.updates, 0
        drift = kept.begin(afresh=True)
        loss = self._updates.numbers(metrics)["model/loss"]
        self._log.message(
            f"update {progress.updates}: the encoder was trained again, model/loss {loss:.3g}; "
            f"features moved by {drift:.2f} of their spread"
        )


def is_due(updates: int, first: int) -> bool:
    """Whether `updates` is `first` times a power of two; never if `first` is 0."""
    if not first or not updates or updates % first:
        return False
    times = updates // first
    return times & (times - 1) == 0
