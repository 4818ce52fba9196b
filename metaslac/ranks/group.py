"""Ranks that torchrun started, on one machine or several: sums on their devices, all else through gloo.

What they say to each other is numbers and JSON; nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from metaslac.errors import MetaslacError
from metaslac.ranks.environment import attempt, started_by_torchrun
from metaslac.ranks.ranks import ALONE, RankLost, Ranks

# How long a rank waits for the others: within an update, and where they may play, evaluate or write files.
# TCP sends anew 51 s after a link was cut, and 25 s after: a link that comes back within 50 s is not noticed.
QUICK, PATIENT = timedelta(seconds=55), timedelta(minutes=10)


class Group(Ranks):
    """The ranks of torch.distributed's default group.

    Its methods raise RankLost where another has ended or does not answer in time.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._quick = dist.new_group(timeout=QUICK)

    def sum_(self, tensor: Tensor) -> Tensor:
        """As of Ranks."""
        with self._answered():
            dist.all_reduce(tensor, group=self._quick)
        return tensor

    def agree(self, asked: bool) -> bool:
        """As of Ranks."""
        return bool(self.sum_(torch.tensor(int(asked))))

    def gather(self, data: bytes) -> list[bytes]:
        """As of Ranks."""
        sizes = torch.zeros(self.size, dtype=torch.long)
        sizes[self.rank] = len(data)
        with self._answered():
            dist.all_reduce(sizes)
            padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
            padded[: len(data)] = torch.frombuffer(bytearray(data or b"0"), dtype=torch.uint8)[: len(data)]
            found = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(found, padded)
        return [part.numpy().tobytes()[:size] for part, size in zip(found, sizes.tolist(), strict=True)]

    def tell(self, value: Any) -> list[Any]:
        """As of Ranks."""
        return [json.loads(text) for text in self.gather(json.dumps(value).encode())]

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankLost(
                f"rank {self.rank} of {self.size}: another has ended or does not answer ({_reason(error)})"
            ) from None


@contextmanager
def joined() -> Iterator[Ranks]:
    """Within, the ranks that torchrun started with this one; the stand-in where there are no others.

    Raises MetaslacError if they do not find each other.
    """
    if started_by_torchrun() == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENT))
        store = PrefixStore(attempt(), store)
        dist.init_process_group(backend, timeout=PATIENT, store=store, rank=rank, world_size=size)
        ranks = Group()
    except (RuntimeError, ValueError) as error:
        raise MetaslacError(f"the ranks of torchrun do not find each other: {_reason(error)}") from None
    whole = False
    try:
        yield ranks
        whole = True
    finally:
        if whole or backend == "gloo":  # NCCL may wait for ranks that are gone
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the place in torch's source that it begins with."""
    text = re.sub(r"\[[^\]]*\.cc:\d+\]", "", str(error).partition("\n")[0])
    return text.partition(". ")[0].strip()
