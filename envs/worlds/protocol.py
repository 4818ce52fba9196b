"""What all kinds of worlds have in common: tasks being played in slots, and what comes of a step.

Seeds, time limits, observations and who may do what when are the vector env's business.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from metaslac.envs.arrays import Array, Flags, Frames, Ids
from metaslac.envs.family import Task
from metaslac.envs.pixels.rendering import Scene


class Outcome(NamedTuple):
    """What came of a control step of N worlds; a failed world has reward 0."""

    rewards: Array  # (N,)
    dense_rewards: Array | None  # (N,), where the family has them
    terminated: Flags  # (N,)
    failed: dict[int, str]  # slot -> reason
    truncated: Flags | None = None  # (N,), where worlds have limits beside the horizon


class Painter(Protocol):
    """What draws worlds, as RenderPool does."""

    def draw(self, worlds: Ids, frames: Frames) -> None:
        """Draw these worlds into their rows of `frames` (num_worlds, size, size, 3)."""

    def start(self, worlds: Ids, frames: Frames) -> None:
        """As draw(), but pictures may be late: until finish() these worlds must not change."""

    def finish(self) -> None:
        """Wait for all that was started."""

    def gl_strings(self) -> dict[str, str]:
        """Who draws: `back_end`, and OpenGL's `vendor` and `renderer`."""

    def close(self) -> None:
        """Free what it draws with. May be called twice."""


class Worlds(Protocol):
    """Slots in which tasks of one family are played, control step by control step."""

    control_seconds: float

    @property
    def scene(self) -> Scene | None:
        """Where people look into the worlds; None of worlds that are not MuJoCo's, which are drawn alone."""

    def painter(self, size: int, threads: int) -> Painter:
        """What draws these worlds as square pictures; raises RenderingUnavailable where nothing can."""

    def reset(self, worlds: Ids, tasks: Sequence[Task], generators: Sequence[np.random.Generator]) -> None:
        """Start an episode of a task in each of these worlds, all chance drawn from its generator."""

    def step(self, worlds: Ids, actions: Array) -> Outcome:
        """One control step of these worlds (rising order) under actions (N, A) in [-1, 1]."""

    def observe(self, worlds: Ids) -> Array:
        """The state observations (N, state_size) of these worlds."""

    def close(self) -> None:
        """Free what they hold. May be called twice."""
