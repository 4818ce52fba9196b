"""What is filmed of an agent at work, for people: large pictures, and where things are in them.

Filming changes nothing of what is played. What is drawn on the pictures is film.py's.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaslac.launchers.media.video import Frames, spread

if TYPE_CHECKING:
    from metaslac.envs import SupervisedVectorEnv, TaskVectorEnv
    from metaslac.envs.family import Family, Task
    from metaslac.envs.overlay import Overlay
    from metaslac.envs.worlds.viewer import View, Viewer
    from metaslac.evidence.probe import StepProbes

    Env = TaskVectorEnv | SupervisedVectorEnv


class Moment(NamedTuple):
    """A world at one moment."""

    packed: bytes  # its picture
    size: int  # of that, in pixels
    view: View
    return_so_far: float

    @property
    def picture(self) -> Frames:
        """As drawn, (size, size, 3)."""
        flat = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8)
        return flat.reshape(self.size, self.size, 3)


@dataclass(frozen=True)
class Take:
    """What was filmed of one trial."""

    task: Task
    overlay: Overlay
    seconds: float  # that a decision takes
    episodes: list[list[Moment]] = field(default_factory=list)  # each of T + 1 moments

    @property
    def called(self) -> str:
        """Which task it is, in words."""
        return "own task" if self.task.split == "own" else f"task {self.task.index}"


class Filming:
    """Films the first trial of some of the tasks that are played while it is `on`.

    Args:
        size: side of the pictures in pixels.
        most: tasks that are filmed, evenly spread over those played.

    Attributes:
        takes: by the index of their task.
        acts: in words, what m is acted on in each episode of a trial.
        probes: what beliefs in them are read with, if they can be.
    """

    def __init__(self, size: int, most: int) -> None:
        self.size, self.most = size, most
        self.takes: dict[int, Take] = {}
        self.acts: list[str] = []
        self.probes: StepProbes | None = None

    @contextmanager
    def on(self, env: Env, family: Family, tasks: Sequence[Task]) -> Iterator[FilmedEnv]:
        """An environment in place of `env`, to play one trial of each of the tasks in.

        Raises FamilyError for an overlay that cannot be drawn.
        """
        from metaslac.envs.worlds.viewer import Viewer, overlay_of

        seconds = env.worlds.control_seconds * family.action_repeat
        for task in spread(tasks, self.most):
            self.takes[task.index] = Take(task, overlay_of(family, task), seconds)
        with closing(Viewer(env, self.size)) as viewer:
            yield FilmedEnv(env, viewer, self.takes, self.size)


def ways_of_acting(episodes: int, exploration: int, redraw_every: int) -> list[str]:
    """In words, what agents that infer act on in each episode, of which so many are for exploration."""
    if redraw_every:
        return ["its belief"] * episodes
    return ["a guess" if episode < exploration else "its belief at step 0" for episode in range(episodes)]


class FilmedEnv:
    """A vector environment, some of whose worlds are looked at after every reset and step."""

    def __init__(self, env: Env, viewer: Viewer, takes: dict[int, Take], size: int) -> None:
        self.num_envs = env.num_envs
        self._env, self._viewer, self._takes, self._size = env, viewer, takes, size
        self._running: dict[int, Take] = {}  # slot -> what is filmed in it
        self._returns: NDArray[np.float64] = np.zeros(env.num_envs)

    def reset(self, *, seed: list[int], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """As of the environment."""
        result = self._env.reset(seed=seed, options=options)
        first = {index: slot for slot, index in reversed(list(enumerate(options["task"])))}
        self._running = {first[index]: take for index, take in self._takes.items() if index in first}
        self._returns[:] = 0.0
        for take in self._running.values():
            take.episodes.append([])
        self._look()
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As of the environment."""
        result = self._env.step(actions)
        _, rewards, terminated, truncated, _ = result
        self._returns += rewards
        self._look()
        over = terminated | truncated
        self._running = {slot: take for slot, take in self._running.items() if not over[slot]}
        return result

    def render(self) -> tuple[Frames, ...]:
        """As of the environment."""
        return self._env.render()

    def _look(self) -> None:
        if not self._running:
            return
        pictures = self._viewer.pictures(list(self._running))
        for (slot, take), picture in zip(self._running.items(), pictures, strict=True):
            view = self._viewer.view(slot, take.overlay.follows)
            packed = zlib.compress(picture.tobytes(), 1)  # of flat colours a few per cent are left
            take.episodes[-1].append(Moment(packed, self._size, view, float(self._returns[slot])))
