"""Checkpoints that are damaged or mixed up: refused in one line that names what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import files_of, nested, put, refusal, resume

from metaslac.errors import MetaslacError
from metaslac.storage.manifest import CONFIG, MANIFEST, WEIGHTS, damaged_files, missing_files, read_manifest
from metaslac.training.state import NUMBERS, ROWS, TENSORS


def test_a_whole_checkpoint_is_gone_on_from(saved: Path) -> None:
    replay = [name for name in files_of(saved) if name.startswith("replay/")]
    assert len(replay) >= 4
    assert files_of(saved) == sorted([MANIFEST, WEIGHTS, CONFIG, TENSORS, NUMBERS, ROWS, *replay])
    (saved / "replay" / "notes.txt").write_text("not in the manifest, not our business")
    (saved / "more.bin").write_bytes(b"\0")
    assert damaged_files(saved, read_manifest(saved)) == []
    assert resume(saved).progress.updates == 4


# Random damage: a function changes a checkpoint and returns the names of which one must be complained about.


def flip_bit(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, data = a_file(directory, rng)
    at = rng.randrange(len(data))
    put(directory / name, data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    return {name}


def replace_byte(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, data = a_file(directory, rng)
    at = rng.randrange(len(data))
    put(directory / name, data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
    return {name}


def truncate(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, data = a_file(directory, rng)
    put(directory / name, data[: rng.choice([0, 1, len(data) - 1, rng.randrange(len(data))])])
    return {name}


def append(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, data = a_file(directory, rng)
    put(directory / name, data + rng.choice([b"\0", b"\n", rng.randbytes(rng.randrange(1, 5000)), data]))
    return {name}


def overwrite(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, data = a_file(directory, rng)
    put(directory / name, rng.choice([bytes(len(data)), rng.randbytes(len(data))]))
    return {name}


def delete(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, _ = a_file(directory, rng)
    (directory / name).unlink()
    return {name}


def swap(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    one, two = rng.sample(files_of(directory), 2)
    first, second = (directory / one).read_bytes(), (directory / two).read_bytes()
    assert first != second
    put(directory / one, second)
    put(directory / two, first)
    return {one, two}


def go_back(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    names = [
        name
        for name in files_of(directory)
        if (earlier / name).exists() and (earlier / name).read_bytes() != (directory / name).read_bytes()
    ]
    assert {MANIFEST, WEIGHTS, TENSORS, NUMBERS, ROWS} <= set(names)
    name = rng.choice(names)
    put(directory / name, (earlier / name).read_bytes())
    return set(files_of(earlier)) if name == MANIFEST else {name}  # an earlier manifest fits no other file


def make_directory(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, _ = a_file(directory, rng)
    (directory / name).unlink()
    (directory / name).mkdir()
    return {name}


def make_link_to_nothing(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, _ = a_file(directory, rng)
    (directory / name).unlink()
    (directory / name).symlink_to(rng.choice(["nothing", Path(name).name, "/proc/self/nothing"]))
    return {name}


def make_device(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, _ = a_file(directory, rng)
    (directory / name).unlink()
    if rng.randrange(2):
        os.mkfifo(directory / name)
    else:
        (directory / name).symlink_to("/dev/zero")
    return {name}


def add_hole(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name, data = a_file(directory, rng)
    put(directory / name, data)
    os.truncate(directory / name, 2**40)  # more than there is memory
    return {name}


def lose_folder(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    names = {name for name in files_of(directory) if name.startswith("replay/")}
    shutil.rmtree(directory / "replay")
    if rng.randrange(2):
        (directory / "replay").write_bytes(b"")
    return names


def edit_manifest(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    manifest = json.loads((directory / MANIFEST).read_bytes())
    name = rng.choice(sorted(manifest["files"]))
    edit = rng.randrange(5)
    if edit == 0:
        manifest["more"] = rng.random()
    elif edit == 1:
        manifest["files"]["more"] = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    elif edit == 2:
        del manifest["files"][name]
    elif edit == 3:
        manifest["files"][name]["size"] += 1
    else:
        del manifest[rng.choice(sorted(manifest))]
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return {MANIFEST}


def empty_manifest(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    put(directory / MANIFEST, rng.choice([b"", b"{}\n", b"null", b"\0"]))
    return {MANIFEST}


def nest(directory: Path, earlier: Path, rng: random.Random) -> set[str]:
    name = rng.choice([MANIFEST, NUMBERS])
    data = nested(rng.choice([100, 900, 990, 100_000]), rng.randrange(2))
    if name == MANIFEST and rng.randrange(2):
        manifest = json.loads((directory / MANIFEST).read_bytes())
        data = json.dumps({**manifest, "more": 0}).encode().replace(b'"more": 0', b'"more": ' + data)
    put(directory / name, data)
    return {name}


DAMAGES: tuple[Callable[[Path, Path, random.Random], set[str]], ...] = (
    *(flip_bit, replace_byte, truncate, append, overwrite, delete, swap, go_back),
    *(make_directory, make_link_to_nothing, make_device, add_hole, lose_folder),
    *(edit_manifest, empty_manifest, nest),
)


def a_file(directory: Path, rng: random.Random) -> tuple[str, bytes]:
    name = rng.choice(files_of(directory))
    return name, (directory / name).read_bytes()


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 340))]
)
def test_a_damaged_checkpoint_is_refused(saved: Path, earlier: Path, seed: int) -> None:
    names = DAMAGES[seed % len(DAMAGES)](saved, earlier, random.Random(seed))
    message = refusal(saved)
    # Where there is no manifest, there is no checkpoint.
    assert any(str(saved / name) in message for name in names) or "has no manifest.json" in message
    try:
        problems = damaged_files(saved, read_manifest(saved))
    except MetaslacError as error:
        problems = [str(error)]
    assert message in problems or "has no manifest.json" in message
    assert problems and all(any(str(saved / name) in problem for name in names) for problem in problems)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, CONFIG, TENSORS, NUMBERS, ROWS])
def test_what_is_no_file_of_its_size_is_not_even_read(saved: Path, name: str) -> None:
    """It may be larger than the memory, or wait for a writer for ever."""
    data, manifest = (saved / name).read_bytes(), read_manifest(saved)
    for what in ("fifo", "device", "directory", "hole"):
        (saved / name).unlink()
        if what == "fifo":
            os.mkfifo(saved / name)
        elif what == "device":
            (saved / name).symlink_to("/dev/zero")
        elif what == "directory":
            (saved / name).mkdir()
        else:
            (saved / name).write_bytes(data)
            os.truncate(saved / name, 2**40)
        message = refusal(saved)
        assert f"{saved / name} is damaged: " in message and "checksum" not in message
        assert name == MANIFEST or missing_files(saved, manifest) == [message]
        if what == "directory":
            (saved / name).rmdir()
            (saved / name).touch()
    put(saved / name, data)
    resume(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: data[:-1],
        lambda data: json.dumps(json.loads(data)).encode(),
        lambda data: data.replace(b'"update": 4', b'"update": 9,\n  "update": 4'),
    ],
)
def test_a_manifest_of_the_same_meaning_is_not_the_one_that_was_saved(
    saved: Path, change: Callable[[bytes], bytes]
) -> None:
    before = json.loads((saved / MANIFEST).read_bytes())
    put(saved / MANIFEST, change((saved / MANIFEST).read_bytes()))
    assert json.loads((saved / MANIFEST).read_bytes()) == before
    assert f"{saved / MANIFEST} is damaged" in refusal(saved)


@pytest.mark.parametrize("damage", [lambda data: data[:99], lambda data: data[:-1] + b"?"])
def test_a_damaged_file_that_two_checkpoints_share_is_found_in_both(
    run_dir: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    original = [run_dir / "checkpoints" / name for name in ("00000002", "00000004")]
    before, after = (Path(shutil.copytree(path, tmp_path / path.name)) for path in original)
    names = [name for name in files_of(before) if name.startswith("replay/") and (after / name).exists()]
    assert names
    for name in names:
        assert (original[0] / name).samefile(original[1] / name)
        (after / name).unlink()
        os.link(before / name, after / name)
    (before / names[0]).write_bytes(damage((before / names[0]).read_bytes()))
    for directory in (before, after):
        assert str(directory / names[0]) in refusal(directory)
        assert len(damaged_files(directory, read_manifest(directory))) == 1
