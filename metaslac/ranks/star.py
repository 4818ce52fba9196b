"""What ranks say to each other through the first of them: bytes, which all give in one order.

How they are connected is meeting.py's business.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from metaslac.ranks.meeting import NUMBER

SECONDS_BETWEEN_LOOKS = 1.0  # at how the others are, while one is waited for
MOST_AT_ONCE = 1 << 20  # bytes


class Gone(RuntimeError):
    """Another rank has ended or does not answer; the text says which and how."""


class Star:
    """All ranks of a run, joined through the first.

    Args:
        size: how many ranks there are.
        peers: connections by rank, as of Meeting.
        check: called now and then while another is waited for; raises Gone where one is.
    """

    def __init__(self, size: int, peers: Mapping[int, socket.socket], check: Callable[[], None]) -> None:
        self._size, self._peers, self._check = size, peers, check
        for peer in peers.values():
            peer.settimeout(SECONDS_BETWEEN_LOOKS)

    def gather(self, data: bytes, patience: float) -> list[bytes]:
        """What each rank gives, by rank. Raises Gone where one is, or is not here after so many seconds."""
        deadline = time.monotonic() + patience
        if 0 in self._peers:
            self._send(0, _framed(data), deadline)
            return [self._receive(0, deadline) for _ in range(self._size)]
        told = [data, *(self._receive(rank, deadline) for rank in self._peers)]
        everything = b"".join(map(_framed, told))
        for rank in self._peers:
            self._send(rank, everything, deadline)
        return told

    def close(self) -> None:
        """Say nothing more."""
        for peer in self._peers.values():
            peer.close()

    def _send(self, rank: int, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            with self._patient(rank, deadline):
                left = left[self._peers[rank].send(left) :]

    def _receive(self, rank: int, deadline: float) -> bytes:
        (length,) = NUMBER.unpack(self._read(rank, NUMBER.size, deadline))
        return self._read(rank, length, deadline)

    def _read(self, rank: int, count: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < count:
            with self._patient(rank, deadline):
                part = self._peers[rank].recv(min(count - len(found), MOST_AT_ONCE))
                if not part:
                    raise Gone(f"rank {rank} has closed its connection")
                found += part
        return bytes(found)

    @contextmanager
    def _patient(self, rank: int, deadline: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self._check()
            if time.monotonic() > deadline:
                raise Gone(f"rank {rank} does not come to where the others are") from None
        except OSError as error:
            raise Gone(f"rank {rank}: {error.strerror or error}") from None


def _framed(data: bytes) -> bytes:
    return NUMBER.pack(len(data)) + data
