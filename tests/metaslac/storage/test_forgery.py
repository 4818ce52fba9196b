"""Checkpoints whose checksums are right but whose content could not have been saved: refused in one line."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from checkpoints import (
    CHANGES,
    SHAPES,
    TYPES,
    files_of,
    forge,
    nested,
    refusal,
    replay_file,
    resume,
    some,
    with_one,
)

from metaslac.errors import MetaslacError
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import MANIFEST, WEIGHTS, damaged_files, read_manifest
from metaslac.training.state import NUMBERS, ROWS, TENSORS, is_finished


def test_a_forged_checkpoint_of_what_was_saved_is_gone_on_from(saved: Path) -> None:
    """So what is refused below is not refused for how it was forged."""
    numbers = json.loads((saved / NUMBERS).read_bytes())
    tensors = safetensors.torch.load_file(saved / TENSORS)
    forge(saved, {NUMBERS: json.dumps(numbers).encode(), TENSORS: safetensors.torch.save(tensors)})
    assert resume(saved).progress.updates == 4


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a JSON value, itself included."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy of a JSON value with another one at `path`, or none there."""
    if not path:
        return to
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], to)
    if copy[path[0]] is GONE:
        del copy[path[0]]
    return copy


GONE = object()


NO_NUMBERS: tuple[Any, ...] = (
    *(GONE, None, True, "1", "", [], {}, [1], {"a": 1}, -(2**70), 2**70, 10**400, -1.5),
    *(float("nan"), float("inf"), [[0] * 3] * 3, [0] * 100_000),
)


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_numbers_that_cannot_be_are_refused(saved: Path, every: int) -> None:
    """Every value of the training's numbers in turn, as everything that it is not."""
    numbers = json.loads((saved / NUMBERS).read_bytes())
    with (saved / ROWS).open() as file:
        metrics = {name: 1.0 for name in next(csv.reader(file)) if "/loss" in name}
    waiting = changed(numbers, ("progress", "unlogged"), metrics)
    tried = 0
    for before in (numbers, waiting):
        forge(saved, {NUMBERS: json.dumps(before).encode()})
        resume(saved)
        for path in leaves(before):
            for value in NO_NUMBERS:
                after = changed(before, path, value)
                if after is GONE or is_possible(path, value):
                    continue
                tried += 1
                if tried % every == 0 or len(path) <= 1:
                    forge(saved, {NUMBERS: json.dumps(after).encode()})
                    assert str(saved / NUMBERS) in refusal(saved) or path[0] == "log", (path, value)
                    with contextlib.suppress(MetaslacError):  # and nothing else
                        is_finished(load_checkpoint(saved), 6)
    assert tried > 1000


def is_possible(path: tuple[Any, ...], value: Any) -> bool:
    """Whether a number may be this after all."""
    if path == ("progress", "unlogged"):
        return value is None or value == {}
    return path[:2] == ("progress", "unlogged") and (value is GONE or type(value) is float)


@pytest.mark.parametrize("depth", [100, 900, 990, 100_000])
def test_deep_numbers_are_refused(saved: Path, depth: int) -> None:
    forge(saved, {NUMBERS: nested(depth, 1)})
    assert NUMBERS in refusal(saved)
    with pytest.raises(MetaslacError):
        is_finished(load_checkpoint(saved), 6)


@pytest.mark.parametrize(
    "facts",
    [
        {"update": 3},
        {"update": True},
        {"update": -4},
        {"update": 2**70},
        {"env_steps": 0},
        {"env_steps": 1.5},
        {"action_size": -1},
        {"state_size": "a\nb"},
        {"state_size": -1},
        {"train_tasks": None},
        {"param_names": [1]},
        {"param_names": "goal"},
        {"task_hash": "another"},
        {"task_hash": 0},
        {"family": ["fake"]},
        {"versions": []},
        {"files": {}},
        {"files": []},
    ],
)
def test_facts_that_cannot_be_are_refused(saved: Path, facts: dict[str, Any]) -> None:
    forge(saved, {}, **facts)
    refusal(saved)


NO_ENTRIES: tuple[Any, ...] = (
    *(None, [], {}, {"size": 0}, {"sha256": "0" * 64}),
    *({"sha256": "a", "size": size} for size in (-1, 2**70, 1.0, True, None, "a\nb", [0] * 10_000)),
    *({"sha256": sha256, "size": 1} for sha256 in (None, 0, "", "a\nb", ["a"])),
)


