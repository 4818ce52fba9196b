"""Stopping anywhere and going on is the same as never having stopped; faults leave the last checkpoint."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, meta_train, tiny_config
from runs import assert_equal, at, rows, train, train_counted

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.learning.generators import restore_generator
from metaslac.learning.learner import Learner
from metaslac.storage import checkpoint as checkpoint_module
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training import collection, saving


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An uninterrupted run, and how often it could have been stopped."""
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, train_counted(run_dir)


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999])
def test_one_stop_changes_nothing(whole: tuple[Path, int], tmp_path: Path, moment: float) -> None:
    run_dir, asked = whole
    assert not train(tmp_path, at(int(moment * asked)))
    assert train(tmp_path)
    assert_equal(run_dir, tmp_path)


@pytest.mark.slow
def test_a_stop_anywhere_changes_nothing(whole: tuple[Path, int], tmp_path: Path) -> None:
    run_dir, asked = whole
    for moment in range(asked):
        assert not train(tmp_path / str(moment), at(moment))
        assert train(tmp_path / str(moment))
        assert_equal(run_dir, tmp_path / str(moment))


def test_many_stops_change_nothing(whole: tuple[Path, int], tmp_path: Path) -> None:
    stops = 0
    # Of an evaluation that is stopped nothing is kept: now and then it needs a longer stretch.
    while not train(tmp_path, at(1 if stops % 2 else 8)):
        stops += 1
    assert stops > 4
    assert_equal(whole[0], tmp_path)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    config = tiny_config()
    config = replace(config, checkpoint=replace(config.checkpoint, every=1, keep=2))
    assert train(tmp_path, config=config)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["00000005", "00000006", "last"]


def test_replay_that_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    config = tiny_config()
    config = replace(config, checkpoint=replace(config.checkpoint, every=1, keep=9))
    train(tmp_path, config=config)

    def linked(update: int) -> list[bool]:
        """Whether the replay's files after an update are those of the update before."""
        before, after = (load_checkpoint(tmp_path / f"checkpoints/{u:08d}") for u in (update - 1, update))
        names = [name for name in after.manifest["files"] if name.startswith("replay/")]
        files = [(before.path / name, after.path / name) for name in names]
        return [old.exists() and os.path.samefile(old, new) for old, new in files]

    assert all(linked(4))
    visited = linked(5)  # two of the four tasks
    assert len(visited) - sum(visited) == 2 <= sum(visited)


