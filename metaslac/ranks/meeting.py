"""How the ranks of a run find each other: connections over TCP between the first and each of the others.

What is said over them is star.py's and heartbeat.py's.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from contextlib import suppress
from typing import NamedTuple, Protocol

LOOPBACK = "127.0.0.1"
SECONDS_TO_SAY_WHO = 5.0
NUMBER = struct.Struct("!q")


class Store(Protocol):
    """What is needed of torch.distributed's."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...


class Meeting(NamedTuple):
    """Where the ranks of a run find each other."""

    store: Store
    rank: int
    size: int
    host: str  # the first rank's, as all know it
    patience: float  # seconds until all are there

    def peers(self, name: str) -> dict[int, socket.socket]:
        """Connections by rank: the first has one to each of the others, and they have one to the first.

        Raises OSError where they do not come together.
        """
        peers = self._found(name) if self.rank else self._awaited(name)
        for peer in peers.values():
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peers

    def _found(self, name: str) -> dict[int, socket.socket]:
        port, token = self.store.get(name).decode().split()
        first = socket.create_connection((self.host, int(port)), self.patience)
        first.sendall(token.encode() + NUMBER.pack(self.rank))
        return {0: first}

    def _awaited(self, name: str) -> dict[int, socket.socket]:
        """Those who show a token that the run's store alone tells; whoever else comes is sent away."""
        token = secrets.token_hex(16).encode()
        peers: dict[int, socket.socket] = {}
        deadline = time.monotonic() + self.patience
        family = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)[0][0]
        listened = self.host if self.host == LOOPBACK else ""
        with socket.create_server((listened, 0), family=family, backlog=self.size) as server:
            self.store.set(name, f"{server.getsockname()[1]} {token.decode()}")
            while len(peers) < self.size - 1:
                server.settimeout(max(0.1, deadline - time.monotonic()))
                peer, _ = server.accept()
                peer.settimeout(SECONDS_TO_SAY_WHO)
                said = b""
                with suppress(OSError):
                    said = peer.recv(len(token) + NUMBER.size, socket.MSG_WAITALL)
                if len(said) == len(token) + NUMBER.size and said.startswith(token):
                    peers[NUMBER.unpack(said[len(token) :])[0]] = peer
                else:
                    peer.close()
        return dict(sorted(peers.items()))
