"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import ahead_config as config
from runs import background_threads, train_counted


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    assert background_threads() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An uninterrupted run with a checkpoint after every update, and how often it could have been stopped."""
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, train_counted(run_dir, config(every=1))
