"""The parts of one run, made for each other: learner, experience, and all that is saved of them.

In which order they are used is decided in loop.py. What plays for a run is here too; what a run on a data set
has in its place is in offline.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from metaslac.acting.adaptation import TaskAdaptation, adapt
from metaslac.acting.agent import Agent, load_weights
from metaslac.acting.inference import Drawing
from metaslac.acting.rollout import Task, VectorEnv
from metaslac.config.limits import episodes_kept, state_size
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.evidence.last_episode import last_episode
from metaslac.learning.batch import Batches
from metaslac.learning.generators import seeded, torch_seed
from metaslac.learning.learner import Learner
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.ranks.sharding import Shard, dealt
from metaslac.replay.experience import Experience
from metaslac.replay.files import ReplayFiles
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.checkpoint import Checkpoint, prune, save_checkpoint
from metaslac.storage.last import LAST
from metaslac.storage.manifest import CONFIG
from metaslac.training.ahead import CollectorAhead
from metaslac.training.collection import CollectedFamily, Collector
from metaslac.training.kept_features import KeptFeatures
from metaslac.training.log.columns import Split, split_in
from metaslac.training.log.run_log import LogState, RunLog
from metaslac.training.state import Progress, TrainingState

NETWORK_STREAM, NOISE_STREAM, BATCH_STREAM = 4, 5, 6


class Family(CollectedFamily, Protocol):
    """What is needed of a task family."""

    @property
    def param_names(self) -> Sequence[str]: ...
    @property
    def task_hash(self) -> str: ...
    @property
    def test_tasks(self) -> Sequence[Task]: ...
    @property
    def state_size(self) -> int: ...
    @property
    def validation_tasks(self) -> Sequence[Task]: ...


class Trainer:
    """Everything that a run trains with, wherever its experience is from.

    Args:
        config: of the run.
        family: whose validation tasks are evaluated on; its test tasks, if it has no others.
        tasks: those that are learned from, as the experience numbers them.
        replay: the experience.
        device: of networks and replay.
        ranks: of the run. Each has all networks, and the experience of its own tasks.
    """

    state: TrainingState
    of_data: Mapping[str, Any] = {}  # what the manifest says of the data set that is learned from, if one is

    def __init__(
        self,
        config: Config,
        family: Family,
        tasks: Sequence[Task],
        replay: Experience,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        self.family = family
        self.device = device
        self.ranks, self.shard = ranks, Shard(ranks, len(tasks))
        self.replay = replay
        params = torch.tensor([task.params for task in tasks], dtype=torch.float32, device=device)
        seed, num_params = config.train.seed, params.shape[1]
        with seeded(torch_seed(seed, NETWORK_STREAM)):
            generator = torch.Generator(device).manual_seed(torch_seed(seed, NOISE_STREAM))
            states = state_size(config, family)
            self.learner = Learner(
                config, family.action_size, num_params, device, generator, states, self.shard
            )
        self.learner.networks.task_params.fit(params)
        self.agent = Agent.from_networks(config, self.learner.networks, family.action_size, num_params)
        self.kept = KeptFeatures(self.learner, replay, self.shard)
        generator = torch.Generator(device).manual_seed(torch_seed(seed, BATCH_STREAM))
        self.batches = Batches(config, replay, params, generator, self.shard)
        self.split: Split = "validation" if family.validation_tasks else "test"
        self._told_of_links = False  # that there are none

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.state.progress

    def counts(self) -> dict[str, int]:
        """What was played, for progress.csv and the manifest."""
        return self.state.collected.counts()

    @property
    def evaluated_tasks(self) -> Sequence[Task]:
        """Those whose returns are in the rows of the run."""
        return self.family.validation_tasks if self.split == "validation" else self.family.test_tasks

    def resume(self, checkpoint: Checkpoint) -> LogState:
        """Go back to where a checkpoint was written; tasks are evaluated on that its rows are of.

        Raises MetaslacError if it is damaged or not of this.
        """
        checkpoint.need_training("a training cannot go on from it")
        if checkpoint.manifest["task_hash"] != self.family.task_hash:
            raise MetaslacError(
                f"{checkpoint.path} was trained on another task list of {self.family.name} "
                "than this version has"
            )
        if checkpoint.manifest.get("data_set") != self.of_data.get("data_set"):
            raise MetaslacError(f"{checkpoint.path} was trained on another data set, or on none")
        load_weights(self.learner.networks, checkpoint.tensors, checkpoint.path)
        log = self.state.restore(checkpoint)
        if self.progress.updates:
            self.kept.begin()
        self.split = split_in(log.columns()) or self.split
        if not self.evaluated_tasks:
            raise MetaslacError(
                f"{checkpoint.path} has rows of validation tasks, which {self.family.name} no longer has"
            )
        return log

    @property
    def own_evaluated_tasks(self) -> Sequence[Task]:
        """Those of them that this rank plays."""
        return dealt(self.evaluated_tasks, self.ranks)

    def evaluate(self, env: VectorEnv) -> list[TaskAdaptation]:
        """Adaptation to tasks that are evaluated on, this rank's, with the same random numbers each time."""
        evaluation = self.config.evaluation
        return adapt(
            self.agent,
            env,
            self.own_evaluated_tasks,
            episodes=evaluation.episodes,
            exploration_episodes=evaluation.exploration_episodes,
            trials=evaluation.trials,
            seed=self.config.train.seed,
            deterministic=not evaluation.sample_actions,
            drawing=Drawing(evaluation.redraw_every, evaluation.mean_below),
        )

    def picture(self, env: VectorEnv) -> NDArray[np.uint8] | None:
        """Of the agent at work on the first of those tasks, as of `last_episode`."""
        task = self.evaluated_tasks[0]
        return last_episode(self.agent, self.learner.networks, env, task, self.config)

    def save(self, run_dir: Path, log: RunLog) -> Path:
        """Write a checkpoint of everything, named after the update count; gives where it is.

        Raises MetaslacError if it cannot be.
        """
        ranks = self.ranks
        manifest = {
            "family": self.family.name,
            "task_hash": self.family.task_hash,
            "train_tasks": len(self.family.train_tasks),
            "test_tasks": len(self.family.test_tasks),
            "validation_tasks": len(self.family.validation_tasks),
            "param_names": list(self.family.param_names),
            "action_size": self.family.action_size,
            "observation": self.config.family.observation,
            "state_size": self.learner.state_size,
            "update": self.progress.updates,
            "pretraining_update": self.progress.pretrained,
            "replay_steps": sum(ranks.tell(self.replay.steps())),
            **self.counts(),
            **self.of_data,
            **({"ranks": ranks.size} if ranks.size > 1 else {}),
        }
        parent = run_dir / "checkpoints"
        saved = save_checkpoint(
            parent / f"{self.progress.updates:08d}",
            self.learner.networks.state_dict(),
            self.config,
            manifest,
            self.state.contents(log.state()),
            ranks,
        )
        self.state.files.commit(saved)
        if not self._told_of_links and not (parent / LAST).is_symlink():
            self._told_of_links = True
            log.warning(f"no symbolic links in {parent}: {LAST} is a text file with the checkpoint's name")
        try:
            if ranks.first:
                prune(parent, self.config.checkpoint.keep)
        except OSError as error:
            log.warning(f"cannot delete old checkpoints in {parent}: {error.strerror or error}")
        ranks.meet()
        return saved[CONFIG].path.parent.resolve()


