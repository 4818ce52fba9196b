"""Two hosts on this machine: network namespaces with an address each, and a link between them to cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

LINK = "link0"  # what each host calls its end


def why_no_hosts() -> str:
    """Why this process cannot make them; empty if it can."""
    if shutil.which("ip") is None or os.geteuid():
        return "network namespaces take iproute2 and the rights of root"
    try:
        with two_hosts():
            return ""
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.decode().strip()}"


@dataclass(frozen=True)
class Host:
    """One of the two."""

    name: str
    address: str

    def command(self, *command: str) -> list[str]:
        """That which runs a command there."""
        return ["ip", "netns", "exec", self.name, *command]

    def link(self, state: str) -> None:
        """Set its end of the link `up` or `down`."""
        _ip("-n", self.name, "link", "set", LINK, state)


@contextmanager
def two_hosts() -> Iterator[Sequence[Host]]:
    """Two, linked, one pair of this process at a time; whatever runs in them has to end before."""
    hosts = [Host(f"metaslac-{os.getpid()}-{number}", f"10.213.77.{number + 1}") for number in range(2)]
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        first, second = hosts
        _ip("-n", first.name, "link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", second.name)
        for host in hosts:
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", LINK)
            host.link("up")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)
