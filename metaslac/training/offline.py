"""Training on a data set: nothing is played but to evaluate.

The loop itself is in loop.py, how data sets are read in replay/.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaslac.acting.rollout import VectorEnv
from metaslac.config.sections import Config
from metaslac.replay.data_set import DataSet
from metaslac.replay.recorded import RecordedExperience
from metaslac.storage.checkpoint import Checkpoint, Content, SavedFile
from metaslac.storage.manifest import TASKS_OF_DATA
from metaslac.training.loop import MakeEnv, Training
from metaslac.training.start import Kept, run_training
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
        self.of_data = {"data_set": data.checksum, TASKS_OF_DATA: [task.index for task in data.tasks]}
        self.state = TrainingState(self.learner, self.batches.generator, NothingPlayed(), NothingSaved())


class OfflineTraining(Training):
    """A run that learns from what is there."""

    def environments(self, make_env: MakeEnv) -> AbstractContextManager[VectorEnv]:
        """Those to evaluate in alone."""
        return self.evaluation_worlds(make_env)

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
    build = partial(OfflineTrainer, config, family, data, device)
    kept = Kept(run_dir, quiet, checkpoint)
    run_training(OfflineTraining, build, config, device, make_env, kept, stop, hint)
