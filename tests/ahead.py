"""Runs that collect in the background."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from fakes import tiny_config

from metaslac.config.sections import Config

UPDATES, PER_VISIT, VISITS = 7, 2, 4  # visits are due before updates 0, 2, 4 and 6


def config(
    collect_ahead: bool = True,
    updates: int = UPDATES,
    every: int = 3,
    inference: str = "infer",
    **train: Any,
) -> Config:
    """Of a run with several visits; checkpoints are all kept."""
    base = tiny_config(inference=inference)
    settings = {"updates": updates, "updates_per_visit": PER_VISIT, "collect_ahead": collect_ahead, **train}
    return replace(
        base, train=replace(base.train, **settings), checkpoint=replace(base.checkpoint, every=every, keep=99)
    )


def background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("metaslac-ahead")]
