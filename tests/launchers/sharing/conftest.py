"""An evaluated run of three updates, and the agent exported of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports import ONE_THREAD, evaluate, run
from runs import TINY

import metaslac


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "finished"
    run(
        *["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD],
        *["--updates", "3", "--run-dir", str(directory), *TINY],
    )
    evaluate(directory)
    return directory


@pytest.fixture(scope="session")
def agent(finished_run: Path) -> Path:
    """Tests copy it where they change it."""
    made = metaslac.export(finished_run, finished_run.with_name("agent"))
    assert made.path is not None
    return made.path
