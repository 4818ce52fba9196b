"""What a run's settings come to on its family, and whether they go with it, before any work starts.

Memory is in learning/memory.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError


class CountedFamily(Protocol):
    """What limits how much can be asked for."""

    @property
    def train_tasks(self) -> Sequence[object]: ...
    @property
    def episode_steps(self) -> int: ...


class FamilyWithStates(Protocol):
    """What has states to be seen."""

    @property
    def state_size(self) -> int: ...


def check_family(config: Config, family: CountedFamily) -> None:
    """Raise MetaslacError for more tasks than there are, or a replay too small for what is played."""
    check_tasks(config, len(family.train_tasks), config.family.name)
    steps, visit = family.episode_steps, config.train.prior_episodes + config.train.posterior_episodes
    random = full_episodes(random_decisions(config, steps), steps)
    if (kept := episodes_kept(config, steps)) < max(random, visit):
        raise MetaslacError(
            f"{room_setting(config)} is too small: on {config.family.name} it keeps {kept} full episodes of "
            f"each task, and there are {random} random ones and {visit} in a visit"
        )


def check_tasks(config: Config, tasks: int, whose: str) -> None:
    """Raise MetaslacError for more tasks at a time than there are to train on."""
    for name in task_counts(config):
        if (asked := getattr(config.train, name)) > tasks:
            raise MetaslacError(f"train.{name} is {asked}, but {whose} has {tasks} training tasks")


def check_ranks(config: Config, tasks: int, ranks: int) -> None:
    """Raise MetaslacError for more processes than there are tasks for each of them to play and learn from."""
    counts = {f"train.{name} is": getattr(config.train, name) for name in task_counts(config)}
    for what, count in {**counts, "training tasks are": tasks}.items():
        if count < ranks:
            raise MetaslacError(
                f"{ranks} ranks are too many: {what} {count}, and each rank needs one or more"
            )
    if ranks > 1 and config.learns_prior:
        raise MetaslacError(
            "task.prior_beliefs is of one process: each would remember those of its own tasks"
        )
    if ranks > 1 and config.actor_critic.cloning_weight:
        raise MetaslacError(
            "actor_critic.cloning_weight is of one process: losses are over the mean |Q| of a whole batch"
        )


def task_counts(config: Config) -> list[str]:
    """The settings of section train that count training tasks; on a data set none is visited."""
    return ["tasks_per_visit"] * (not config.offline) + ["tasks_per_update"]


def random_decisions(config: Config, episode_steps: int) -> int:
    """Random decisions that are made on every training task at the start."""
    train = config.train
    return train.initial_decisions or train.initial_episodes * episode_steps


def episodes_kept(config: Config, episode_steps: int) -> int:
    """Full episodes that are kept of every training task."""
    replay = config.replay
    return full_episodes(replay.decisions_per_task, episode_steps) or replay.episodes_per_task


def room_setting(config: Config) -> str:
    """The setting that says how much is kept of every training task."""
    return f"replay.{'decisions' if config.replay.decisions_per_task else 'episodes'}_per_task"


def full_episodes(decisions: int, episode_steps: int) -> int:
    """The fewest full episodes that hold so many decisions."""
    return -(-decisions // episode_steps)


def state_size(config: Config, family: FamilyWithStates) -> int:
    """Size of the simulator's states where the agent, or in training its critics, see them; else 0."""
    return family.state_size if config.privileged or config.on_states else 0
