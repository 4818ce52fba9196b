"""Replay against plain lists: whatever is added, forgotten, saved and loaded, what is drawn is as they say.

The lists know the documented rules and nothing of how the replay keeps them. Every frame, action and reward
is unique, so that what is drawn tells where it comes from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from metaslac.replay.experience import Episode
from metaslac.replay.files import ReplayFiles
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.checkpoint import SavedFile, tensors_to_bytes

CPU = torch.device("cpu")
PIXELS, ACTIONS, MOST_STEPS = 2, 2, 5
DRAWS = 40  # per position: one is drawn an eighth as often, or thrice, with a probability below exp(-20)

Row = tuple[float, ...]


class Played(NamedTuple):
    """An episode as the lists know it; `number` is its own among all that were ever added to a replay."""

    task: int
    number: int
    steps: int
    marked: bool
    terminated: bool

    def frame(self, t: int) -> list[int]:
        """The bytes of frame t: whose it is, then bytes that tell one place of the picture from another."""
        return [self.task, *divmod(self.number, 256), t, *range(t + 100, t + 108)]

    def step(self, t: int) -> int:
        """A number that no other step has."""
        return (self.task * 1_000 + self.number) * 10 + t

    def action(self, t: int) -> list[float]:
        return [self.step(t) + 0.25, -self.step(t) - 0.75]

    def reward(self, t: int) -> float:
        return -self.step(t) - 0.5

    def dense_reward(self, t: int) -> float:
        return self.step(t) + 0.5

    def episode(self) -> Episode:
        """What is given to the replay."""
        frames = np.array([self.frame(t) for t in range(self.steps + 1)], dtype=np.uint8)
        steps = range(self.steps)
        return Episode(
            frames.reshape(-1, PIXELS, PIXELS, 3),
            np.array([self.action(t) for t in steps], dtype=np.float32).reshape(-1, ACTIONS),
            np.array([self.reward(t) for t in steps], dtype=np.float32),
            np.array([self.dense_reward(t) for t in steps], dtype=np.float32),
            self.terminated,
            False,
            self.steps,
        )

    def windows(self, length: int) -> Iterator[Row]:
        """The windows that end in each of its steps, all parts of a window in one row."""
        for last in range(self.steps):
            index = range(last - length + 1, last + 2)
            real = [i >= 0 for i in index]
            row: list[float] = []
            for i in index:
                row += self.frame(max(i, 0))
            for i in index[:-1]:
                row += self.action(i) if i >= 0 else [0.0] * ACTIONS
            row += [self.dense_reward(i) if i >= 0 else 0.0 for i in index[:-1]]
            restart = [True, *(i <= 0 for i in index[1:])]
            yield *row, *restart, *real, self.terminated and last == self.steps - 1

    def segments(self, length: int) -> Iterator[Row]:
        """The segments that show any of its steps; what sticks out is filled with the nearest there is."""
        for first in range(1 - length, self.steps):
            index = range(first, first + length)
            nearest = [min(max(i, 0), self.steps - 1) for i in index]
            row: list[float] = []
            for i in range(first, first + length + 1):
                row += self.frame(min(max(i, 0), self.steps))
            for i in nearest:
                row += self.action(i)
            row += [self.reward(i) for i in nearest]
            yield *row, *(0 <= i < self.steps for i in index)


class Sizes(NamedTuple):
    """Of a replay, and of what is drawn from it."""

    tasks: int
    episodes: int
    context_episodes: int
    steps: int
    window: int
    segment: int

    def replay(self) -> TaskReplay:
        return TaskReplay(self.tasks, self.episodes, self.context_episodes, self.steps, PIXELS, ACTIONS, CPU)


class TaskLists:
    """The episodes of one task as a plain list, oldest first, each with the place of its first frame."""

    def __init__(self, sizes: Sizes) -> None:
        self.places = sizes.episodes * (sizes.steps + 1)
        self.context_steps = sizes.context_episodes * sizes.steps
        self.next_place = 0
        self.kept: list[tuple[int, Played]] = []

    def add(self, played: Played) -> None:
        if played.steps == 0:
            return
        start, size = self.next_place, played.steps + 1
        if start + size > self.places:
            start = 0
        while any(place < start + size and start < place + other.steps + 1 for place, other in self.kept):
            del self.kept[0]
        self.kept.append((start, played))
        self.next_place = start + size

    def stored(self) -> list[Played]:
        return [played for _, played in self.kept]

    def pool(self) -> list[Played]:
        pool: list[Played] = []
        for played in reversed(self.stored()):
            if played.marked and sum(other.steps for other in pool) < self.context_steps:
                pool.append(played)
        return pool


class Add(NamedTuple):
    """Episodes of one task, one after the other; marks and ends are taken in turn."""

    task: int
    lengths: list[int]
    marks: list[bool]
    ends: list[bool]


class Save(NamedTuple):
    """In vain: as where the disk is full, and nothing is committed."""

    in_vain: bool


class Load(NamedTuple):
    """Go on from one of the last saves."""

    back: int


class Delete(NamedTuple):
    """One of the last saves, or a file of it; it may be the one that the next would take files from."""

    back: int
    whole: bool


Operation = Add | Save | Load | Delete


class Saved(NamedTuple):
    """A checkpoint's worth of a replay, and what had been added to it by then."""

    folder: Path
    files: dict[str, SavedFile]
    table: bytes
    history: tuple[Played, ...]

    def read(self, name: str) -> dict[str, Tensor]:
        return safetensors.torch.load((self.folder / name).read_bytes())


