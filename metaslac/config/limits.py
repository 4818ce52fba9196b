"""Whether a run's settings go with its family, asked before any work starts. Memory is in memory.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError


class CountedFamily(Protocol):
    """What limits how many tasks can be asked for."""

    @property
    def train_tasks(self) -> Sequence[object]: ...


def check_tasks(config: Config, family: CountedFamily) -> None:
    """Raise MetaslacError if a visit or a meta-batch asks for more distinct tasks than there are."""
    tasks = len(family.train_tasks)
    for name in ("tasks_per_visit", "tasks_per_update"):
        if (asked := getattr(config.train, name)) > tasks:
            raise MetaslacError(
                f"train.{name} is {asked}, but {config.family.name} has {tasks} training tasks"
            )
