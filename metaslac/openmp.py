"""How OpenMP's threads wait for each other, decided before torch loads its runtime."""

from __future__ import annotations

import os
import sys

# What decides how threads wait: of every OpenMP, of GNU's and of LLVM's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

SPINS = 3_000  # looks before a thread sleeps; GNU's own default is 300,000


def let_waiting_threads_sleep() -> None:
    """Have threads of GNU OpenMP, which torch comes with, sleep after a short wait, unless told otherwise.

    By default they spin a hundred times as long, and beside other processes everybody waits for whom they
    keep from a core. Not spinning at all costs half the speed of an idle machine (benchmarks/run.py). The
    runtime looks at its environment once, when torch loads: after that there is nothing to be done.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
