"""A run of a stand-in family with several checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoints import config, family
from fakes import CPU, meta_train


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints after updates 0, 2, 4 and 6."""
    path = tmp_path_factory.mktemp("run")
    meta_train(config(), family(), path, CPU, quiet=True)
    return path


@pytest.fixture
def earlier(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "00000002"


@pytest.fixture
def saved(run_dir: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint after the fourth update."""
    return Path(shutil.copytree(run_dir / "checkpoints" / "00000004", tmp_path / "saved"))
