"""What torchrun tells a process of itself; torch is not loaded to find out."""

from __future__ import annotations

import os
from collections.abc import Mapping


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> int:
    """How many ranks there are of this run; 1 where torchrun has not started it."""
    needed = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    return int(environment["WORLD_SIZE"]) if all(name in environment for name in needed) else 1


def local_ranks(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Number of this rank on its machine, and how many there are."""
    if started_by_torchrun(environment) == 1:
        return 0, 1
    return int(environment.get("LOCAL_RANK", 0)), int(environment.get("LOCAL_WORLD_SIZE", 1))


def attempt(environment: Mapping[str, str] = os.environ) -> str:
    """What tells the ranks of one start from those of an earlier one, where torchrun keeps their store.

    It does on one machine. On several, each counts its own restarts, and every start has a store of its own.
    """
    alone = environment.get("WORLD_SIZE") == environment.get("LOCAL_WORLD_SIZE")
    return environment.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"


def signals_come_twice(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a signal to all processes comes twice: torchrun sends on what it gets itself."""
    return "TORCHELASTIC_RUN_ID" in environment
