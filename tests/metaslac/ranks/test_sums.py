"""Sums over ranks, in shared memory and through gloo, against sums of what every rank gives; who may meet."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
import torch
from helpers.ranked import fork_ranks

from metaslac.ranks import memory
from metaslac.ranks.group import Group
from metaslac.ranks.meeting import LOOPBACK, Meeting
from metaslac.ranks.ranks import Ranks

RANKS = 3


def given(rank: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return (1000 * torch.rand(size, generator=torch.Generator().manual_seed(rank))).to(dtype)


def add(ranks: Ranks, folder: Path, shared: bool) -> None:
    assert isinstance(ranks, Group) and (ranks._memory is not None) == shared
    many = memory.SLOT // 4
    for dtype in (torch.float32, torch.float64, torch.int64):
        for size in (1, 7, many, many + 1, 2 * many + 5):
            found = ranks.sum_(given(ranks.rank, size, dtype))
            torch.testing.assert_close(found, sum(given(rank, size, dtype) for rank in range(RANKS)))
            assert len(set(ranks.gather(found.numpy().tobytes()))) == 1, "bit for bit the same"
    assert ranks.sum_(torch.ones(2, 3)).tolist() == [[RANKS] * 3] * 2
    assert ranks.sum_(torch.tensor(ranks.rank)).item() == 3


def test_sums_in_shared_memory(tmp_path: Path) -> None:
    assert fork_ranks(RANKS, add, tmp_path, True) == [0] * RANKS


def test_sums_through_gloo_where_memory_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert fork_ranks(RANKS, add, tmp_path, False) == [0] * RANKS


class Told:
    """A store that another thread may wait for."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.is_told = threading.Event()

    def set(self, key: str, value: str) -> None:
        self.values[key] = value
        self.is_told.set()

    def get(self, key: str) -> bytes:
        assert self.is_told.wait(10)
        return self.values[key].encode()


def test_a_stranger_is_no_rank() -> None:
    store, found = Told(), dict[int, socket.socket]()
    first, second = (Meeting(store, rank, 2, LOOPBACK, 20.0) for rank in range(2))
    waiting = threading.Thread(target=lambda: found.update(first.peers("talk")))
    waiting.start()
    port = int(store.get("talk").split()[0])
    with socket.create_connection((LOOPBACK, port)) as stranger:
        stranger.sendall(bytes(40))
        assert stranger.recv(1) == b"", "sent away"
    own = second.peers("talk")
    waiting.join()
    assert found.keys() == {1} and own.keys() == {0}
    own[0].sendall(b"here")
    assert found[1].recv(4) == b"here"
    for peer in (*found.values(), *own.values()):
        peer.close()
