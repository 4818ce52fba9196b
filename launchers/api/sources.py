"""Where the episodes of a data set come from: agents, random actions, or what is in a run's replay.

How they are written is data_sets.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaslac.config.sections import Config, FamilyConfig
from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import open_family, tasks_of, try_out
from metaslac.launchers.api.trained import load_trained, load_verified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metaslac.acting.recording import Recorded
    from metaslac.envs.family import Family, Task

RANDOM = "random"
RANDOM_WORLDS = 8  # that random actions are played in side by side


@dataclass(frozen=True)
class Design:
    """What is asked of every source."""

    split: str
    episodes: int | None  # of each task; None is all there are
    seed: int
    trial_episodes: int
    deterministic: bool
    states: bool  # beside pictures
    family: str | None  # that code may be imported of
    device: str
    threads: int


class Source(NamedTuple):
    """Where episodes come from."""

    said: str  # in the data set
    name: str  # that the family goes by: of code to import, module:attribute
    family: Family
    tasks: Sequence[Task]  # that are played
    episodes: int  # that may come
    state_size: int  # of the states that they have, beside pictures or in place of them
    play: Callable[[], Recorded]


def random_source(name: str, seen: Mapping[str, Any], hold: int, design: Design) -> Source:
    """Uniform random actions, each held for so many decisions; `seen` says how the family is seen."""
    from metaslac.acting.recording import record_random

    usual = FamilyConfig()
    names = "image_size", "action_repeat", "frames", "observation"
    family = open_family(name, **{field: getattr(usual, field) for field in names} | dict(seen))
    tasks, episodes = tasks_of(family, design.split), design.episodes or 0
    try_out(family, name)

    def play() -> Recorded:
        with closing(_env(family, len(tasks) * episodes, RANDOM_WORLDS, design)) as env:
            yield from record_random(
                env, tasks, family.action_size, episodes=episodes, seed=design.seed, hold=hold
            )

    return Source(
        RANDOM, name, family, tasks, len(tasks) * episodes, _state_size(family, design.states), play
    )


def agent_source(path: Path, number: int, design: Design) -> Source:
    """The agent of a checkpoint, source number so-and-so of the data set."""
    from metaslac.acting.recording import record_trials

    trained = load_trained(path, design.family, design.device, design.threads)
    family, config = trained.family, trained.config
    tasks, episodes = tasks_of(family, design.split), design.episodes or 0

    def play() -> Recorded:
        trials = len(tasks) * -(-episodes // design.trial_episodes)
        with closing(_env(family, trials, config.runtime.worlds, design)) as env:
            yield from record_trials(
                trained.agent,
                env,
                tasks,
                episodes=episodes,
                trial_episodes=design.trial_episodes,
                exploration_episodes=config.evaluation.exploration_episodes,
                seed=design.seed,
                source=number,
                deterministic=design.deterministic,
                drawing=trained.drawing,
            )

    said = _said(trained.manifest, config) + ", on its mean" * design.deterministic
    return Source(
        said,
        config.family.name,
        family,
        tasks,
        len(tasks) * episodes,
        _state_size(family, design.states),
        play,
    )


def replay_source(path: Path, design: Design) -> Source:
    """The episodes in the replay of a checkpoint, of each task the newest."""
    import torch

    from metaslac.training.state import restore_replay
    from metaslac.training.trainer import new_replay

    checkpoint, family = load_verified(path, design.family)
    config = checkpoint.config
    replay = new_replay(config, family, torch.device("cpu"))
    restore_replay(checkpoint, replay)
    newest = [list(stored)[-(design.episodes or len(stored)) :] for stored in replay.stored]
    beside = replay.states.shape[1]
    if design.states and not beside and family.observation == "pixels":
        raise MetaslacError(f"--states: the replay of {path} has none, as its critics see none")

    def play() -> Recorded:
        for task, stored in zip(family.train_tasks, newest, strict=True):
            for entry in stored:
                episode = replay.episode(task.index, entry)
                yield task, episode if design.states else episode._replace(states=None)

    episodes = sum(map(len, newest))
    said = f"replay at {_said(checkpoint.manifest, config)}"
    size = _state_size(family, design.states)
    return Source(said, config.family.name, family, family.train_tasks, episodes, size, play)


def _said(manifest: Mapping[str, Any], config: Config) -> str:
    """Which agent it is: no path, as data sets go elsewhere, but what tells its settings from others."""
    inference, seed = config.task.inference, config.train.seed
    digest = manifest["files"]["config.yaml"]["sha256"][:12]
    return f"update {manifest['update']} of {inference}, seed {seed}, settings {digest}"


def _state_size(family: Family, beside: bool) -> int:
    return family.state_size if beside or family.observation == "state" else 0


def _env(family: Family, jobs: int, worlds: int, design: Design) -> Any:
    """Worlds to play in; what fails in one of them ends its episode alone."""
    from metaslac.acting.adaptation import slots_for
    from metaslac.envs import make_vector_env

    beside = design.states and family.observation == "pixels"
    return make_vector_env(family, slots_for(jobs, worlds), design.threads, tolerant=True, states=beside)