class Story:
    """What becomes of a replay. Beside it are the lists, and a replay that is never saved."""

    def __init__(self, sizes: Sizes, home: Path) -> None:
        self.sizes, self.home = sizes, home
        self.saves: list[Saved] = []
        self.saves_made = self.episodes_made = 0
        self.replay = sizes.replay()
        self.files = ReplayFiles(self.replay)
        self.begin(())

    def begin(self, history: tuple[Played, ...]) -> None:
        """The lists, and the replay that is never saved, after so much was added."""
        self.history: tuple[Played, ...] = ()
        self.lists = [TaskLists(self.sizes) for _ in range(self.sizes.tasks)]
        self.unsaved = self.sizes.replay()
        for played in history:
            self.note(played)

    def note(self, played: Played) -> None:
        self.history += (played,)
        self.lists[played.task].add(played)
        self.unsaved.add(played.task, played.episode(), played.marked)

    def go_on(self, operation: Operation) -> None:
        match operation:
            case Add():
                self.add(operation)
            case Save(in_vain):
                self.save(in_vain)
            case Load(back) if self.saves:
                self.load(self.saves[-1 - back % len(self.saves)])
            case Delete(back, whole) if self.saves:
                saved = self.saves.pop(-1 - back % len(self.saves))
                for name in sorted(saved.files)[: None if whole else 1]:
                    (saved.folder / name).unlink()

    def add(self, what: Add) -> None:
        turns = zip(what.lengths, cycle(what.marks), cycle(what.ends), strict=False)
        for length, marked, terminated in turns:
            task, steps = what.task % self.sizes.tasks, length % (self.sizes.steps + 1)
            played = Played(task, self.episodes_made, steps, marked, terminated)
            self.episodes_made += 1
            self.note(played)
            self.replay.add(task, played.episode(), marked)

    def save(self, in_vain: bool) -> None:
        folder = self.home / str(self.saves_made)
        (folder / "replay").mkdir(parents=True)
        self.saves_made += 1
        files = {}
        for name, content in self.files.contents().items():
            if isinstance(content, SavedFile):
                os.link(content.path, folder / name)
            else:
                (folder / name).write_bytes(content if isinstance(content, bytes) else content())
            data = (folder / name).read_bytes()
            files[name] = SavedFile(folder / name, hashlib.sha256(data).hexdigest(), len(data))
        if in_vain:
            shutil.rmtree(folder)
            return
        self.files.commit(files)
        self.saves.append(Saved(folder, files, tensors_to_bytes(self.files.table()), self.history))
        self.assert_nothing_to_write()

    def load(self, saved: Saved) -> None:
        self.begin(saved.history)
        self.replay = self.sizes.replay()
        self.files = ReplayFiles(self.replay)
        self.files.restore(safetensors.torch.load(saved.table), list(saved.files), saved.read, saved.files)
        self.assert_nothing_to_write()

    def assert_nothing_to_write(self) -> None:
        assert all(isinstance(content, SavedFile) for content in self.files.contents().values())

    def check(self) -> None:
        """Compare all there is to see of the replay with the lists."""
        stored, pools = [kept.stored() for kept in self.lists], [kept.pool() for kept in self.lists]
        assert self.replay.steps() == sum(played.steps for kept in stored for played in kept)
        window, segment = self.sizes.window, self.sizes.segment
        self.check_windows([{row for played in kept for row in played.windows(window)} for kept in stored])
        self.check_context(
            [{row for played in pool for row in played.segments(segment)} for pool in pools],
        )

    def check_windows(self, expected: list[set[Row]]) -> None:
        if any(expected):
            tasks, count = tasks_and_draws(expected)
            drawn, beside = (
                replay.sample_windows(tasks, count, self.sizes.window, torch.Generator().manual_seed(count))
                for replay in (self.replay, self.unsaved)
            )
            assert all(map(torch.equal, drawn[:6], beside[:6]))
            check_rows(drawn[:6], tasks, expected)

    def check_context(self, expected: list[set[Row]]) -> None:
        if any(expected):
            tasks, count = tasks_and_draws(expected)
            drawn, beside = (
                replay.sample_context(tasks, count, self.sizes.segment, torch.Generator().manual_seed(count))
                for replay in (self.replay, self.unsaved)
            )
            assert all(map(torch.equal, drawn[:5], beside[:5]))
            check_rows(drawn[:4], tasks, expected)


