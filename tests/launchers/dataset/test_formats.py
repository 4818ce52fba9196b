"""Data sets to Minari's format and to .npz files and back: equal, checked with Minari itself, nothing run."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from click.testing import CliRunner
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from recorded import KINDS, LENGTHS, PIXELS, SIZE, played, write
from reports import refusal, run

from metaslac.launchers.cli import cli
from metaslac.replay.data_set import About, DataSet, open_data_set

POINT_ROBOT = "--family", "point_robot", "--action-repeat", "1"


def convert(source: Path, out: Path, to: str, *more: str) -> None:
    run("dataset", "convert", str(source), str(out), "--to", to, *more)


def assert_same(one: DataSet, other: DataSet) -> None:
    assert (one.about, one.tasks, one.sources) == (other.about, other.tasks, other.sources)
    np.testing.assert_array_equal(one.episodes, other.episodes)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


@pytest.mark.parametrize("about", KINDS.values(), ids=KINDS)
def test_minari_gives_back_what_it_was_given(tmp_path: Path, about: About) -> None:
    write(tmp_path / "data", about)
    convert(tmp_path / "data", tmp_path / "minari", "minari")
    convert(tmp_path / "minari", tmp_path / "again", "metaslac")
    assert_same(open_data_set(tmp_path / "data"), open_data_set(tmp_path / "again"))


@pytest.mark.parametrize("about", KINDS.values(), ids=KINDS)
def test_minari_itself_reads_what_is_written(
    tmp_path: Path, about: About, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = write(tmp_path / "data", about)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "minari/metaslac/point_robot").mkdir(parents=True)
    convert(tmp_path / "data", tmp_path / "minari/metaslac/point_robot/mine-v3", "minari")
    loaded = minari.load_dataset("metaslac/point_robot/mine-v3")
    assert loaded.total_episodes == len(entries)
    assert loaded.total_steps == sum(len(entry.rewards) for _, entry, _ in entries)
    metadata = list(loaded.storage.get_episode_metadata(range(len(entries))))
    for read, told, (task, entry, source) in zip(loaded, metadata, entries, strict=True):
        np.testing.assert_array_equal(read.observations, entry.frames)
        assert read.observations[0] in loaded.observation_space
        np.testing.assert_array_equal(read.actions, entry.actions)
        np.testing.assert_array_equal(read.rewards, entry.rewards)
        np.testing.assert_array_equal(read.infos["dense_reward"][1:], entry.dense_rewards)
        if entry.states is not None:
            np.testing.assert_array_equal(read.infos["state"], entry.states)
        assert read.terminations.tolist() == [False] * (len(read) - 1) + [entry.terminated]
        assert read.truncations[-1] != entry.terminated
        assert (told["task"], told["split"], told["source"], told["seed"]) == (task.index, "train", source, 0)
        assert told["options"] == {"task": task.index}


def others_minari(path: Path, jpeg: bool) -> list[np.ndarray]:
    """A data set of somebody else's, of pictures that a JPEG keeps nearly; their frames."""
    from gymnasium.spaces import Box

    rng = np.random.default_rng(0)
    observed = [np.full((5, SIZE, SIZE, 3), value, dtype=np.uint8) for value in (20, 200)]
    storage = MinariStorage.new(
        path, Box(0, 255, (SIZE, SIZE, 3), np.uint8), Box(-1, 1, (2,)), jpeg_encoding=jpeg
    )
    storage.update_metadata({"dataset_id": "theirs-v0", "minari_version": minari.__version__})
    storage.update_episodes(
        EpisodeBuffer(
            observations=frames,
            actions=rng.uniform(-1, 1, (4, 2)).astype(np.float32),
            rewards=rng.standard_normal(4),
            terminations=np.array([False] * 3 + [True]),
            truncations=np.zeros(4, dtype=bool),
        )
        for frames in observed
    )
    return observed


@pytest.mark.parametrize("jpeg", [False, True])
def test_data_sets_of_others_are_taken_in_with_what_they_do_not_say(tmp_path: Path, jpeg: bool) -> None:
    observed = others_minari(tmp_path / "theirs", jpeg)
    told = (*POINT_ROBOT, "--task", "7", "--policy", "theirs")
    convert(tmp_path / "theirs", tmp_path / "data", "metaslac", *told)
    data = open_data_set(tmp_path / "data")
    assert [task.index for task in data.tasks] == [7] and data.sources == ("theirs",)
    assert data.episodes[:, 2:4].tolist() == [[4, 1], [4, 1]]
    for number, frames in enumerate(observed):
        assert abs(data.episode(number).frames.astype(int) - frames).max() <= 2 * jpeg
    theirs = minari.MinariDataset(str(tmp_path / "theirs"))
    rewards = np.concatenate([episode.rewards for episode in theirs]).astype(np.float32)
    np.testing.assert_array_equal(np.delete(data.arrays["rewards"], [4, 9]), rewards)


def test_without_what_they_do_not_say_they_are_refused(tmp_path: Path) -> None:
    others_minari(tmp_path / "theirs", False)
    arguments = ["dataset", "convert", str(tmp_path / "theirs"), str(tmp_path / "data"), "--to", "metaslac"]
    assert "--family and --action-repeat are needed" in refusal(*arguments)
    assert "does not say of which task it is" in refusal(*arguments, *POINT_ROBOT)
    assert "none of them: --task takes one of 0 to 79" in refusal(*arguments, *POINT_ROBOT, "--task", "80")
    assert not (tmp_path / "data").exists()


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