def test_a_longer_run_goes_on_from_a_finished_one(whole: tuple[Path, int], tmp_path: Path) -> None:
    config = tiny_config()
    shorter = replace(config, train=replace(config.train, updates=4, lr_decay=0.0))
    longer = replace(config, train=replace(config.train, updates=6, lr_decay=0.0))
    assert train(tmp_path / "a", config=shorter)
    assert train(tmp_path / "a", config=longer)
    assert train(tmp_path / "b", config=longer)
    first, second = (load_checkpoint(tmp_path / name) for name in "ab")
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_another_task_list_is_refused(
    whole: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = FakeFamily()
    monkeypatch.setattr(family, "task_hash", "another")
    with pytest.raises(MetaslacError, match="was trained on another task list of fake"):
        meta_train(tiny_config(), family, tmp_path, CPU, quiet=True, checkpoint=load_checkpoint(whole[0]))


def test_a_checkpoint_of_other_sizes_does_not_fit(whole: tuple[Path, int], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(whole[0])

    def message(config: Config) -> str:
        with pytest.raises(MetaslacError) as error:
            meta_train(config, FakeFamily(), tmp_path, CPU, quiet=True, checkpoint=checkpoint)
        assert "\n" not in str(error.value)
        return str(error.value)

    config = tiny_config()
    assert "weights do not fit" in message(replace(config, model=replace(config.model, z2_size=5)))
    smaller = replace(config, replay=replace(config.replay, episodes_per_task=2))
    assert "replay does not fit its table" in message(smaller)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_an_update_that_is_not_finite_stops_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    update, count = Learner.update, 0

    def poisoned(self: Learner, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            batch.windows.r[0, 1, 2] = broken
        return update(self, batch)

    monkeypatch.setattr(Learner, "update", poisoned)
    with pytest.raises(TrainingFault) as error:
        train(tmp_path)
    dump = tmp_path / "fault-00000004.json"
    assert str(dump) in str(error.value)
    assert str(tmp_path / "checkpoints" / "00000003") in str(error.value)
    report = json.loads(dump.read_text())
    assert report["batch"]["windows.r"]["not_finite"] == 1
    assert report["batch"]["windows.a"]["not_finite"] == 0
    assert report["gradients"]
    last = load_checkpoint(tmp_path)
    assert last.manifest["update"] == 3
    assert all(tensor.isfinite().all() for tensor in last.tensors.values())
    monkeypatch.undo()
    assert train(tmp_path)  # and it can be gone on from


def test_no_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(self: Learner, batch: Any) -> Any:
        return torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(Learner, "update", greedy)
    with pytest.raises(TrainingFault, match=r"no memory on cpu: in a new run, lower train.windows \(now 4\)"):
        train(tmp_path)


class FullDisk:
    """Writing of checkpoints fails while `full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.tries = 0
        self._write = checkpoint_module.write_synced
        monkeypatch.setattr(checkpoint_module, "write_synced", self.write)

    def write(self, path: Path, data: bytes) -> None:
        self.tries += self.full
        self._write(path, data[: len(data) // 2] if self.full else data)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_training_goes_on_without_checkpoints_for_a_while(
    whole: tuple[Path, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = FullDisk(monkeypatch)
    monkeypatch.setattr(saving, "SECONDS_BETWEEN_TRIES", 0.0)

    def stop() -> bool:
        disk.full = disk.tries < 2
        return False

    assert train(tmp_path, stop)
    assert_equal(whole[0], tmp_path)
    said = capsys.readouterr().err
    assert "No space left on device" in said and "goes on without for at most 30 minutes" in said


def test_a_disk_that_stays_full_ends_the_run_and_leaves_what_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    config = replace(config, checkpoint=replace(config.checkpoint, grace_minutes=0.0))
    assert not train(tmp_path, at(12), config)
    before = load_checkpoint(tmp_path)
    disk = FullDisk(monkeypatch)
    with pytest.raises(TrainingFault, match=f"No space left on device; the last good .* {before.path}"):
        train(tmp_path, config=config)
    assert disk.tries
    after = load_checkpoint(tmp_path)
    assert after.manifest == before.manifest
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_rows_wait_for_a_disk_that_is_full(
    whole: tuple[Path, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, calls = os.pwrite, 0

    def now_and_then(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls in (2, 4, 5):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2 + 1], offset)

    monkeypatch.setattr(os, "pwrite", now_and_then)
    assert train(tmp_path)
    assert rows(tmp_path) == rows(whole[0])
    assert calls > 6
    assert "rows are kept until it can be" in capsys.readouterr().err


def test_one_failure_to_save_is_within_any_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    monkeypatch.setattr(saving, "SECONDS_BETWEEN_TRIES", 0.0)
    config = tiny_config()
    config = replace(config, checkpoint=replace(config.checkpoint, grace_minutes=1e-3))
    began = time.monotonic()

    def stop() -> bool:
        # Long after the start, but once: the time counts from the first failure.
        disk.full = disk.tries < 1
        while disk.tries < 1 and time.monotonic() < began + 0.1:
            time.sleep(0.01)
        return False

    assert train(tmp_path, stop, config)


def test_a_stop_in_a_resumed_collection_is_saved(tmp_path: Path) -> None:
    stored = []
    for _ in range(3):
        assert not train(tmp_path, at(0))
        stored.append(load_checkpoint(tmp_path).manifest["replay_steps"])
    assert stored[0] < stored[1] < stored[2]


def test_a_screen_that_is_gone_stops_nothing(
    whole: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(OSError), open("/dev/full", "w") as full:  # closing it fails, too
        monkeypatch.setattr(sys, "stderr", full)
        meta_train(tiny_config(), FakeFamily(uneven=True, terminates=True), tmp_path, CPU)
    monkeypatch.undo()
    assert_equal(whole[0], tmp_path)


def test_no_memory_anywhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any, **__: Any) -> Any:
        return torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(collection, "run_trial", greedy)
    with pytest.raises(TrainingFault, match="no memory on cpu"):
        train(tmp_path)


def test_a_task_that_cannot_be_played_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(TrainingFault, match="20 random episodes in a row .*; no checkpoint yet"):
        train(tmp_path, diverges={1: 0})


def test_a_checkpoint_of_another_kind_of_device_is_gone_on_from(whole: tuple[Path, int]) -> None:
    state = load_checkpoint(whole[0]).read_tensors("training.safetensors")["generator"]
    one, other, third = (torch.Generator() for _ in range(3))
    restore_generator(one, state)
    assert torch.equal(one.get_state(), state)
    restore_generator(other, torch.arange(16, dtype=torch.uint8))  # as CUDA's
    restore_generator(third, torch.arange(1, 17, dtype=torch.uint8))
    assert not torch.equal(other.get_state(), third.get_state())
    with pytest.raises(ValueError, match="not the shape of a generator"):
        restore_generator(other, torch.zeros(17, dtype=torch.uint8))


def test_lost_episodes_are_counted_and_not_learned_from(tmp_path: Path) -> None:
    class Flaky(FakeFamily):
        """The worker of the first episodes of a vector environment is lost in their third step."""

        def make_vector_env(self, num_envs: int, threads: int = 0, tolerant: bool = False) -> Any:
            env = super().make_vector_env(num_envs, threads, tolerant)
            step, reset, resets = env.step, env.reset, 0

            def counted(**options: Any) -> Any:
                nonlocal resets
                resets += 1
                return reset(**options)

            def failing(actions: Any) -> Any:
                if resets == 1 and env.t[0] == 2:
                    env.truncated[:] = True
                    info = {"control_steps": np.zeros(num_envs, int), "lost": np.ones(num_envs, bool)}
                    return env.draw(), np.zeros(num_envs), env.terminated, env.truncated.copy(), info
                return step(actions)

            env.step, env.reset = failing, counted
            return env

    meta_train(tiny_config(), Flaky(), tmp_path, CPU, quiet=True)
    last = rows(tmp_path)[-1]
    assert last["lost_episodes"] == "2"  # of the two worlds that collect
    assert load_checkpoint(tmp_path).manifest["lost_episodes"] == 2
    assert last["test/return_1"] == "nan" or rows(tmp_path)[0]["test/return_1"] == "nan"
    assert last["env_steps"] == str(120 + 4)  # the 120 of a run without faults, and two steps of each
