"""Episodes of Dreamer, LOMPO and V-D4RL in .npz files: taken in and written, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.recorded import LENGTHS, PIXELS, SIZE, assert_same, played
from reports import refusal, run

from metaslac import envs
from metaslac.errors import MetaslacError
from metaslac.launchers.dataset import episode_files
from metaslac.launchers.dataset.episode_files import NAMES, read_arrays
from metaslac.replay.data_set import RecordedTask, open_data_set
from metaslac.replay.data_writer import written_data_set

POINT_ROBOT = "--family", "point_robot", "--action-repeat", "1"


def convert(source: Path, out: Path, to: str, *more: str) -> None:
    run("dataset", "convert", str(source), str(out), "--to", to, *more)


def episode_file(path: Path, **arrays: Any) -> Path:
    """An episode of dm_control's as Dreamer and V-D4RL have them: five rows, the first of them the reset."""
    rng = np.random.default_rng(0)
    whole = {
        "image": rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8),
        "action": np.concatenate([np.zeros((1, 6)), rng.uniform(-1, 1, (4, 6))]).astype(np.float32),
        "reward": np.array([0, 1, 2, 3, 4], dtype=np.float32),
        "discount": np.array([1, 1, 1, 1, 0], dtype=np.float32),
        **arrays,
    }
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **{name: array for name, array in whole.items() if array is not None})
    return path


WALKER = "--to", "metaslac", "--family", "dmc:walker-walk", "--action-repeat", "2"


def test_rows_of_episode_files_are_shifted_by_one(tmp_path: Path) -> None:
    file = episode_file(tmp_path / "medium/20210101T000000-abc-5.npz")
    run("dataset", "convert", str(file.parent), str(tmp_path / "data"), *WALKER)
    data, theirs = open_data_set(tmp_path / "data"), np.load(file)
    assert data.sources == ("medium",) and data.about.action_repeat == 2 and data.about.image_size == 64
    read = data.episode(0)
    np.testing.assert_array_equal(read.frames, theirs["image"])
    assert read.rewards.tolist() == [1, 2, 3, 4] and read.terminated
    np.testing.assert_array_equal(read.actions, theirs["action"][1:])


@pytest.mark.parametrize(
    ("arrays", "terminated"),
    [
        ({"discount": np.ones(5, dtype=np.float32)}, False),
        ({"discount": None}, False),
        ({"discount": None, "is_terminal": np.array([False] * 4 + [True])}, True),
        ({"discount": None, "is_terminal": np.zeros(5, dtype=bool)}, False),
    ],
)
def test_the_end_of_a_task_is_told_in_either_way(
    tmp_path: Path, arrays: dict[str, Any], terminated: bool
) -> None:
    episode_file(tmp_path / "files/a.npz", **arrays)
    run("dataset", "convert", str(tmp_path / "files"), str(tmp_path / "data"), *WALKER)
    assert open_data_set(tmp_path / "data").episode(0).terminated == terminated


def test_episode_files_give_back_what_they_were_given(tmp_path: Path) -> None:

    family = envs.make_family("point_robot", image_size=SIZE)
    about = replace(
        PIXELS, task_hash=family.task_hash, param_names=family.param_names, episode_steps=family.episode_steps
    )
    with written_data_set(tmp_path / "data", about) as writer:
        for task, entry, _ in sorted(played(PIXELS), key=lambda entry: entry[0].index):
            params = tuple(family.task(task.index).params)
            entry = entry._replace(dense_rewards=entry.rewards)
            writer.add(RecordedTask(task.index, params), entry, "npz")
    convert(tmp_path / "data", tmp_path / "npz", "npz")
    files = sorted(path.relative_to(tmp_path / "npz") for path in tmp_path.glob("npz/*/*.npz"))
    assert [str(path.parent) for path in files[:3]] == ["task-00003"] * 3
    assert len(files) == sum(map(len, LENGTHS.values()))
    first = np.load(tmp_path / "npz" / files[0])
    assert first["reward"][0] == 0 and not first["action"][0].any() and len(first["image"]) == 8
    convert(tmp_path / "npz", tmp_path / "again", "metaslac", *POINT_ROBOT)
    assert_same(open_data_set(tmp_path / "data"), open_data_set(tmp_path / "again"))


def test_a_directory_that_happens_to_be_called_as_those_of_tasks_says_nothing(tmp_path: Path) -> None:
    episode_file(tmp_path / "task-7/a.npz")
    convert(tmp_path / "task-7", tmp_path / "data", *WALKER[1:])
    data = open_data_set(tmp_path / "data")
    assert [task.index for task in data.tasks] == [0] and data.sources == ("task-7",)