@pytest.mark.parametrize(("name", "entry"), some(3, [WEIGHTS, NUMBERS, "more", "replay/more"], NO_ENTRIES))
def test_entries_of_files_that_cannot_be_are_refused(saved: Path, name: str, entry: Any) -> None:
    files = json.loads((saved / MANIFEST).read_bytes())["files"]
    forge(saved, {}, files={**files, name: entry})
    if name != "more" or str(saved / MANIFEST) in problem(saved):
        refusal(saved)
    else:
        assert damaged_files(saved, read_manifest(saved))  # of no interest to a training


def problem(directory: Path) -> str:
    """What keeps a manifest from being read, or nothing."""
    try:
        read_manifest(directory)
    except MetaslacError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/etc/hostname", "../saved/config.yaml", "a/b/c", "a//b", "a\nb", "a\0b", "\ud800"),
        *("x" * 5000, "replay/" + "x" * 255, "replay/x", "replay/x.safetensors"),
        "replay/00000-000000000-000000001-000000002.safetensors",
        "replay/00009-000000000-000000001.safetensors",
        "replay/00000-000000001-000000001.safetensors",
        "replay/00000-000000000-999999999.safetensors",
        "replay/99999999999999999999-000000000-000000001.safetensors",
        "replay/-0001-000000000-000000001.safetensors",
        "replay/0000\u0660-000000000-000000001.safetensors",
    ],
)
def test_files_that_cannot_be_are_refused(saved: Path, name: str) -> None:
    files = json.loads((saved / MANIFEST).read_bytes())["files"]
    some = next(file for file in files if file.startswith("replay/"))
    with contextlib.suppress(OSError, ValueError):
        shutil.copyfile(saved / some, saved / name)
    forge(saved, {}, files={**files, name: files[some]})
    refusal(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: "",
        lambda rows: "\n",
        lambda rows: rows[:-1],
        lambda rows: rows + "1\n",
        lambda rows: rows + "\n",
        lambda rows: rows[: rows.rfind("\n", 0, -1) + 1],
        lambda rows: rows[: rows.find("\n") + 1],
        lambda rows: rows[rows.find("\n") + 1 :],
        lambda rows: rows.replace("update", "updates"),
        lambda rows: rows.replace("update", "more,update", 1),
        lambda rows: rows.replace("\n2,", "\nx,"),
        lambda rows: rows.replace("\n2,", "\n2,2,"),
        lambda rows: rows.replace("\n4,", "\n5,"),
        lambda rows: rows.replace("\n4,", "\n\0,"),
        lambda rows: rows.replace("\n4,", '\n"4,'),
        lambda rows: rows.replace("time/", ""),
        lambda rows: rows.replace("\n4,", "\n" + "4" * 200_000 + ","),
        lambda rows: rows.replace("\n4,", "\n4\n,"),
    ],
)
def test_rows_that_cannot_be_are_refused(saved: Path, change: Callable[[str], str]) -> None:
    rows = (saved / ROWS).read_text()
    assert change(rows) != rows
    forge(saved, {ROWS: change(rows).encode()})
    assert str(saved / ROWS) in refusal(saved)


def test_rows_that_are_no_text_are_refused(saved: Path) -> None:
    forge(saved, {ROWS: (saved / ROWS).read_bytes() + b"\xff\n"})
    assert str(saved / ROWS) in refusal(saved)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *some(2, ["replay/episodes", "replay/added", "replay/next_place"], CHANGES),
        # Of a generator only the bytes are looked at.
        *some(2, ["generator", "learner/generator"], ["gone", "one more", "none", "none of many", *TYPES]),
    ],
)
def test_training_tensors_that_cannot_be_are_refused(saved: Path, name: str, change: str) -> None:
    with_one(saved, TENSORS, name, CHANGES[change])
    assert str(saved) in refusal(saved)


@pytest.mark.parametrize(
    ("optimizer", "entry", "change"),
    some(5, ["model", "context", "critic", "actor", "alpha"], ["exp_avg", "exp_avg_sq"], ["gone", *SHAPES]),
)
def test_optimiser_tensors_that_cannot_be_are_refused(
    saved: Path, optimizer: str, entry: str, change: str
) -> None:
    with_one(saved, TENSORS, f"learner/{optimizer}/0/{entry}", CHANGES[change])
    assert str(saved / TENSORS) in refusal(saved)


