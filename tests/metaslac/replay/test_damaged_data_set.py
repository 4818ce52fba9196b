"""Data sets that are damaged or forged: refused in a line, and nothing in them is ever run."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.recorded import WITH_STATES, write

from metaslac.errors import MetaslacError
from metaslac.replay.data_set import DATA_FILE, DATA_SET, DataSet, open_data_set
from metaslac.storage.manifest import read_sealed, sealed, sha256_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("sets") / "data"
    write(path, WITH_STATES)
    return open_data_set(path)


def refusal(path: Path) -> str:
    with pytest.raises(MetaslacError) as caught:
        open_data_set(path)
    (line,) = str(caught.value).splitlines()
    assert str(path) in line
    return line


def harm(path: Path, chance: random.Random) -> None:
    """One damage to one file of a data set."""
    files = sorted(path.iterdir())
    file = chance.choice(files)
    data = bytearray(file.read_bytes())
    kind = chance.choice(["flip", "cut", "grow", "swap", "remove", "zeros", "edit"])
    if kind == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[chance.randrange(len(data)) :]
    elif kind == "grow":
        data += chance.randbytes(chance.randint(1, 9))
    elif kind == "zeros":
        start = chance.randrange(len(data))
        data[start : start + 64] = bytes(64)
    elif kind == "edit":
        file = path / DATA_FILE
        values = json.loads(file.read_bytes())
        values[chance.choice(sorted(values))] = chance.choice([None, -1, [], {}, "x", 2**70, 0.5, [[]]])
        data = bytearray(json.dumps(values, indent=2, sort_keys=True).encode() + b"\n")
    if kind == "swap":
        other = chance.choice([name for name in files if name != file])
        os.rename(file, path / "between")
        os.rename(other, file)
        os.rename(path / "between", other)
    elif kind == "remove":
        file.unlink()
    else:
        file.write_bytes(data)


def test_a_hundred_random_damages_are_refused_or_change_nothing(whole: DataSet, tmp_path: Path) -> None:
    refused = 0
    for seed in range(100):
        path = tmp_path / str(seed)
        shutil.copytree(whole.path, path)
        harm(path, random.Random(seed))
        try:
            found = open_data_set(path)
        except MetaslacError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert found.about == whole.about and found.tasks == whole.tasks
            for name, array in whole.arrays.items():
                np.testing.assert_array_equal(found.arrays[name], array)
        shutil.rmtree(path)
    assert refused > 90


def forge(whole: DataSet, path: Path, **arrays: Any) -> Path:
    """A copy with other arrays, or bytes in place of one, and a manifest that vouches for them."""
    shutil.copytree(whole.path, path)
    for name, content in arrays.items():
        file = path / f"{name}.npy"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content)
    return reseal(path)


def reseal(path: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> Path:
    manifest = read_sealed(path / DATA_FILE, DATA_SET)
    change(manifest)
    del manifest["manifest_sha256"]
    files = {}
    for name in manifest.pop("files"):
        data = (path / name).read_bytes() if (path / name).is_file() else b""
        files[name] = sha256_of(data), len(data)
    (path / DATA_FILE).write_bytes(sealed(manifest, files, DATA_SET))
    return path


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickled_object_is_refused_and_not_run(whole: DataSet, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "ran")
    objects = np.empty(len(whole.arrays["rewards"]), dtype=object)
    objects[:] = [evil] * len(objects)
    assert "Python objects" in refusal(forge(whole, tmp_path / "array", rewards=objects))
    assert "damaged" in refusal(forge(whole, tmp_path / "plain", rewards=pickle.dumps(evil)))
    assert not evil.path.exists()


def test_arrays_that_do_not_fit_each_other_are_refused(whole: DataSet, tmp_path: Path) -> None:
    rewards, actions = np.array(whole.arrays["rewards"]), np.array(whole.arrays["actions"])
    broken = rewards.copy()
    broken[3] = np.inf
    forged: dict[str, dict[str, Any]] = {
        "rewards is": {"rewards": rewards[:-1]},
        "of float64": {"rewards": rewards.astype(np.float64)},
        "not finite": {"dense_rewards": broken},
        "outside": {"actions": actions * 0 + 1.5},
        "actions is": {"actions": actions[:, :1]},
        "states is": {"states": np.array(whole.arrays["states"])[:, None]},
        "frames is": {"frames": np.asfortranarray(whole.arrays["frames"])},
        "not readable as an array": {"frames": b"\x93NUMPY\x01\x00"},
    }
    for number, (words, arrays) in enumerate(forged.items()):
        assert words in refusal(forge(whole, tmp_path / str(number), **arrays))
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000000000, 32, 32, 3), }\n"
    absurd = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    assert "damaged" in refusal(forge(whole, tmp_path / "absurd", frames=absurd))


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (0, 0, 99, "not of the tasks"),
        (1, 1, 0, "does not begin"),
        (2, 2, 0, "1 to 7 steps"),
        (2, 2, 8, "1 to 7 steps"),
        (2, 2, 2**63 - 1, "1 to 7 steps"),
        (5, 2, 2, "rewards is|frames is|states is|actions is"),
        (1, 3, 2, "an end or a source"),
        (1, 4, -1, "an end or a source"),
        (1, 4, 2, "an end or a source"),
    ],
)
def test_a_table_that_cannot_be_is_refused(
    whole: DataSet, tmp_path: Path, row: int, column: int, value: int, words: str
) -> None:
    table = whole.episodes.copy()
    table[row, column] = value
    line = refusal(forge(whole, tmp_path / "data", episodes=table))
    assert any(word in line for word in words.split("|")), line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("action_size", 0),
        ("action_size", True),
        ("action_size", 1.0),
        ("image_size", 31),
        ("frames", 4),
        ("split", "all"),
        ("split", ["train"]),
        ("observation", "sound"),
        ("episode_steps", 10**30),
        ("seed", -1),
        ("family", 7),
        ("family", "two\nlines"),
        ("param_names", "xy"),
        ("param_names", ["x"]),
        ("tasks", []),
        ("tasks", [3]),
        ("tasks", [{"index": "3", "params": [0, 0]}]),
        ("tasks", [{"index": 3, "params": [0, "nan"]}]),
        ("tasks", [{"index": 3, "params": [0, 0]}] * 2),
        ("tasks", [{"index": 3, "params": [0, float("nan")]}]),
        ("sources", [1, 2]),
        ("sources", {"random": 1}),
        ("state_size", 2**20),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(
    whole: DataSet, tmp_path: Path, name: str, value: object
) -> None:
    shutil.copytree(whole.path, tmp_path / "data")
    reseal(tmp_path / "data", lambda manifest: manifest.update({name: value}))
    assert "damaged" in refusal(tmp_path / "data")


@pytest.mark.parametrize("name", ["../data/rewards.npy", "/etc/hostname", "a/b/c.npy", "other.npy"])
def test_files_elsewhere_are_never_looked_at(whole: DataSet, tmp_path: Path, name: str) -> None:
    shutil.copytree(whole.path, tmp_path / "data")

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"].pop("rewards.npy")

    reseal(tmp_path / "data", change)
    assert "damaged" in refusal(tmp_path / "data")


def test_other_versions_and_other_directories_are_refused(whole: DataSet, tmp_path: Path) -> None:
    assert "no data.json" in refusal(tmp_path)
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} does not exist"
    assert "is not a data set: it has no data.json" in refusal(tmp_path)
    shutil.copytree(whole.path, tmp_path / "data")
    manifest = read_sealed(tmp_path / "data" / DATA_FILE, DATA_SET)
    files = {name: (entry["sha256"], entry["size"]) for name, entry in manifest.pop("files").items()}
    del manifest["manifest_sha256"]
    later = sealed(manifest, files, DATA_SET._replace(version=DATA_SET.version + 1))
    (tmp_path / "data" / DATA_FILE).write_bytes(later)
    assert f"format version {DATA_SET.version + 1}; this metaslac reads" in refusal(tmp_path / "data")
    (tmp_path / "data" / DATA_FILE).write_bytes(sealed(manifest, files))
    assert "not the manifest of a metaslac data set" in refusal(tmp_path / "data")
