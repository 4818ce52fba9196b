"""Data sets: recorded episodes in a directory, as arrays to map into memory and a manifest that vouches.

Every array has a row for each place, and an episode of n steps takes n + 1 places, as in a replay. They are
written by data_writer.py, and drawn from by recorded.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaslac.config.fields import IMAGE_SIZES, MOST_COUNT, MOST_UNITS
from metaslac.config.schedule import LARGEST_SEED
from metaslac.config.sections import FRAMES, OBSERVATIONS, SPLITS
from metaslac.errors import MetaslacError
from metaslac.replay.experience import Episode, gather_stacks
from metaslac.storage.manifest import Kind, check_file, is_count, read_sealed
from metaslac.storage.npy import map_array

DATA_SET = Kind("data set", "metaslac-data-set", 1)
DATA_FILE = "data.json"
TABLE = "episodes"  # the array with a row for each episode
COLUMNS = ("task", "offset", "length", "terminated", "source")
MOST_TEXT = 500  # characters of a name or of the words about a source
CHECKED_ROWS = 2**16  # numbers are looked at in blocks of so many places


@dataclass(frozen=True)
class About:
    """What all episodes of a data set have in common."""

    family: str
    task_hash: str  # of the family's training and held-out tasks
    split: str  # one of SPLITS, that the tasks are of
    param_names: tuple[str, ...]
    action_size: int
    image_size: int
    frames: int  # pictures that are an observation, k
    action_repeat: int
    observation: str  # one of OBSERVATIONS
    state_size: int  # S of the states recorded, as what is observed or beside pictures; 0 for none
    episode_steps: int  # decisions in a whole episode
    seed: int  # of what was played

    @property
    def new_pictures(self) -> int:
        """Pictures that a decision adds to a stack: those that are stored of it."""
        return min(self.action_repeat, self.frames)

    def rows(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name of each array with a row for each place -> its type and the shape of a row."""
        f4 = np.dtype("<f4")
        picture = self.image_size, self.image_size, 3
        stack = (self.new_pictures,) if self.frames > 1 else ()
        rows: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        if self.observation == "pixels":
            rows["frames"] = np.dtype("|u1"), (*stack, *picture)
        if self.state_size:
            rows["states"] = f4, (self.state_size,)
        return {**rows, "actions": (f4, (self.action_size,)), "rewards": (f4, ()), "dense_rewards": (f4, ())}