def test_episode_files_give_back_what_they_were_given(tmp_path: Path) -> None:
    from metaslac import envs
    from metaslac.replay.data_set import RecordedTask
    from metaslac.replay.data_writer import written_data_set

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


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def bomb(path: Path) -> None:
    """A small archive whose image is said to be, or is, far larger than any episode."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (200000, 64, 64, 3), }\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("image.npy", "w") as file:
        file.write(start)
        for _ in range(600):
            file.write(bytes(2**20))


def said_larger(path: Path) -> None:
    """An archive of a few bytes with an array that says it has exabytes."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 64, 64, 3), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def test_hostile_episode_files_are_refused_and_not_run(tmp_path: Path) -> None:
    evil = Evil(tmp_path / "ran")
    objects = np.empty(5, dtype=object)
    objects[:] = [evil] * 5
    pickled = io.BytesIO()
    np.save(pickled, objects, allow_pickle=True)
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
    from metaslac.errors import MetaslacError
    from metaslac.launchers.dataset.episode_files import NAMES, read_arrays

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


def test_what_an_hdf5_file_says_lies_elsewhere_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "data")
    convert(tmp_path / "data", tmp_path / "minari", "minari")
    secret = tmp_path / "secret"
    secret.write_bytes(np.zeros(7, dtype="<f4").tobytes())

    def external(group: Any) -> None:
        group.create_dataset("rewards", (7,), "<f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def linked(group: Any) -> None:
        group["rewards"] = h5py.ExternalLink(
            str(tmp_path / "minari/data/main_data.hdf5"), "episode_1/rewards"
        )

    def absurd(group: Any) -> None:
        group.create_dataset("rewards", (10**13,), "<f4", chunks=(1000,))

    for number, (forge, words) in enumerate(
        ((external, "other files"), (linked, "leads elsewhere"), (absurd, "which no episode has"))
    ):
        path = tmp_path / str(number)
        shutil.copytree(tmp_path / "minari", path)
        with h5py.File(path / "data/main_data.hdf5", "a") as file:
            del file["episode_0/rewards"]
            forge(file["episode_0"])
        line = refusal("dataset", "convert", str(path), str(tmp_path / "again"), "--to", "metaslac")
        assert words in line, line


def test_no_environment_of_a_file_is_made(tmp_path: Path) -> None:
    others_minari(tmp_path / "theirs", False)
    path = tmp_path / "theirs/metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["observation_space"]
    metadata["env_spec"] = json.dumps({"id": "Evil-v0", "entry_point": "os:abort"})
    path.write_text(json.dumps(metadata))
    arguments = ["dataset", "convert", str(path.parent), str(tmp_path / "data"), "--to", "metaslac"]
    assert "its observations cannot be read" in refusal(*arguments, *POINT_ROBOT, "--task", "0")


def test_damaged_minari_files_are_refused_in_a_line(tmp_path: Path) -> None:
    write(tmp_path / "data")
    convert(tmp_path / "data", tmp_path / "minari", "minari")
    whole = open_data_set(tmp_path / "data")
    rng = np.random.default_rng(0)
    files = [tmp_path / "minari/data" / name for name in ("metadata.json", "main_data.hdf5")]
    for number in range(30):
        file = files[number % 3 > 0]
        before = file.read_bytes()
        data = bytearray(before)
        if number % 2:
            data[int(rng.integers(min(len(data), 20_000)))] ^= 255
        else:
            del data[int(rng.integers(len(data))) :]
        file.write_bytes(data)
        out = tmp_path / f"out{number}"
        result = CliRunner().invoke(
            cli, ["dataset", "convert", str(tmp_path / "minari"), str(out), "--to", "metaslac"]
        )
        if result.exit_code:
            assert result.exit_code == 2 and not out.exists(), result.output
            assert len(result.stderr.splitlines()) == 1
        else:  # its format has no checksums: what is read is at least a data set of the same shapes
            assert open_data_set(out).about == whole.about
        file.write_bytes(before)


def test_directions_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for source, to, words in (
        ("data", "metaslac", "already"),
        ("empty", "minari", "must become one of metaslac's first"),
        ("empty", "metaslac", "has no .npz files"),
        ("nothing", "npz", "is not a directory"),
    ):
        arguments = ["dataset", "convert", str(tmp_path / source), str(tmp_path / "out"), "--to", to]
        assert words in refusal(*arguments)
    assert "is there already" in refusal(
        "dataset", "convert", str(tmp_path / "data"), str(tmp_path / "empty"), "--to", "npz"
    )


def test_zlib_streams_that_end_early_are_refused(tmp_path: Path) -> None:
    file = episode_file(tmp_path / "files/a.npz")
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("image.npy").header_offset
    data = bytearray(file.read_bytes())
    data[start + 80 : start + 200] = zlib.compress(b"something else")[:120].ljust(120, b"\0")
    file.write_bytes(data)
    line = refusal("dataset", "convert", str(file.parent), str(tmp_path / "data"), *WALKER)
    assert "not readable as an episode" in line
