"""A forged replay under right checksums: episodes, tables and places that could not have been saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from checkpoints import (
    CHANGES,
    Change,
    forge,
    refusal,
    replay_file,
    some,
    with_one,
)
from torch import Tensor

from metaslac.storage.manifest import MANIFEST
from metaslac.training.state import TENSORS

STORES = "frames", "actions", "rewards", "dense_rewards"


@pytest.mark.parametrize(("name", "change"), some(3, [*STORES, "numbers", "lengths"], CHANGES))
def test_replay_that_cannot_be_is_refused(saved: Path, name: str, change: str) -> None:
    with_one(saved, replay_file(saved), name, CHANGES[change])
    refusal(saved)


def test_replay_without_one_of_its_files_is_refused(saved: Path) -> None:
    files = json.loads((saved / MANIFEST).read_bytes())["files"]
    del files[replay_file(saved)]
    forge(saved, {}, files=files)
    assert "episodes are in no file" in refusal(saved)


@pytest.mark.parametrize("name", STORES)
def test_one_row_of_replay_is_not_taken_for_all(saved: Path, name: str) -> None:
    with_one(saved, replay_file(saved), name, lambda x: x[:1])
    assert replay_file(saved) in refusal(saved)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lengths", lambda x: -x),
        ("lengths", lambda x: x * 0),
        ("lengths", lambda x: x + 2**62),
        ("lengths", lambda x: x - 1),
        ("lengths", lambda x: torch.cat([x[:1] - 1, x[1:-1], x[-1:] + 1])),
        ("lengths", lambda x: x[:-1]),
        ("numbers", lambda x: x * 0),
        ("numbers", lambda x: x + 1),
        ("numbers", lambda x: -x - 1),
        ("numbers", lambda x: x + 2**62),
        ("numbers", lambda x: x.flip(0)),
    ],
)
def test_a_list_of_episodes_that_cannot_be_is_refused(saved: Path, name: str, change: Change) -> None:
    with_one(saved, replay_file(saved), name, change)
    assert replay_file(saved) in refusal(saved)


TASK, NUMBER, ROW, OFFSET, LENGTH, MARKED, TERMINATED = range(7)


def with_cell(row: int, column: int, change: Callable[[int], int]) -> Change:
    def changed_table(table: Tensor) -> Tensor:
        table[row, column] = change(int(table[row, column]))
        return table

    return changed_table


@pytest.mark.parametrize(
    ("row", "column", "value"),
    some(5, [0, -1], range(7), [-(2**63), -1, 4, 99, 2**31, 2**62, 2**63 - 1]),
)
def test_a_row_that_points_elsewhere_is_refused(saved: Path, row: int, column: int, value: int) -> None:
    table = safetensors.torch.load_file(saved / TENSORS)["replay/episodes"]
    to = value + 1 if int(table[row, column]) == value else value
    with_one(saved, TENSORS, "replay/episodes", with_cell(row, column, lambda _: to))
    refusal(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: torch.cat([table, table[:1]]),
        lambda table: torch.cat([table, table]),
        lambda table: torch.cat([table[:1], table]),
        lambda table: table[1:],
        lambda table: table[:-1],
        lambda table: table[:0],
        lambda table: table.flip(0),
        lambda table: table.flip(1),
        lambda table: torch.cat([table[:5], table[6:]]),  # of a ring that has begun again, one in the middle
        with_cell(4, NUMBER, lambda number: number - 1),
        with_cell(7, OFFSET, lambda offset: offset + 1),
        with_cell(1, OFFSET, lambda offset: offset + 1),
        with_cell(1, OFFSET, lambda offset: offset - 1),
        with_cell(0, LENGTH, lambda length: length + 1),
        with_cell(0, LENGTH, lambda length: length - 1),
        with_cell(0, ROW, lambda row: row + 1),
        with_cell(0, TASK, lambda task: task + 1),
        with_cell(0, NUMBER, lambda number: number + 1),
        with_cell(0, MARKED, lambda _: 2),
        with_cell(0, TERMINATED, lambda _: 2),
    ],
)
def test_a_table_of_episodes_that_cannot_be_is_refused(saved: Path, change: Change) -> None:
    with_one(saved, TENSORS, "replay/episodes", change)
    assert "replay" in refusal(saved)


@pytest.mark.parametrize("name", ["replay/added", "replay/next_place"])
@pytest.mark.parametrize("by", [-(2**62), -1, 1, 2**62])
def test_places_that_are_not_those_of_the_episodes_are_refused(saved: Path, name: str, by: int) -> None:
    with_one(saved, TENSORS, name, lambda x: x + by)
    assert "replay" in refusal(saved)


def test_episodes_numbered_beyond_memory_are_refused(saved: Path) -> None:
    """A table and counters that agree with each other, on numbers that no list could hold."""
    tensors = safetensors.torch.load_file(saved / TENSORS)
    first = tensors["replay/episodes"][tensors["replay/episodes"][:, TASK] == 0][:1]
    last = first.clone()
    last[0, NUMBER] += 2**40
    tensors["replay/episodes"] = torch.cat([first, last])
    tensors["replay/added"][0] = int(last[0, NUMBER]) + 1
    forge(saved, {TENSORS: safetensors.torch.save(tensors)})
    assert "replay" in refusal(saved)


def test_a_gap_in_a_ring_that_has_begun_again_is_refused(saved: Path) -> None:
    """The episodes of task 1 end at the ring's 28th place and begin again; one is shorter than its room."""
    tensors = safetensors.torch.load_file(saved / TENSORS)
    table = tensors["replay/episodes"]
    rows = (table[:, TASK] == 1).nonzero().flatten()
    assert table[rows, OFFSET].tolist() == [6, 12, 18, 0]
    table[rows[2], OFFSET] += 1
    forge(saved, {TENSORS: safetensors.torch.save(tensors)})
    assert "replay" in refusal(saved)
