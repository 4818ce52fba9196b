"""A run that an earlier version left is read, adapted with and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from reports import ONE_THREAD, run
from runs import rows

import metaslac
from metaslac.storage.checkpoint import load_checkpoint

OLD = Path(__file__).parents[1] / "data/old_run"  # of dmc:cartpole-balance, two updates, at commit d5795bf


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run", symlinks=True))


def test_it_adapts_as_it_did(old: Path, tmp_path: Path) -> None:
    run("adapt", "--checkpoint", str(old), "--episodes", "1", "--json", str(tmp_path / "table"), *ONE_THREAD)
    (task,) = json.loads((tmp_path / "table").read_text())["tasks"]
    then = float(rows(old)[-1]["test/return_1"])  # the same trial: greedy, seed 0
    assert task["returns"] == [pytest.approx(then, rel=1e-3)]
    agent = metaslac.load(old)
    assert agent.observation_shape == (32, 32, 3)


def test_it_is_gone_on_with(old: Path) -> None:
    before = rows(old)
    outcome = metaslac.meta_train(
        resume=old, settings={"train.updates": 4}, quiet=True, tell=lambda line: None
    )
    assert outcome.finished and rows(old)[: len(before)] == before
    assert load_checkpoint(old).manifest["update"] == 4
    run("inspect", str(old), "--verify")
