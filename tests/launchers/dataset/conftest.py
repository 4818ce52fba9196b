"""A run of four updates to record of."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports import ONE_THREAD, run
from runs import TINY


@pytest.fixture(scope="session")
def staged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four updates whose checkpoints of updates 2 and 4 are kept."""
    path = tmp_path_factory.mktemp("runs") / "infer"
    run(
        *["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD, "--quiet"],
        *["--updates", "4", "--run-dir", str(path), *TINY],
        *["--set=checkpoint.every=2", "--set=checkpoint.keep=9", "--set=evaluation.every=9"],
    )
    return path