def tasks_and_draws(expected: list[set[Row]]) -> tuple[Tensor, int]:
    """The tasks that something is expected of, last first, and how many draws show all of it."""
    tasks = [task for task in reversed(range(len(expected))) if expected[task]]
    return torch.tensor(tasks), DRAWS * max(map(len, expected))


def check_rows(drawn: Sequence[Tensor], tasks: Tensor, expected: list[set[Row]]) -> None:
    """Each task's draws (K, count, ...) are what is expected of it, all of that, all about as often."""
    shape = *drawn[0].shape[:2], -1
    parts = torch.cat([part.reshape(shape).double() for part in drawn], -1).numpy()
    for task, rows in zip(tasks.tolist(), parts, strict=True):
        counts = Counter(row.tobytes() for row in rows)
        assert {tuple(np.frombuffer(row)) for row in counts} == expected[task]
        mean = len(rows) / len(counts)
        assert mean / 8 < min(counts.values()) and max(counts.values()) < 3 * mean


LENGTHS = st.integers(0, MOST_STEPS)
FLAGS = st.lists(st.booleans(), min_size=1, max_size=3)
EPISODES = st.lists(LENGTHS, min_size=1, max_size=3) | st.lists(LENGTHS, min_size=8, max_size=20)
ADD = st.builds(Add, st.integers(0, 2), EPISODES, FLAGS, FLAGS)
LOADS = [Load(0), Load(0), Load(1), Load(2)]
DELETES = [Delete(0, True), Delete(0, False), Delete(1, True)]
ON_FILES = st.sampled_from([Save(False)] * 6 + [Save(True)] + LOADS + DELETES)
OPERATIONS = st.lists(ADD | ON_FILES, min_size=10, max_size=30)
KEPT, LONGER = st.integers(1, 6), st.integers(1, MOST_STEPS + 3)
SIZES = st.builds(Sizes, st.integers(1, 3), KEPT, KEPT, st.integers(1, MOST_STEPS), LONGER, LONGER)

# Episode by episode, one that is in a file with others is forgotten, until the last one of the file is.
SIX: list[Operation] = [Add(0, [1] * 6, [True], [False]), Save(False)]
ONE: list[Operation] = [Add(0, [1], [True], [True]), Save(False), Load(0)]
FOUR: list[Operation] = [Add(0, [1] * 4, [False], [False]), Save(False), Load(0)]
ONE_BY_ONE = SIX + ONE * 7 + FOUR * 2


@pytest.mark.parametrize("cases", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_what_is_drawn_is_as_plain_lists_say(cases: int, tmp_path: Path) -> None:
    @settings(max_examples=cases, derandomize=True, database=None, deadline=None)
    @example(Sizes(1, 2, 1, 5, 3, 3), ONE_BY_ONE)
    @given(SIZES, OPERATIONS)
    def tell(sizes: Sizes, operations: list[Operation]) -> None:
        with TemporaryDirectory(dir=tmp_path) as home:
            story = Story(sizes, Path(home))
            for operation in operations:
                story.go_on(operation)
                story.check()

    tell()
