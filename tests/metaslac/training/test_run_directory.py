"""Run directories: a run never lands on another run or on anything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from metaslac.config.offline import ALGORITHMS, SIZES, resolve_offline
from metaslac.config.sections import Config
from metaslac.config.text import apply_settings, from_yaml, to_dict, to_yaml
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.storage.checkpoint import load_checkpoint, save_checkpoint
from metaslac.training.run_directory import (
    cleared_if_refused,
    last_checkpoint,
    locked,
    not_there,
    other_checkpoints,
    prepare_run_directory,
    saved_config,
    start_run_directory,
)

CONFIG = Config()
FACTS = {
    "family": "cheetah_vel",
    "task_hash": "ab",
    "train_tasks": 100,
    "test_tasks": 30,
    "param_names": ["velocity"],
    "action_size": 6,
    "env_steps": 0,
}


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
    assert (variant["algorithm"], variant["seed"]) == ("metaslac-infer", CONFIG.train.seed)
    assert variant["task_hash"] == "ab" and variant["versions"]["metaslac"]
    assert sorted(path.name for path in run_dir.iterdir()) == ["config.yaml", "variant.json"]


def test_what_learns_from_data_is_of_another_algorithm_for_who_groups_by_that(tmp_path: Path) -> None:
    recorded = {"family.name": "point_robot", "family.observation": "pixels", "runtime.data_set": "data"}
    recorded |= {"family.image_size": 64, "family.frames": 1, "family.action_repeat": 1}
    for preset in SIZES:
        for algorithm in ALGORITHMS:
            run_dir = tmp_path / preset / algorithm
            start_run_directory(run_dir, resolve_offline(algorithm, preset, recorded, {}), {})
            variant = json.loads((run_dir / "variant.json").read_text())
            assert variant["algorithm"] == f"metaslac-{algorithm}-infer"


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
    said = "is not the configuration of a run" if name == "config.yaml" else "it has no config.yaml"
    assert said in refusal(tmp_path / "run")


def test_what_is_not_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    assert "not empty and holds no run" in refusal(tmp_path / "thesis")
    (tmp_path / "file").write_text("")
    assert "is not a directory" in refusal(tmp_path / "file")
    assert "is not a directory" in refusal(tmp_path / "file" / "run")


def a_run(path: Path, updates: list[int]) -> Path:
    """A run with checkpoints, the last of these updates being its newest."""
    start_run_directory(path, CONFIG, {})
    for number, update in enumerate(updates):
        where = path / "checkpoints" / f"{update:08d}"
        save_checkpoint(where, {}, CONFIG, {**FACTS, "update": update})
        os.utime(where / "manifest.json", (1e9 + number, 1e9 + number))
    return path


def test_a_checkpoint_is_no_run_directory(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a run", [3, 6])
    for path in (run / "checkpoints" / "last", run / "checkpoints" / "00000003"):
        message = refusal(path)
        assert "is a checkpoint, not a run directory" in message
        assert f"metaslac meta-train --resume '{run}'" in message
        with pytest.raises(MetaslacError, match="not a run directory"):
            saved_config(path)
    shutil.move(run / "checkpoints" / "00000003", tmp_path / "alone")
    assert refusal(tmp_path / "alone").endswith("is a checkpoint, not a run directory")


@pytest.mark.parametrize("lost", ["gone", "dangling", "followed", "followed and alone"])
def test_the_link_to_the_last_checkpoint_is_mended(tmp_path: Path, lost: str) -> None:
    run = a_run(tmp_path / "run", [3, 9, 6])
    last, newest = run / "checkpoints" / "last", run / "checkpoints" / "00000006"
    last.unlink()
    if lost == "dangling":
        last.symlink_to("00000012")
    if lost.startswith("followed"):
        shutil.copytree(newest, last)
    if lost == "followed and alone":
        shutil.rmtree(newest)
    with locked(run):
        found = last_checkpoint(run)
    assert found is not None and found.resolve() == newest
    assert os.readlink(last) == "00000006"
    save_checkpoint(run / "checkpoints" / "00000012", {}, CONFIG, {**FACTS, "update": 12})
    assert os.readlink(last) == "00000012"


def test_a_run_that_lost_its_checkpoints_does_not_start_over(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", [3])
    (run / "progress.csv").write_text("")
    shutil.rmtree(run / "checkpoints")
    with locked(run):
        assert last_checkpoint(run) is None
    (run / "progress.csv").write_text("update\n3\n")
    with locked(run), pytest.raises(MetaslacError, match="has rows in progress.csv but no checkpoint"):
        last_checkpoint(run)


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / ".config.yaml.tmp-12").touch()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / ".snapshot").mkdir()
    (run / "config.yaml").write_text(to_yaml(CONFIG))
    assert prepare_run_directory(run, CONFIG)
    with locked(run):
        assert sorted(path.name for path in run.iterdir()) == [".lock", "checkpoints", "config.yaml"]
        assert (run / "checkpoints" / ".snapshot").exists()
    for name in ("config.yaml", "checkpoints"):
        shutil.move(run / name, tmp_path / name)
    (run / ".config.yaml.tmp-12").touch()
    assert not prepare_run_directory(run, CONFIG)


def test_other_checkpoints_are_named_with_the_way_to_them(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", [3, 9, 6])
    text = other_checkpoints(run / "checkpoints" / "00000006")
    assert "others are 00000003, 00000009" in text
    subprocess.run(text.rpartition(", ")[2], shell=True, check=True)
    assert load_checkpoint(run).manifest["update"] == 9


@pytest.mark.parametrize(
    ("change", "different"),
    [
        ("actor_critic.gamma=0.5", "actor_critic.gamma (0.5, 0.99)"),
        ("model.z1_size=7", "model.z1_size (7, 32)"),
        ("family.name=point_robot", "family.name (point_robot, cheetah_vel)"),
    ],
)
def test_a_config_that_is_not_the_last_checkpoints_is_refused(
    tmp_path: Path, change: str, different: str
) -> None:
    run = a_run(tmp_path / "a run", [3, 6])
    changed = apply_settings(CONFIG, [change])
    (run / "config.yaml").write_text(to_yaml(changed))
    for asked in (CONFIG, changed):  # whether or not it is what the command says
        message = refusal(run, asked)
        assert f"config.yaml was changed: {different} (there, in 00000006, the last checkpoint)" in message
    with pytest.raises(MetaslacError, match="was changed"):
        saved_config(run)
    subprocess.run(message.rpartition(": ")[2], shell=True, check=True)
    assert saved_config(run) == CONFIG and prepare_run_directory(run, CONFIG)


def test_what_may_change_is_as_it_was_last_asked_for(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", [3])
    later = apply_settings(CONFIG, ["train.updates=7", "runtime.threads=3", "checkpoint.keep=1"])
    start_run_directory(run, later, {})  # gone on with, and killed before the next checkpoint
    assert saved_config(run) == later


@pytest.mark.parametrize("lost", [None, b"\xff", b"train: [", b"{}"])
def test_a_config_that_is_lost_is_in_the_last_checkpoint(tmp_path: Path, lost: bytes | None) -> None:
    run = a_run(tmp_path / "run", [3, 6])
    (run / "variant.json").write_text("")
    (run / "config.yaml").unlink()
    if lost is not None:
        (run / "config.yaml").write_bytes(lost)
    subprocess.run(refusal(run).rpartition(": ")[2], shell=True, check=True)
    assert saved_config(run) == CONFIG


def test_a_damaged_config_in_the_last_checkpoint_is_not_taken(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", [3, 6])
    path = run / "checkpoints" / "00000006" / "config.yaml"
    path.write_text(to_yaml(apply_settings(CONFIG, ["train.seed=1"])))
    assert f"{path} is damaged" in refusal(run) and "others are 00000003" in refusal(run)


@pytest.mark.parametrize("there", ["", "runs", "runs/one"])
def test_a_new_run_that_is_refused_leaves_what_was_there_before(tmp_path: Path, there: str) -> None:
    run_dir = tmp_path / "runs" / "one"
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))

    def begin(error: Exception) -> None:
        made = not_there(run_dir)
        with locked(run_dir), cleared_if_refused(run_dir, made):
            start_run_directory(run_dir, CONFIG, {})
            (run_dir / "wandb").mkdir()
            (run_dir / "wandb" / "debug.log").write_text("refused")
            (run_dir / "link").symlink_to(tmp_path)
            raise error

    with pytest.raises(MetaslacError, match="nobody is there"):
        begin(MetaslacError("nobody is there"))
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(TrainingFault):
        begin(TrainingFault("the disk is full"))
    assert (run_dir / "config.yaml").exists()


def test_where_there_is_a_checkpoint_nothing_is_deleted(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    refused = pytest.raises(MetaslacError, match="whatever it is")
    with refused, locked(run_dir), cleared_if_refused(run_dir, [run_dir]):
        start_run_directory(run_dir, CONFIG, {})
        save_checkpoint(run_dir / "checkpoints" / "00000001", {}, CONFIG, {**FACTS, "update": 1})
        raise MetaslacError("whatever it is")
    assert last_checkpoint(run_dir) is not None
    assert (run_dir / "config.yaml").exists()