def test_a_task_that_is_not_its_directorys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    still = np.zeros((5, 2), dtype=np.float32)
    episode_file(tmp_path / "files/task-3/a.npz", action=still)
    arguments = ["dataset", "convert", str(tmp_path / "files"), str(tmp_path / "data"), "--to", "metaslac"]
    assert "is of task 3, as its directory says" in refusal(*arguments, *POINT_ROBOT, "--task", "4")
    run(*arguments, *POINT_ROBOT, "--task", "3")
    assert [task.index for task in open_data_set(tmp_path / "data").tasks] == [3]


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def bomb(path: Path) -> None:
    """A small archive whose image is larger than any episode."""
    np.savez_compressed(path, image=np.zeros((300, 64, 64, 3), dtype=np.uint8))


def said_larger(path: Path) -> None:
    """An archive of a few bytes with an array that says it has exabytes."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 64, 64, 3), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def test_hostile_episode_files_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode_files, "MOST_BYTES", 2**20)
    evil = Evil(tmp_path / "ran")
    objects = np.empty(5, dtype=object)
    objects[:] = [evil] * 5
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.npz").write_bytes(pickle.dumps(evil))
    episode_file(tmp_path / "object/a.npz", image=objects)
    episode_file(tmp_path / "reward/a.npz", reward=objects)
    for name, make in (("bomb", bomb), ("said", said_larger)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "a.npz")
    for folder, words in {
        "raw": "not a zip file",
        "object": "not plain numbers",
        "reward": "not plain numbers",
        "bomb": "which no episode has",
        "said": "not as long as it says",
    }.items():
        line = refusal("dataset", "convert", str(tmp_path / folder), str(tmp_path / "data"), *WALKER)
        assert words in line, line
    assert not evil.path.exists() and not (tmp_path / "data").exists()
    assert not list(tmp_path.glob(".data*"))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"reward": None}, "reward.npy"),
        ({"reward": np.zeros(4, dtype=np.float32)}, "a row for each image"),
        ({"action": np.zeros(5, dtype=np.float32)}, "a row for each image"),
        ({"discount": np.float32(0)}, "its ends are ()"),
        ({"action": np.zeros((5, 2), dtype=np.float32)}, "actions are (4, 2), not (4, 6)"),
        ({"action": np.full((5, 6), 3, dtype=np.float32)}, "outside [-1, 1]"),
        ({"action": np.full((5, 6), np.nan, dtype=np.float32)}, "outside [-1, 1]"),
        ({"reward": np.full(5, np.inf, dtype=np.float32)}, "not all finite"),
        ({"reward": np.full(5, 1e300)}, "not all finite"),
        ({"image": np.zeros((5, 64, 32, 3), dtype=np.uint8)}, "not square"),
        ({"image": np.zeros((5, 50, 50, 3), dtype=np.uint8)}, "image_size must be one of"),
        ({"image": np.zeros((5, 64, 64, 3))}, "observations are float64"),
        ({"image": np.zeros((5, 64, 64, 3), dtype=np.uint16)}, "of uint16"),
    ],
)
def test_episode_files_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    episode_file(tmp_path / "files/a.npz", **arrays)
    line = refusal("dataset", "convert", str(tmp_path / "files"), str(tmp_path / "data"), *WALKER)
    assert words in line, line


def test_damaged_archives_are_refused_or_read_as_the_same(tmp_path: Path) -> None:

    whole = episode_file(tmp_path / "a.npz", image=np.zeros((5, 64, 64, 3), dtype=np.uint8))
    before, rng, refused = read_arrays(whole, NAMES), np.random.default_rng(0), 0
    for _ in range(100):
        data = bytearray(whole.read_bytes())
        place = int(rng.integers(len(data)))
        data[place] ^= 1 << int(rng.integers(8))
        damaged = tmp_path / "b.npz"
        damaged.write_bytes(data[: place + 1] if rng.random() < 0.2 else data)
        try:
            after = read_arrays(damaged, NAMES)
        except MetaslacError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            for name, array in before.items():
                np.testing.assert_array_equal(after[name], array)
    assert refused > 50


def test_zlib_streams_that_end_early_are_refused(tmp_path: Path) -> None:
    file = episode_file(tmp_path / "files/a.npz")
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("image.npy").header_offset
    data = bytearray(file.read_bytes())
    data[start + 80 : start + 200] = zlib.compress(b"something else")[:120].ljust(120, b"\0")
    file.write_bytes(data)
    line = refusal("dataset", "convert", str(file.parent), str(tmp_path / "data"), *WALKER)
    assert "not readable as an episode" in line
