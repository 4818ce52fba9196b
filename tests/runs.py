"""What the tests of stopping and going on share."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fakes import CPU, FakeFamily, meta_train, tiny_config

from metaslac.config.sections import Config
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.loop import StopRequested

Stop = Callable[[], bool]

# Settings of a run of the command that takes seconds, as --set takes them.
SMALL = (
    "model.base_depth=4",
    "model.feature_size=8",
    "model.z1_size=3",
    "model.z2_size=4",
    "model.hidden_size=8",
    "task.size=2",
    "task.hidden_size=8",
    "actor_critic.hidden_size=8",
    "train.initial_episodes=1",
    "train.updates_per_visit=2",
    "train.model_windows=2",
    "train.windows=4",
    "train.steps_per_batch=2",
    "evaluation.episodes=2",
    "evaluation.trials=1",
    "runtime.log_every=1",
)


# The same for a run that is evaluated every other update, as arguments of meta-train.
TINY = [
    f"--set={assignment}"
    for assignment in (
        *SMALL,
        "train.pretrain_updates=2",
        "train.tasks_per_visit=2",
        "train.tasks_per_update=2",
        "evaluation.every=2",
    )
]

# And for one that is stopped and gone on with: visits and checkpoints at uneven times.
STOPPABLE = (
    *SMALL,
    "task.context_length=4",
    "task.context_max=16",
    "replay.episodes_per_task=4",
    "replay.context_episodes=2",
    "train.pretrain_updates=4",
    "train.tasks_per_visit=20",
    "train.tasks_per_update=4",
    "evaluation.every=5",
    "checkpoint.every=3",
)


def at(*calls: int) -> Stop:
    """Asks for a stop when it is asked the n-th time, n counted from 0."""
    count = -1

    def stop() -> bool:
        nonlocal count
        count += 1
        return count in calls

    return stop


def train(
    run_dir: Path,
    stop: Stop = lambda: False,
    config: Config | None = None,
    kind: type[FakeFamily] = FakeFamily,
    **family: Any,
) -> bool:
    """Train or go on; whether it came to its end."""
    last = run_dir / "checkpoints"
    checkpoint = load_checkpoint(last) if last.exists() else None
    family = {"uneven": True, "terminates": True, **family}
    try:
        meta_train(
            config or tiny_config(),
            kind(**family),
            run_dir,
            CPU,
            quiet=True,
            checkpoint=checkpoint,
            stop=stop,
        )
    except StopRequested:
        return False
    return True


def train_counted(run_dir: Path, config: Config | None = None) -> int:
    """Train to the end; how often a stop could have been asked for."""
    asked = 0

    def never() -> bool:
        nonlocal asked
        asked += 1
        return False

    assert train(run_dir, never, config)
    return asked


def rows(run_dir: Path) -> list[dict[str, str]]:
    """progress.csv without times."""
    with (run_dir / "progress.csv").open() as file:
        table = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if not name.startswith("time/")} for row in table]


def assert_equal(one: Path, other: Path) -> None:
    """Rows, weights and everything else that a later update depends on."""
    assert rows(one) == rows(other)
    first, second = load_checkpoint(one), load_checkpoint(other)
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    mine, its = (part.read_tensors("training.safetensors") for part in (first, second))
    assert mine.keys() == its.keys()
    for name in mine:
        assert torch.equal(mine[name], its[name]), name
    mine, its = (json.loads(part.read("training.json")) for part in (first, second))
    assert {**mine, "log": None} == {**its, "log": None}
    assert mine["log"]["update"] == its["log"]["update"]


UPDATES, PER_VISIT, VISITS = 7, 2, 4  # visits are due before updates 0, 2, 4 and 6


def ahead_config(
    collect_ahead: bool = True,
    updates: int = UPDATES,
    every: int = 3,
    inference: str = "infer",
    **train: Any,
) -> Config:
    """Of a run that collects in the background, with several visits; checkpoints are all kept."""
    base = tiny_config(inference=inference)
    settings = {"updates": updates, "updates_per_visit": PER_VISIT, "collect_ahead": collect_ahead, **train}
    return replace(
        base, train=replace(base.train, **settings), checkpoint=replace(base.checkpoint, every=every, keep=99)
    )


def background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("metaslac-ahead")]
