"""Whether the other ranks are still there, however long they work: a thread of each says so every second.

A process that is stopped, dead or cut off says nothing any more, nor does one that hangs with Python's lock
held. A main thread that hangs without it is not noticed here.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

from metaslac.ranks.star import Gone

INTERVAL = 1.0  # seconds between two beats
# TCP sends anew 51 s after a link was cut, and 25 s after: a link that comes back within 50 s is not noticed.
SILENCE = 55.0  # seconds without a beat after which a rank is taken to be gone
WELL, ILL = b".", b"x"  # and what is said once another is gone


class Heartbeat:
    """Tells peers that this process lives, and listens to them, in a thread until it is closed.

    Args:
        peers: connections by rank, as of Meeting, for this alone.
    """

    def __init__(self, peers: Mapping[int, socket.socket]) -> None:
        self._peers = peers
        # Seconds in which nothing was heard of each; those in which this process was stopped do not count.
        self._silent = dict.fromkeys(peers, 0.0)
        self._lost = ""
        self._ended = threading.Event()
        for peer in peers.values():
            peer.setblocking(False)
        self._thread = threading.Thread(target=self._beat, name="metaslac-heartbeat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise Gone if another rank is."""
        if self._lost:
            raise Gone(self._lost)

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()
        for peer in self._peers.values():
            peer.close()

    def _beat(self) -> None:
        while not self._ended.wait(INTERVAL):
            for rank, peer in self._peers.items():
                try:
                    self._tell(peer)
                    self._listen(rank, peer)
                except OSError as error:
                    self._lost = self._lost or f"rank {rank}: {error.strerror or error}"
                except Gone as gone:
                    self._lost = self._lost or str(gone)

    def _tell(self, peer: socket.socket) -> None:
        with suppress(BlockingIOError):  # it has not listened for long
            peer.send(ILL if self._lost else WELL)

    def _listen(self, rank: int, peer: socket.socket) -> None:
        try:
            said = peer.recv(4096)
        except BlockingIOError:
            self._silent[rank] += INTERVAL
            if self._silent[rank] >= SILENCE:
                raise Gone(f"nothing was heard of rank {rank} for {SILENCE:.0f} seconds") from None
            return
        if not said:
            raise Gone(f"rank {rank} has ended")
        if ILL in said:
            raise Gone(f"rank {rank} says that another is gone")
        self._silent[rank] = 0.0
