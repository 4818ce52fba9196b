"""Runs for several ranks: of the counting family, and of point_robot by the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes import CPU, FakeFamily, meta_train
from runs import STOPPABLE, ahead_config, at

from metaslac.config.sections import Config
from metaslac.ranks.ranks import Ranks
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import damaged_files
from metaslac.training.loop import StopRequested

STOPPED = 3  # exit code


def config(**train: Any) -> Config:
    """Of a run with a checkpoint after every update, and as many tasks in an update as there are."""
    settings = {"tasks_per_update": 4, "tasks_per_visit": 3, "collect_ahead": False, **train}
    return ahead_config(updates=6, every=1, **settings)


def run(ranks: Ranks, run_dir: Path, of: Config, stops: dict[int, int] | None = None) -> None:
    """Train, or go on; a rank in `stops` is asked to stop when it looks for the n-th time."""
    checkpoint = load_checkpoint(run_dir) if (run_dir / "checkpoints").exists() else None
    stop = at((stops or {}).get(ranks.rank, -1))
    family = FakeFamily(uneven=True, terminates=True, validation=True)
    try:
        meta_train(of, family, run_dir, CPU, quiet=True, checkpoint=checkpoint, stop=stop, ranks=ranks)
    except StopRequested:
        raise SystemExit(STOPPED) from None


def arguments(run_dir: Path, updates: int = 12) -> list[str]:
    """Those of the command, for a run of seconds."""
    command = ["meta-train", "--family", "point_robot", "--preset", "quick", "--device", "cpu", "--quiet"]
    command += ["--updates", str(updates), "--run-dir", str(run_dir)]
    return command + [f"--set={assignment}" for assignment in (*STOPPABLE, "train.tasks_per_visit=8")]


def assert_whole(run_dir: Path) -> None:
    """Every file of the last checkpoint is as it was saved."""
    checkpoint = load_checkpoint(run_dir)
    assert damaged_files(checkpoint.path, checkpoint.manifest) == []
