"""The agent exported of an evaluated run of three updates."""

from __future__ import annotations

from pathlib import Path

import pytest

import metaslac


@pytest.fixture(scope="session")
def agent(evaluated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests copy it where they change it."""
    made = metaslac.export(evaluated_run, tmp_path_factory.mktemp("exported") / "agent")
    assert made.path is not None
    return made.path
