"""Ranks: programs as torchrun starts them, and functions in forks of this process."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metaslac.ranks.group import joined
from metaslac.ranks.ranks import Ranks

ROOT = Path(__file__).parents[2]
TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def environment(**more: str) -> dict[str, str]:
    """That of this process, in which the repository's packages are found; of one thread."""
    kept = {name: value for name, value in os.environ.items() if name not in TOLD}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def of_rank(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a rank, all of them on this machine."""
    return {
        **{
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
        },
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"},
    }


def start_ranks(size: int, *command: str) -> list[subprocess.Popen[str]]:
    """So many processes of one Python command, each told its rank."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment(**of_rank(rank, size, port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def finish(processes: list[subprocess.Popen[str]], timeout: float = 300) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each; none of them is left running."""
    try:
        found = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, *texts) for process, texts in zip(processes, found, strict=True)]


Work = Callable[..., None]  # of the ranks and more


def fork_ranks(size: int, work: Work, *arguments: Any, timeout: float = 120) -> list[int | None]:
    """Do `work` in so many forks of this process, which have all imported already; their exit codes."""
    port, context = free_port(), multiprocessing.get_context("fork")
    children = [
        context.Process(target=_as_rank, args=(of_rank(rank, size, port), work, arguments))
        for rank in range(size)
    ]
    for child in children:
        child.start()
    deadline = time.monotonic() + timeout
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        child.kill()
        child.join()
    return [child.exitcode for child in children]


def _as_rank(told: dict[str, str], work: Work, arguments: tuple[Any, ...]) -> None:
    os.environ.update(told)
    with joined() as ranks:
        work(ranks, *arguments)


def alone(work: Work, *arguments: Any) -> None:
    """The same in one fork that has no others."""
    child = multiprocessing.get_context("fork").Process(target=work, args=(Ranks(), *arguments))
    child.start()
    child.join()
    assert child.exitcode == 0
