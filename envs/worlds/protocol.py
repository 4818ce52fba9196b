"""What all kinds of worlds have in common: tasks being played in slots, and what comes of a step.

Seeds, time limits, observations and who may do what when are the vector env's business.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from metaslac.envs.arrays import Array, Flags, Ids
from metaslac.envs.family import Task
from metaslac.envs.pixels.rendering import PictureSource


class Outcome(NamedTuple):
    """What came of a control step of N worlds; a failed world has reward 0."""

    rewards: Array  # (N,)
    dense_rewards: Array | None  # (N,), where the family has them
    terminated: Flags  # (N,)
    failed: dict[int, str]  # slot -> reason


class Worlds(Protocol):
    """Slots in which tasks of one family are played, control step by control step."""

    control_seconds: float
    camera_id: int

    @property
    def pictures(self) -> PictureSource:
        """What to draw."""

    def reset(self, worlds: Ids, tasks: Sequence[Task], generators: Sequence[np.random.Generator]) -> None:
        """Start an episode of a task in each of these worlds, all chance drawn from its generator."""

    def step(self, worlds: Ids, actions: Array) -> Outcome:
        """One control step of these worlds (rising order) under actions (N, A) in [-1, 1]."""

    def observe(self, worlds: Ids) -> Array:
        """The state observations (N, state_size) of these worlds."""
