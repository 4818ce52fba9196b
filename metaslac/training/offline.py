"""Training on a data set: nothing is played but to evaluate.

The loop itself is in loop.py, how data sets are read in replay/.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaslac.acting.rollout import VectorEnv
from metaslac.config.sections import Config
from metaslac.replay.data_set import DataSet
from metaslac.replay.recorded import RecordedExperience
from metaslac.storage.checkpoint import Checkpoint, Content, SavedFile
from metaslac.training.log.run_log import LogState
from metaslac.training.loop import MakeEnv, Training, built, opened
from metaslac.training.state import TrainingState
from metaslac.training.trainer import Family, Trainer


class NothingPlayed:
    """Counts of a training that plays nothing."""

    def counts(self) -> dict[str, int]:
        """Zeros, by the names of progress.csv."""
        return {"env_steps": 0, "diverged_episodes": 0, "lost_episodes": 0}

    def state(self) -> dict[str, Any]:
        """The same."""
        return self.counts()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing; the zeros are checked by who reads them."""
        if dict(state) != self.counts():
            raise ValueError("a training on a data set has played nothing")


class NothingSaved:
    """Experience that stays in its data set: checkpoints have no file of it."""

    def contents(self) -> dict[str, Content]:
        """None."""
        return {}

    def table(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def commit(self, saved: Mapping[str, SavedFile]) -> None:
        """Nothing to remember."""

    def restore(
        self,
        table: Mapping[str, Tensor],
        names: Collection[str],
        read: Callable[[str], dict[str, Tensor]],
        saved: Mapping[str, SavedFile],
    ) -> None:
        """Raise ValueError for a checkpoint that has experience."""
        if table or any("/" in name for name in names):
            raise ValueError("it has a replay, and a training on a data set has none")


class OfflineTrainer(Trainer):
    """A trainer that learns from a data set of a family's training tasks.

    Args:
        config, family, device: as of Trainer.
        data: the data set.
    """

    def __init__(self, config: Config, family: Family, data: DataSet, device: torch.device) -> None:
        super().__init__(config, family, data.tasks, RecordedExperience(data, device), device)
        self.data_set = data.checksum
        self.state = TrainingState(self.learner, self.batches.generator, NothingPlayed(), NothingSaved())


class OfflineTraining(Training):
    """A run that learns from what is there."""

    @contextmanager
    def environments(self, make_env: MakeEnv) -> Iterator[VectorEnv]:
        """Those to evaluate in alone."""
        with self.evaluation_worlds(make_env) as env:
            yield env

    def begin(self) -> None:
        """Nothing."""

    def before_update(self) -> None:
        """Nothing."""


def offline_train(
    config: Config,
    family: Family,
    data: DataSet,
    make_env: MakeEnv,
    run_dir: Path,
    device: torch.device,
    *,
    quiet: bool = False,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    hint: str = "",
) -> None:
    """Train on a data set in a run directory that is ready; as of `online.meta_train` otherwise."""
    with built(config, device, checkpoint):
        trainer = OfflineTrainer(config, family, data, device)
        state = trainer.resume(checkpoint) if checkpoint else LogState()
    with opened(run_dir, config, quiet, state) as log:
        begun = checkpoint.path if checkpoint else None
        OfflineTraining(trainer, run_dir, log, stop, begun, hint).run(make_env)
