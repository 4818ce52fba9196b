"""Meta-training: play a few tasks, update, evaluate on others, and again.

The loop itself is in loop.py, how tasks are played in collection.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch

from metaslac.acting.rollout import VectorEnv
from metaslac.config.schedule import TrainConfig
from metaslac.config.sections import Config
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.storage.checkpoint import Checkpoint
from metaslac.training.loop import MakeEnv, Training
from metaslac.training.start import Kept, run_training
from metaslac.training.trainer import Family, MetaTrainer


class OnlineTraining(Training):
    """A run that plays what it learns from: random episodes first, then visits between updates."""

    trainer: MetaTrainer
    _env: VectorEnv

    @contextmanager
    def environments(self, make_env: MakeEnv) -> Iterator[VectorEnv]:
        """As of Training; one more vector environment to train in."""
        asks = {"states": True} if self.config.privileged else {}
        with ExitStack() as stack:
            worlds = self.trainer.shard.most_visited(self.config.train.tasks_per_visit)
            env = self._env = make_env(worlds, **asks)
            stack.callback(env.close)
            evaluation_env = stack.enter_context(self.evaluation_worlds(make_env))
            if self.trainer.ahead is not None:
                stack.callback(self.trainer.ahead.close)  # first of all: it plays in these
            yield evaluation_env

    def begin(self) -> None:
        """Random episodes."""
        self.trainer.collector.collect_random(self._env, self._after_collection)

    def before_update(self) -> None:
        """The visit that is due, if one is; where visits are played ahead, the next one is begun."""
        train, progress, ahead = self.config.train, self.progress, self.trainer.ahead
        if not progress.until_visit:
            self.updates.check()
            if ahead is None:
                decisions = self.trainer.collector.visit(self._env, self.trainer.agent)
            else:
                self.apart(partial(ahead.wait, self._env))
                decisions = ahead.visit(self._env)
            progress.until_visit = updates_after_visit(train, decisions)
            self._after_collection()
        if ahead is not None and progress.updates + progress.until_visit < train.updates:
            ahead.start(self._env)
        progress.until_visit -= 1

    def _after_collection(self) -> None:
        self.saver.behind = True
        self.between()


def meta_train(
    config: Config,
    family: Family,
    make_env: MakeEnv,
    run_dir: Path,
    device: torch.device,
    *,
    quiet: bool = False,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    hint: str = "",
    ranks: Ranks = ALONE,
) -> None:
    """Meta-train in a run directory that is ready; rows, events and checkpoints go into it.

    `make_env` makes so many worlds of the family, in which no fault of a world raises. With a `checkpoint`
    of the run, go on from there. All `ranks` of a run make this call. Raises as Training.run
    does, and MetaslacError for a checkpoint that cannot be gone on from.
    """
    build = partial(MetaTrainer, config, family, device, ranks)
    kept = Kept(run_dir, quiet, checkpoint)
    run_training(OnlineTraining, build, config, device, make_env, kept, stop, hint)


def updates_after_visit(train: TrainConfig, decisions: int) -> int:
    """Updates between a visit of which so many decisions were kept and the next one."""
    if not train.updates_per_decision:
        return train.updates_per_visit
    return max(1, round(decisions * train.updates_per_decision))
