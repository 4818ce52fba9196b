"""A run that an earlier version left is read, adapted with and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from reports import ONE_THREAD, run
from runs import rows

import metaslac
from metaslac.evidence.evaluation_file import read_evaluation
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


def test_it_is_gone_on_with(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(old)
    outcome = metaslac.meta_train(
        resume=old, settings={"train.updates": 4}, quiet=True, tell=lambda line: None
    )
    assert outcome.finished and rows(old)[: len(before)] == before
    assert rows(old)[-1]["test/return_1"] and not [name for name in before[0] if name.startswith("valid")]
    assert "on the held-out tasks of dmc:cartpole-balance: it was begun so" in capsys.readouterr().err
    assert load_checkpoint(old).manifest["update"] == 4
    assert "held-out returns of each episode" in run("inspect", str(old), "--verify")


def test_it_is_not_evaluated_by_what_it_was_watched_by(old: Path) -> None:
    trials = ("--episodes", "1", "--trials", "1", "--no-training-tasks")
    run("evaluate", "--checkpoint", str(old), *trials, *ONE_THREAD)
    returns = read_evaluation(old).held_out.returns
    assert returns.shape == (1, 1, 1)
    assert abs(returns[0, 0, 0] - float(rows(old)[-1]["test/return_1"])) > 1e-3


def test_it_is_evaluated_and_reported(old: Path, tmp_path: Path) -> None:
    for split, index in (("test", 1), ("validation", 2)):
        trials = ("--episodes", "1", "--trials", "1", "--no-training-tasks", "--split", split)
        run("evaluate", "--checkpoint", str(old), *trials, *ONE_THREAD)
        assert list(read_evaluation(old, split).held_out.tasks) == [index]
    run("report", str(old), "--out", str(tmp_path / "page.html"), *ONE_THREAD)
    assert "Return on held-out tasks while training" in (tmp_path / "page.html").read_text()
