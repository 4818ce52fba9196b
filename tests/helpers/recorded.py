"""Small data sets, and the episodes that are in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from metaslac.replay.data_set import About, DataSet, RecordedTask
from metaslac.replay.data_writer import written_data_set
from metaslac.replay.experience import Episode
from metaslac.replay.task_replay import TaskReplay

CPU = torch.device("cpu")
SIZE, STEPS = 32, 7

PIXELS = About(
    family="point_robot",
    task_hash="0" * 64,
    split="train",
    param_names=("x", "y"),
    action_size=2,
    image_size=SIZE,
    frames=1,
    action_repeat=1,
    observation="pixels",
    state_size=0,
    episode_steps=STEPS,
    seed=0,
)
STACKED = replace(PIXELS, frames=3, action_repeat=2)
WITH_STATES = replace(PIXELS, state_size=4)
ON_STATES = replace(PIXELS, observation="state", state_size=4)
KINDS = {"pixels": PIXELS, "stacks": STACKED, "states beside": WITH_STATES, "on states": ON_STATES}

# Steps of the episodes of each task: unequally many, of unequal lengths. None overruns the ring below.
LENGTHS = {3: (7, 2, 5), 8: (1,), 5: (6, 6)}


def tasks() -> list[RecordedTask]:
    return [RecordedTask(index, (index / 10, -float(index))) for index in sorted(LENGTHS)]


def episode(about: About, steps: int, rng: np.random.Generator) -> Episode:
    """An episode of random numbers; its stacks repeat the first frame before it, as environments do."""
    count = about.new_pictures
    pictures = rng.integers(0, 256, (steps + 1, count, SIZE, SIZE, 3), dtype=np.uint8)
    frames = pictures[:, 0]
    if about.frames > 1:
        pictures[0] = pictures[0, -1]
        film = np.concatenate([np.repeat(pictures[:1, -1], about.frames, 0), *pictures[1:]])
        ends = about.frames + count * np.arange(steps + 1)
        frames = np.stack([film[end - about.frames : end] for end in ends])
    states = rng.standard_normal((steps + 1, about.state_size)).astype(np.float32)
    if about.observation == "state":
        frames, states = states, None
    return Episode(
        frames,
        rng.uniform(-1, 1, (steps, about.action_size)).astype(np.float32),
        *rng.standard_normal((2, steps)).astype(np.float32),
        terminated=bool(steps % 2),
        diverged=False,
        control_steps=steps * about.action_repeat,
        states=states if about.state_size else None,
    )


def played(about: About) -> list[tuple[RecordedTask, Episode, str]]:
    """Task, episode and source, the tasks taking turns as long as they have some."""
    rng = np.random.default_rng(0)
    by_index = {task.index: task for task in tasks()}
    return [
        (by_index[index], episode(about, lengths[number], rng), ("random", "update 7")[number % 2])
        for number in range(3)
        for index, lengths in LENGTHS.items()
        if number < len(lengths)
    ]


def write(path: Path, about: About = PIXELS) -> list[tuple[RecordedTask, Episode, str]]:
    """A data set at `path`; what is in it."""
    entries = played(about)
    with written_data_set(path, about) as writer:
        for task, entry, source in entries:
            assert writer.add(task, entry, source)
    return entries


def replay_of(about: About, entries: list[tuple[RecordedTask, Episode, str]]) -> TaskReplay:
    """A replay with the same episodes."""
    replay = TaskReplay(
        len(LENGTHS),
        3,
        3,
        STEPS,
        SIZE,
        about.action_size,
        CPU,
        about.frames,
        about.action_repeat,
        about.state_size,
        about.observation == "state",
    )
    order = sorted(LENGTHS)
    for task, entry, _ in entries:
        replay.add(order.index(task.index), entry, context=True)
    return replay


def assert_same(one: DataSet, other: DataSet) -> None:
    assert (one.about, one.tasks, one.sources) == (other.about, other.tasks, other.sources)
    np.testing.assert_array_equal(one.episodes, other.episodes)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
