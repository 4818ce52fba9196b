"""A run of three updates, evaluated, and others made of its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports import ONE_THREAD, changed, evaluate, run
from runs import TINY


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three updates, evaluated."""
    directory = tmp_path_factory.mktemp("runs") / "infer <0>"
    run(
        *["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD],
        *["--updates", "3", "--run-dir", str(directory), *TINY],
    )
    evaluate(directory)
    return directory


@pytest.fixture(scope="session")
def family_of_runs(evaluated_run: Path) -> list[Path]:
    """Two that infer, a blind one that is worse and an oracle that is better."""
    return [
        changed(evaluated_run, "oracle", 0, lambda returns: returns + 6),
        changed(evaluated_run, "blind", 0, lambda returns: returns - 2),
        changed(evaluated_run, "infer", 1, lambda returns: returns + 1),
        evaluated_run,
    ]
