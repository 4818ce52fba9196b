"""Run directories: a run never lands on another run or on anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaslac.config import Config
from metaslac.errors import MetaslacError
from metaslac.run_directory import locked, prepare_run_directory, saved_config, start_run_directory
from metaslac.settings import apply_settings, from_yaml, to_dict

CONFIG = Config()


def refusal(path: Path, config: Config = CONFIG) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(MetaslacError) as error:
        prepare_run_directory(path, config)
    assert "\n" not in str(error.value)
    assert sorted(path.parent.rglob("*")) == before
    return str(error.value)


def test_a_new_or_empty_directory_will_do_and_nothing_is_written_yet(tmp_path: Path) -> None:
    prepare_run_directory(tmp_path / "a" / "b", CONFIG)
    (tmp_path / "empty").mkdir()
    prepare_run_directory(tmp_path / "empty", CONFIG)
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_the_two_files_say_what_the_run_is(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    start_run_directory(run_dir, CONFIG, {"task_hash": "ab"})
    assert from_yaml((run_dir / "config.yaml").read_text()) == CONFIG
    variant = json.loads((run_dir / "variant.json").read_text())
    assert to_dict(CONFIG).items() <= variant.items()
    assert variant["task_hash"] == "ab" and variant["versions"]["metaslac"]
    assert sorted(path.name for path in run_dir.iterdir()) == ["config.yaml", "variant.json"]


def test_the_same_run_is_there_to_be_gone_on_with(tmp_path: Path) -> None:
    assert not prepare_run_directory(tmp_path / "run", CONFIG)
    start_run_directory(tmp_path / "run", CONFIG, {})
    assert prepare_run_directory(tmp_path / "run", CONFIG)
    changes = ["train.updates=7", "runtime.threads=3", "runtime.device=cpu", "checkpoint.keep=1"]
    assert prepare_run_directory(tmp_path / "run", apply_settings(CONFIG, changes))
    assert saved_config(tmp_path / "run") == CONFIG


def test_one_process_at_a_time(tmp_path: Path) -> None:
    unfinished = tmp_path / "run" / "checkpoints" / ".00000004.tmp-12"
    unfinished.mkdir(parents=True)
    with locked(tmp_path / "run"):
        assert not unfinished.exists()
        with (
            pytest.raises(MetaslacError, match="another process is training there"),
            locked(tmp_path / "run"),
        ):
            pass
    with locked(tmp_path / "run"):
        pass


def test_a_different_run_is_named_by_what_differs(tmp_path: Path) -> None:
    start_run_directory(tmp_path / "run", CONFIG, {})
    other = apply_settings(CONFIG, ["family.name=point_robot", "train.seed=1"])
    message = refusal(tmp_path / "run", other)
    assert "different run: family.name (cheetah_vel, point_robot), train.seed (0, 1)" in message


def test_many_differences_are_counted_not_listed(tmp_path: Path) -> None:
    start_run_directory(tmp_path / "run", CONFIG, {})
    names = [
        "updates",
        "windows",
        "tasks_per_visit",
        "updates_per_visit",
        "tasks_per_update",
        "seed",
        "initial_episodes",
    ]
    other = apply_settings(CONFIG, [f"train.{name}=64" for name in names])
    assert "and 2 more" in refusal(tmp_path / "run", other)


@pytest.mark.parametrize("name", ["progress.csv", "variant.json", "config.yaml"])
def test_a_run_that_cannot_be_read_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(b"\xff")
    assert "config.yaml cannot be read" in refusal(tmp_path / "run")


def test_what_is_not_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    assert "not empty and holds no run" in refusal(tmp_path / "thesis")
    (tmp_path / "file").write_text("")
    assert "is not a directory" in refusal(tmp_path / "file")
    assert "is not a directory" in refusal(tmp_path / "file" / "run")
