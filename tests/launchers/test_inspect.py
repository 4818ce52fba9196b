"""`metaslac inspect` tells what a checkpoint holds, and exits with 1 when something about it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints import forge
from click.testing import CliRunner, Result
from fakes import CPU, FakeFamily, meta_train, tiny_config

from metaslac.launchers.cli import cli
from metaslac.training.state import ROWS


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    meta_train(tiny_config(), FakeFamily(), tmp_path / "run", CPU, quiet=True)
    return tmp_path / "run"


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


def test_manifest_sizes_counters_and_returns(run_dir: Path) -> None:
    result = inspect(run_dir, "--json", run_dir / "told.json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads((run_dir / "told.json").read_text())
    manifest = json.loads((run_dir / "checkpoints" / "last" / "manifest.json").read_text())
    assert all(told[name] == value for name, value in manifest.items())
    files = [path for path in (run_dir / "checkpoints" / "last").rglob("*") if path.is_file()]
    sizes = sum(path.stat().st_size for path in files if path.name != "manifest.json")
    assert told["bytes"] == sizes > told["replay_bytes"] > 0
    assert told["parameters"] > 1_000 and told["update"] == 6 and told["pretraining_update"] == 3
    # 4 tasks x 2 random episodes and 3 visits x 2 tasks x 2 episodes, of 6 steps; a task's ring holds 4
    assert told["env_steps"] == 120 and told["replay_steps"] <= 96
    assert [row["update"] for row in told["evaluations"]] == [1, 2, 3, 4, 5, 6]
    last = f"{told['evaluations'][-1]['test/return_2']:.2f}"
    assert "held-out returns of each episode" in result.stdout and "4 + 2 tasks\n" in result.stdout
    assert last in result.stdout and "6 after 3 of pre-training" in result.stdout
    assert "--verify reads them" in result.stdout and not told["verified"]


def test_it_says_which_tasks_returns_are_of(tmp_path: Path) -> None:
    meta_train(tiny_config(), FakeFamily(validation=True), tmp_path / "run", CPU, quiet=True)
    result = inspect(tmp_path / "run", "--json", tmp_path / "told.json")
    assert "validation returns of each episode, the last 5 evaluations" in result.stdout
    assert "fake: 4 + 2 tasks, 3 validation tasks" in result.stdout
    assert [list(row) for row in json.loads((tmp_path / "told.json").read_text())["evaluations"]] == [
        ["update", "validation/return_1", "validation/return_2"]
    ] * 6


def test_verify_reads_every_byte(run_dir: Path) -> None:
    result = inspect(run_dir, "--verify")
    assert result.exit_code == 0 and "every checksum matches" in result.stdout
    file = next((run_dir / "checkpoints" / "last" / "replay").iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert inspect(run_dir).exit_code == 0  # its size is right
    result = inspect(run_dir, "--verify")
    assert result.exit_code == 1 and "DAMAGED: 1 of" in result.stdout
    (line,) = result.stderr.splitlines()
    assert str(file.relative_to(run_dir / "checkpoints" / "last")) in line and "checksum" in line


@pytest.mark.parametrize("name", ["training.json", "model.safetensors", "manifest.json"])
def test_what_is_missing_is_told_without_verify(run_dir: Path, name: str) -> None:
    (run_dir / "checkpoints" / "last" / name).write_bytes(b"{")
    result = inspect(run_dir)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert name in line


@pytest.mark.parametrize("rows", ["update,a\n1\n", "update,a\n1,2,3\n", "update,a\n1,x\n", "update"])
def test_rows_that_cannot_be_are_no_traceback(run_dir: Path, rows: str) -> None:
    last = (run_dir / "checkpoints" / "last").resolve()
    forge(last, {ROWS: rows.encode()})
    result = inspect(run_dir, "--verify")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert str(last / ROWS) in line


def test_what_is_no_checkpoint_is_bad_input(tmp_path: Path) -> None:
    result = inspect(tmp_path)
    assert result.exit_code == 2 and "is not a metaslac checkpoint or run" in result.stderr
