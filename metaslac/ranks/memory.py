"""Sums over the ranks of one machine, in memory that they share.

gloo's would go through the machine's loopback, where its threads wait for a core several times a sum.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

SLOT = 4 << 20  # bytes of a tensor that are summed at a time
Gather = Callable[[bytes], list[bytes]]  # of all ranks


class SharedMemory:
    """Room for a piece of a tensor of each rank, twice.

    While one half is still read by some ranks, others write into the other; into the first again only after
    all have met once more. So they meet once for each piece.

    Args:
        room: (2, ranks, SLOT) bytes, the same for all ranks.
        rank: of this process.
        gather: as of Star.
    """

    def __init__(self, room: Tensor, rank: int, gather: Gather) -> None:
        self._room, self._rank, self._gather = room, rank, gather
        self._half = 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks in place, term by term in their order: bit for bit the same on all."""
        size = tensor.element_size()
        for piece in tensor.view(-1).split(SLOT // size):
            self._half ^= 1
            first, second, *others = self._room[self._half, :, : len(piece) * size].view(tensor.dtype)
            (first, second, *others)[self._rank].copy_(piece)
            self._gather(b"")
            torch.add(first, second, out=piece)
            for other in others:
                piece += other
        return tensor


def shared_memory(rank: int, ranks: int, gather: Gather) -> SharedMemory | None:
    """That of all ranks of a machine; None where they cannot share any. All have to call this."""
    length, token = 2 * ranks * SLOT, secrets.token_hex(16)
    made: int | None = None
    seen: mmap.mmap | None = None
    with suppress(OSError, AttributeError):  # not on Linux, or not allowed
        if rank == 0:
            made = os.memfd_create("metaslac-ranks")
            os.truncate(made, length)
            seen = mmap.mmap(made, length)
            seen[: len(token)] = token.encode()
    pid, number, token = json.loads(gather(json.dumps([os.getpid(), made, token]).encode())[0])
    with suppress(OSError):
        if rank and number is not None:
            opened = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR)
            try:
                seen = mmap.mmap(opened, length)
            finally:
                os.close(opened)
    whole = seen is not None and seen[: len(token)] == token.encode()
    all_see_it = all(json.loads(said) for said in gather(json.dumps(whole).encode()))
    if made is not None:
        os.close(made)
    if seen is None or not all_see_it:
        return None
    return SharedMemory(torch.frombuffer(seen, dtype=torch.uint8).view(2, ranks, SLOT), rank, gather)