@dataclass(frozen=True)
class RecordedTask:
    """A task of the family that there are episodes of."""

    index: int  # in the family's list
    params: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class DataSet:
    """A data set that was checked; its arrays are mapped.

    `arrays` are those of About.rows, each with a row for each of P places: frames (P, H, W, 3) uint8, or of
    stacks (P, new pictures, H, W, 3); states (P, S), actions (P, A), rewards and dense_rewards (P,) float32.
    """

    path: Path
    about: About
    tasks: tuple[RecordedTask, ...]
    sources: tuple[str, ...]  # which policies recorded the episodes
    episodes: NDArray[np.int64]  # (E, 5): COLUMNS, of which task is the index in the family's list
    arrays: Mapping[str, NDArray[Any]]
    manifest: Mapping[str, Any]  # versions, commit and files among it

    def __repr__(self) -> str:
        about = self.about
        return f"<data set {self.path}: {len(self.episodes)} episodes of {about.family}, {about.split} tasks>"

    @property
    def steps(self) -> int:
        """Transitions, of all episodes together."""
        return int(self.episodes[:, 2].sum())

    @property
    def checksum(self) -> str:
        """Of its manifest, which has those of all its files."""
        checksum: str = self.manifest["manifest_sha256"]
        return checksum

    @property
    def bytes(self) -> int:
        """Of its files but the manifest."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    def returns(self) -> NDArray[np.float64]:
        """The sum of the rewards of each episode, (E,)."""
        rewards = self.arrays["rewards"]
        spans = ((offset, offset + length) for _, offset, length, *_ in self.episodes.tolist())
        return np.array([rewards[start:end].sum(dtype=np.float64) for start, end in spans])

    def episode(self, number: int) -> Episode:
        """An episode as it was played, its observations put together again."""
        about = self.about
        _, offset, n, terminated, _ = self.episodes[number].tolist()
        places, steps = slice(offset, offset + n + 1), slice(offset, offset + n)
        states = np.array(self.arrays["states"][places]) if about.state_size else None
        if about.observation == "state":
            assert states is not None
            frames, states = states, None
        else:
            frames = np.array(self.arrays["frames"][places])
            if about.frames > 1:
                frames = _stacked(frames, about.frames)
        return Episode(
            frames,
            actions=np.array(self.arrays["actions"][steps]),
            rewards=np.array(self.arrays["rewards"][steps]),
            dense_rewards=np.array(self.arrays["dense_rewards"][steps]),
            terminated=bool(terminated),
            diverged=False,
            control_steps=n * about.action_repeat,
            states=states,
        )


def open_data_set(path: Path, verify: bool = True) -> DataSet:
    """The data set in a directory, every number of it checked against every other.

    Args:
        path: of the directory.
        verify: whether every file is read once and compared with its checksum.

    Raises:
        MetaslacError: it is not exactly as it was written, in one line.
    """
    if not path.exists():
        raise MetaslacError(f"{path} does not exist")
    if not (path / DATA_FILE).is_file():
        raise MetaslacError(f"{path} is not a data set: it has no {DATA_FILE}")
    manifest = read_sealed(path / DATA_FILE, DATA_SET)
    try:
        about, tasks, sources = described(manifest)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise MetaslacError(f"{path / DATA_FILE} is damaged: {reason}") from None
    names = [*about.rows(), TABLE]
    if manifest["files"].keys() != {f"{name}.npy" for name in names}:
        raise MetaslacError(f"{path / DATA_FILE} is damaged: it names other files than {', '.join(names)}")
    for name, entry in manifest["files"].items():
        if verify:
            check_file(path / name, entry)
    arrays = {name: map_array(path / f"{name}.npy") for name in names}
    table = np.array(arrays.pop(TABLE))
    try:
        check_table(table, about, [task.index for task in tasks], len(sources))
        _check_arrays(arrays, about, int(table[-1, 1] + table[-1, 2] + 1))
    except ValueError as error:
        raise MetaslacError(f"{path} is damaged: {error}") from None
    return DataSet(path, about, tasks, sources, table, arrays, manifest)


def description(about: About, tasks: tuple[RecordedTask, ...], sources: tuple[str, ...]) -> dict[str, Any]:
    """What the manifest says, for JSON."""
    return {**asdict(about), "tasks": [asdict(task) for task in tasks], "sources": list(sources)}


def described(manifest: Mapping[str, Any]) -> tuple[About, tuple[RecordedTask, ...], tuple[str, ...]]:
    """The inverse of `description`.

    Raises KeyError, TypeError, ValueError or OverflowError for what is not there or cannot be.
    """
    values = {field.name: manifest[field.name] for field in fields(About)}
    lists = values["param_names"], manifest["tasks"], manifest["sources"]
    if not all(type(entries) is list for entries in lists):
        raise TypeError("param_names, tasks and sources must be lists")
    tasks = tuple(RecordedTask(task["index"], tuple(task["params"])) for task in manifest["tasks"])
    about = About(**{**values, "param_names": tuple(values["param_names"])})
    sources = tuple(manifest["sources"])
    check_about(about, tasks, sources)
    return about, tasks, sources


def check_about(about: About, tasks: tuple[RecordedTask, ...], sources: tuple[str, ...]) -> None:
    """Raise ValueError for what no data set can be of."""
    counts = {
        "action_size": (about.action_size, 1, MOST_UNITS),
        "action_repeat": (about.action_repeat, 1, MOST_COUNT),
        "state_size": (about.state_size, int(about.observation == "state"), MOST_UNITS),
        "episode_steps": (about.episode_steps, 1, MOST_COUNT),
        "seed": (about.seed, 0, LARGEST_SEED),
    }
    for name, (value, low, high) in counts.items():
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    choices = {
        "split": (about.split, SPLITS),
        "observation": (about.observation, OBSERVATIONS),
        "frames": (about.frames, FRAMES),
        "image_size": (about.image_size, IMAGE_SIZES),
    }
    for name, (found, allowed) in choices.items():
        if type(found) is not type(allowed[0]) or found not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {found!r}")
    if about.frames > 1 and about.observation == "state":
        raise ValueError("frames must be 1 where states are observed")
    texts = [about.family, about.task_hash, *about.param_names, *sources]
    if not all(isinstance(text, str) and text.isprintable() and len(text) <= MOST_TEXT for text in texts):
        raise ValueError("a name in it is none")
    if not tasks or not sources:
        raise ValueError("it has no tasks or no sources")
    if not all(is_count(task.index) for task in tasks) or len({task.index for task in tasks}) < len(tasks):
        raise ValueError("its tasks are not told apart by their indices")
    for task in tasks:
        if len(task.params) != len(about.param_names) or not all(map(_is_finite, task.params)):
            raise ValueError(f"the parameters of task {task.index} are not a number each")


def check_table(table: NDArray[Any], about: About, tasks: list[int], sources: int) -> None:
    """Raise ValueError for a table of episodes that do not lie one behind the other, from the first place."""
    if table.dtype != np.dtype("<i8") or table.ndim != 2 or table.shape[1] != len(COLUMNS) or not len(table):
        raise ValueError(f"{TABLE} is no table of them")
    task, offset, length, terminated, source = table.T
    if length.min() < 1 or length.max() > about.episode_steps:
        raise ValueError(f"{TABLE}: an episode does not have 1 to {about.episode_steps} steps")
    if len(length) * (about.episode_steps + 1) > np.iinfo(np.int64).max:
        raise ValueError(f"{TABLE}: there cannot be so many")
    ends = (length + 1).cumsum()
    if offset[0] or (offset[1:] != ends[:-1]).any():
        raise ValueError(f"{TABLE}: an episode does not begin where the one before it ends")
    if set(task.tolist()) != set(tasks):
        raise ValueError(f"{TABLE}: they are not of the tasks in {DATA_FILE}")
    if not np.isin(terminated, (0, 1)).all() or source.min() < 0 or source.max() >= sources:
        raise ValueError(f"{TABLE}: an end or a source of one cannot be")


def _stacked(pictures: NDArray[np.uint8], stack: int) -> NDArray[np.uint8]:
    """Stacks of k pictures (n + 1, k, H, W, 3) of an episode, from those that each decision added to them."""
    index = torch.arange(len(pictures))
    stacks: NDArray[np.uint8] = gather_stacks(
        torch.from_numpy(pictures), torch.zeros_like(index), index, stack
    ).numpy()
    return stacks


def _check_arrays(arrays: Mapping[str, NDArray[Any]], about: About, places: int) -> None:
    for name, (dtype, row) in about.rows().items():
        found = arrays[name]
        if found.dtype != dtype or found.shape != (places, *row) or not found.flags.c_contiguous:
            raise ValueError(f"{name} is {found.shape} of {found.dtype}, not {(places, *row)} of {dtype}")
    for name in arrays.keys() - {"frames"}:
        for start in range(0, places, CHECKED_ROWS):
            block = arrays[name][start : start + CHECKED_ROWS]
            if not np.isfinite(block).all():
                raise ValueError(f"{name} has values that are not finite")
            if name == "actions" and abs(block).max() > 1:
                raise ValueError("actions has values outside [-1, 1]")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