@pytest.mark.parametrize(
    "name",
    [
        *("learner/", "learner/more", "learner/more/0/exp_avg", "learner/model/0/more"),
        *("learner/model/x/exp_avg", "learner/model/999/exp_avg", "learner/model/0/exp_avg/more"),
    ],
)
def test_further_training_tensors_are_refused(saved: Path, name: str) -> None:
    tensors = safetensors.torch.load_file(saved / TENSORS)
    forge(saved, {TENSORS: safetensors.torch.save({**tensors, name: torch.zeros(3)})})
    assert str(saved / TENSORS) in refusal(saved)


def test_the_state_of_a_parameter_that_there_is_not_is_refused(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved / TENSORS)
    more = {f"learner/model/999/{entry}": torch.zeros(()) for entry in ("exp_avg", "exp_avg_sq", "step")}
    forge(saved, {TENSORS: safetensors.torch.save({**tensors, **more})})
    assert str(saved / TENSORS) in refusal(saved)


@pytest.mark.parametrize("change", ["gone", *SHAPES])
def test_weights_that_cannot_be_are_refused(saved: Path, change: str) -> None:
    for name in list(safetensors.torch.load_file(saved / WEIGHTS))[::9]:
        whole = (saved / WEIGHTS).read_bytes()
        with_one(saved, WEIGHTS, name, CHANGES[change])
        refusal(saved)
        forge(saved, {WEIGHTS: whole})


def test_names_of_tensors_that_cannot_be_printed_are_refused(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved / WEIGHTS)
    forge(saved, {WEIGHTS: safetensors.torch.save({**tensors, "a\nb": torch.zeros(1)})})
    assert str(saved / WEIGHTS) in refusal(saved)


@pytest.mark.parametrize("name", ["generator", "learner/generator"])
@pytest.mark.parametrize("value", [1, 255])
def test_generators_that_cannot_be_are_refused(saved: Path, name: str, value: int) -> None:
    with_one(saved, TENSORS, name, lambda x: torch.full_like(x, value))
    assert str(saved / TENSORS) in refusal(saved)


def header(text: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file."""
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one_tensor(dtype: str, shape: list[int], size: int) -> bytes:
    return header({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(min(size, 64)))


NO_TENSORS = (
    *(header(b"", length=length) for length in (0, 1, 2**27, 2**31, 2**40, 2**63, 2**64 - 1)),
    *(header(text) for text in (b"[" * 10**5, b'{"a":' * 10**5, b"null", b"\xff{}", {"a": 1})),
    *(one_tensor("F32", shape, 4) for shape in ([-1], [2**62], [2**33, 2**33], [0], [2, 2])),
    *(one_tensor("F32", [size // 4], size) for size in (2**42, 2**62, 2**63)),
    *(one_tensor("F32", shape, 0) for shape in ([0, 2**62], [2**62, 0], [0, 2**64])),
    one_tensor("F32", [1] * 5000, 4),
    *(one_tensor(dtype, [4], 4) for dtype in ("F4", "F8_E8M0", "X", "", "F8_E5M2", "BOOL", "C64")),
    header({"__metadata__": {"a": "b\nc"}}),
    header({"a\nb": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
)


@pytest.mark.parametrize(("file", "number"), some(3, [WEIGHTS, TENSORS, "replay"], range(len(NO_TENSORS))))
def test_tensor_files_that_cannot_be_are_refused(saved: Path, file: str, number: int) -> None:
    data = NO_TENSORS[number]
    forge(saved, {replay_file(saved) if file == "replay" else file: data})
    refusal(saved)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_damage_under_a_right_checksum_is_no_more_than_an_error(saved: Path, seed: int) -> None:
    """What differs in a few bytes may be fine; if it is not, that is one line."""
    rng = random.Random(seed)
    whole = {name: (saved / name).read_bytes() for name in files_of(saved) if name != MANIFEST}
    refused = 0
    for _ in range(1000 if seed else 60):
        name = rng.choice([*whole, TENSORS, NUMBERS, ROWS])
        data = bytearray(whole[name])
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(min(len(data), 3000))] = rng.randrange(256)
        forge(saved, {name: bytes(data)})
        try:
            resume(saved)
        except MetaslacError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
        forge(saved, {name: whole[name]})
    assert refused > 10
