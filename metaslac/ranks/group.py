"""Ranks that torchrun started, on one machine or several.

Sums are made in memory that ranks of one machine share, and by gloo or NCCL where they are on several or on
GPUs; all else is said through the first rank. It is numbers and JSON; nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from metaslac.errors import MetaslacError
from metaslac.ranks.environment import attempt, local_ranks, started_by_torchrun
from metaslac.ranks.heartbeat import Heartbeat
from metaslac.ranks.meeting import LOOPBACK, Meeting
from metaslac.ranks.memory import SharedMemory, shared_memory
from metaslac.ranks.ranks import ALONE, RankLost, Ranks
from metaslac.ranks.star import Star

# How long a rank that lives is waited for: within an update, and where it may play, evaluate or write files.
QUICK, PATIENT = timedelta(seconds=55), timedelta(minutes=10)


class Group(Ranks):
    """All ranks of a run, as one of them speaks to the others.

    Its methods raise RankLost where another has ended or does not answer in time.

    Args:
        rank, size: of the run.
        star: through which ranks speak.
        memory: in which tensors on CPUs are summed; None: torch.distributed's default group does it.
    """

    def __init__(self, rank: int, size: int, star: Star, memory: SharedMemory | None) -> None:
        self.rank, self.size = rank, size
        self._star, self._memory = star, memory

    def sum_(self, tensor: Tensor) -> Tensor:
        """As of Ranks."""
        with self._answered():
            if self._memory is not None and tensor.device.type == "cpu":
                return self._memory.sum_(tensor)
            dist.all_reduce(tensor)
        return tensor

    def agree(self, asked: bool) -> bool:
        """As of Ranks."""
        with self._answered():
            return b"y" in self._star.gather(b"y" if asked else b"n", QUICK.total_seconds())

    def gather(self, data: bytes) -> list[bytes]:
        """As of Ranks."""
        with self._answered():
            return self._star.gather(data, PATIENT.total_seconds())

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
    with ExitStack() as ends:
        try:
            group = _join(ends)
        except (RuntimeError, ValueError, OSError) as error:
            raise MetaslacError(f"the ranks of torchrun do not find each other: {_reason(error)}") from None
        yield group


def _join(ends: ExitStack) -> Group:
    """What ends it all is pushed on `ends`."""
    store, rank, size = next(rendezvous("env://", timeout=PATIENT))
    store = PrefixStore(attempt(), store)
    one_machine = local_ranks()[1] == size
    host = LOOPBACK if one_machine else os.environ["MASTER_ADDR"]
    meeting = Meeting(store, rank, size, host, PATIENT.total_seconds())
    heartbeat = Heartbeat(meeting.peers("heartbeat"))
    ends.callback(heartbeat.close)
    star = Star(size, meeting.peers("star"), heartbeat.check)
    ends.callback(star.close)

    def quickly(data: bytes) -> list[bytes]:
        return star.gather(data, QUICK.total_seconds())

    memory = shared_memory(rank, size, quickly) if one_machine else None
    cuda = torch.cuda.is_available()
    if memory is None or cuda:
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, timeout=QUICK, store=store, rank=rank, world_size=size)
        ends.push(_leave(cuda))
    return Group(rank, size, star, memory)


def _leave(cuda: bool) -> Callable[..., None]:
    def leave(kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not cuda:  # NCCL may wait for ranks that are gone
            with suppress(RuntimeError):
                dist.destroy_process_group()

    return leave


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the place in torch's source that it begins with."""
    text = re.sub(r"\[[^\]]*\.cc:\d+\]", "", str(error).partition("\n")[0])
    return text.partition(". ")[0].strip()