class MetaTrainer(Trainer):
    """A trainer whose run plays what it learns from: the family's training tasks.

    Args:
        config, family, device, ranks: as of Trainer.
    """

    def __init__(self, config: Config, family: Family, device: torch.device, ranks: Ranks = ALONE) -> None:
        replay = new_replay(config, family, device, len(dealt(family.train_tasks, ranks)))
        super().__init__(config, family, family.train_tasks, replay, device, ranks)
        self.collector = Collector(config, family, replay, self.shard)
        self.ahead = CollectorAhead(self.collector, self.agent) if config.train.collect_ahead else None
        self.state = TrainingState(
            self.learner,
            self.batches.generator,
            self.collector,
            ReplayFiles(replay, self.shard),
            self.ahead,
            ranks=ranks,
        )


def new_replay(config: Config, family: Family, device: torch.device, tasks: int | None = None) -> TaskReplay:
    """The replay of a run, still empty: of all training tasks, or of so many of them."""
    return TaskReplay(
        len(family.train_tasks) if tasks is None else tasks,
        episodes_kept(config, family.episode_steps),
        config.replay.context_episodes,
        family.episode_steps,
        config.family.image_size,
        family.action_size,
        device,
        config.family.frames,
        config.family.action_repeat,
        state_size(config, family),
        config.on_states,
    )
