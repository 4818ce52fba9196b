"""Episodes of other formats: what they are checked against, and the family that they are said to be of.

The formats are minari_format.py's and episode_files.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.launchers.api.data_sets import about_of
from metaslac.launchers.api.family import open_family, tasks_of

if TYPE_CHECKING:
    from metaslac.replay.data_set import About, RecordedTask
    from metaslac.replay.experience import Episode

MOST_BYTES = 2**29  # of an array of one episode
MOST_ROUNDING = 1e-4  # by which actions of others may leave [-1, 1]


@dataclass(frozen=True)
class Told:
    """What a person tells of episodes that do not say it themselves."""

    family: str | None
    action_repeat: int | None
    split: str | None  # None is "train"
    task: int | None  # index in the family's list; None where the split has but one
    policy: str | None  # words for who played; None is the name of their directory
    name: str  # of their directory

    @property
    def source(self) -> str:
        """Who played, where they do not say it."""
        return self.policy or self.name


class Read(NamedTuple):
    """An episode that was read, and whose it is."""

    task: RecordedTask
    episode: Episode
    source: str


class Foreign(NamedTuple):
    """Episodes to be read one after the other."""

    about: About
    episodes: Iterator[Read]


def family_of(path: Path, told: Told, image_size: int | None) -> tuple[About, tuple[RecordedTask, ...]]:
    """What a data set of these episodes says of its family, and the tasks of the split.

    `image_size` is of their pictures; None where states are observed.

    Raises MetaslacError or FamilyError for what was not told, or cannot be.
    """
    from metaslac.replay.data_set import RecordedTask

    if told.family is None or told.action_repeat is None:
        raise MetaslacError(
            f"{path} does not say of which family it is: --family and --action-repeat are needed, such as "
            "--family dmc:walker-walk --action-repeat 2"
        )
    observation = "state" if image_size is None else "pixels"
    size = {} if image_size is None else {"image_size": image_size}
    family = open_family(
        told.family, **{"image_size": 64, **size}, action_repeat=told.action_repeat, observation=observation
    )
    split = told.split or "train"
    tasks = tasks_of(family, split)
    state_size = family.state_size if image_size is None else 0
    about = about_of(family, told.family, split, state_size, seed=0)
    return about, tuple(RecordedTask(task.index, tuple(map(float, task.params))) for task in tasks)


def check_told(
    told: Told, path: Path, about: About, tasks: Sequence[RecordedTask], sources: Sequence[str]
) -> None:
    """Raise MetaslacError where a person tells anything else than a data set that says it itself."""
    said: dict[str, tuple[object, Sequence[object]]] = {
        "family": (told.family, [about.family]),
        "action-repeat": (told.action_repeat, [about.action_repeat]),
        "split": (told.split, [about.split]),
        "task": (told.task, [task.index for task in tasks]),
        "policy": (told.policy, sources),
    }
    for name, (asked, found) in said.items():
        if asked is not None and [asked] != list(found):
            there = ", ".join(map(str, found[:3])) + ", ..." * (len(found) > 3)
            raise MetaslacError(f"--{name} {asked}: {path} says itself that it is of {there}")


def chosen_task(tasks: Sequence[RecordedTask], index: int | None, path: Path) -> RecordedTask:
    """The task with that index, or the only one. Raises MetaslacError where that is none."""
    if index is None and len(tasks) == 1:
        return tasks[0]
    for task in tasks:
        if task.index == index:
            return task
    first, last = tasks[0].index, tasks[-1].index
    what = (
        "does not say of which task it is" if index is None else f"is of task {index}, which is none of them"
    )
    raise MetaslacError(f"{path} {what}: --task takes one of {first} to {last}")


def checked_episode(
    about: About,
    path: Path,
    observations: NDArray[Any],
    actions: NDArray[Any],
    rewards: NDArray[Any],
    terminated: bool,
    dense_rewards: NDArray[Any] | None = None,
    states: NDArray[Any] | None = None,
) -> Episode:
    """An episode of n steps from what a file has of it, its numbers as float32.

    Actions that leave [-1, 1] by rounding alone are put back. Raises MetaslacError for what does not fit.
    """
    from metaslac.replay.experience import Episode

    n = len(rewards)
    dense = rewards if dense_rewards is None else dense_rewards
    picture = about.image_size, about.image_size, 3
    seen = (about.frames, *picture) if about.frames > 1 else picture
    shapes: list[tuple[str, NDArray[Any] | None, tuple[int, ...]]] = [
        ("observations", observations, (about.state_size,) if about.observation == "state" else seen),
        ("actions", actions, (about.action_size,)),
        ("rewards", rewards, ()),
        ("dense rewards", dense, ()),
        ("states", states, (about.state_size,)),
    ]
    for name, found, row in shapes:
        rows = n + (name in ("observations", "states"))
        if found is not None and found.shape != (rows, *row):
            raise MetaslacError(f"{path}: {name} are {found.shape}, not {(rows, *row)}")
        pictures = name == "observations" and about.observation == "pixels"
        if found is not None and found.dtype.kind not in ("u" if pictures else "f"):
            raise MetaslacError(f"{path}: {name} are {found.dtype}")
    if n > about.episode_steps:
        raise MetaslacError(
            f"{path} has an episode of {n} steps, and {about.family} has at most {about.episode_steps} at an "
            f"action repeat of {about.action_repeat}"
        )
    outside = float(abs(actions).max(initial=0))
    if not outside <= 1 + MOST_ROUNDING:
        raise MetaslacError(f"{path} has actions outside [-1, 1]")
    pixels = about.observation == "pixels"
    return Episode(
        observations if pixels else _float32(observations),
        actions=_float32(actions).clip(-1, 1),
        rewards=_float32(rewards),
        dense_rewards=_float32(dense),
        terminated=terminated,
        diverged=False,
        control_steps=n * about.action_repeat,
        states=_float32(states) if states is not None and pixels else None,
    )


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is refused where it is written
        return values.astype(np.float32)
