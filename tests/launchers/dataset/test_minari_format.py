"""Data sets to Minari's format and back: equal, checked with Minari itself, and nothing of a file is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.recorded import KINDS, PIXELS, SIZE, assert_same, played, write
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from reports import refusal, run

from metaslac.launchers.cli import cli
from metaslac.replay.data_set import About, open_data_set
from metaslac.replay.data_writer import written_data_set

POINT_ROBOT = "--family", "point_robot", "--action-repeat", "1"


def convert(source: Path, out: Path, to: str, *more: str) -> None:
    run("dataset", "convert", str(source), str(out), "--to", to, *more)


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


@pytest.mark.parametrize("to", ["metaslac", "minari", "npz"])
def test_what_it_says_itself_cannot_be_told_otherwise(tmp_path: Path, to: str) -> None:
    """Neither of Minari's, once ours, nor of ours."""
    write(tmp_path / "data")
    source = tmp_path / "data"
    if to == "metaslac":
        source = tmp_path / "minari"
        convert(tmp_path / "data", source, "minari")
    arguments = ["dataset", "convert", str(source), str(tmp_path / "out"), "--to", to]
    for option, value, said in (
        ("--family", "cheetah_vel", "point_robot"),
        ("--action-repeat", "2", "1"),
        ("--split", "test", "train"),
        ("--task", "5", "3, 5, 8"),
        ("--policy", "me", "random, update 7"),
    ):
        line = f"metaslac: {option} {value}: {source} says itself that it is of {said}"
        assert refusal(*arguments, option, value) == line
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", to, *POINT_ROBOT, "--split", "train")
    assert (tmp_path / "out").is_dir()


def test_one_task_and_one_source_may_be_told_as_they_are(tmp_path: Path) -> None:
    with written_data_set(tmp_path / "data", PIXELS) as writer:
        for task, entry, _ in played(PIXELS):
            if task.index == 5:
                writer.add(task, entry, "random")
    convert(tmp_path / "data", tmp_path / "minari", "minari", "--task", "5", "--policy", "random")
    convert(tmp_path / "minari", tmp_path / "again", "metaslac", "--task", "5", "--policy", "random")
    assert_same(open_data_set(tmp_path / "data"), open_data_set(tmp_path / "again"))


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
