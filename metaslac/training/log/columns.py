"""The columns of progress.csv that evaluations fill: whose returns they are, and what those tasks are called.

Nothing here reads or writes a file; run_log.py does, and the commands that show a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Split = Literal["validation", "test"]

AVERAGE_RETURN = "AverageReturn"  # of last episodes; what viskit shows when it is opened

CALLED: dict[Split, str] = {"validation": "validation", "test": "held-out"}  # tasks, as in "held-out return"


def evaluation_columns(split: Split, episodes: int, infers: bool) -> list[str]:
    """Names for the mean return of each episode and, of agents that infer, the belief's width after each.

    Last comes the last return again.
    """
    told = ("return", *["belief_std"] * infers)
    return [*(f"{split}/{what}_{e + 1}" for what in told for e in range(episodes)), AVERAGE_RETURN]


def return_columns(columns: Iterable[str], split: Split) -> list[str]:
    """Those with the mean return of each episode, in their order."""
    return [name for name in columns if name.startswith(f"{split}/return_")]


def split_in(columns: Iterable[str]) -> Split | None:
    """Whose returns are in these columns; None if nobody's.

    The held-out tasks' are in runs begun before there were validation tasks, or on a family without.
    """
    names = list(columns)
    return next((split for split in CALLED if return_columns(names, split)), None)
