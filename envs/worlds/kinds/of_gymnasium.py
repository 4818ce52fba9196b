"""Worlds that are environments of gymnasium's: how they are made, seeded, stepped and drawn.

What a task means to one is said in families/of_gymnasium.py.
"""

import atexit
import contextlib
import math
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import gymnasium
import numpy as np
from PIL import Image

from metaslac.envs.arrays import Array, Flags, Frames, Ids
from metaslac.envs.errors import FamilyError, RenderingUnavailable
from metaslac.envs.families.of_gymnasium import GymnasiumFamily, action_bounds
from metaslac.envs.family import Task
from metaslac.envs.pixels.job_thread import JobThread
from metaslac.envs.plugins import blame
from metaslac.envs.worlds.protocol import Outcome

STOP_SECONDS = 5.0

Result = TypeVar("Result")


class GymnasiumWorlds:
    """Environments of gymnasium's, stepped one after the other, each in a thread of its own.

    The threads are for OpenGL: of several environments that draw in one thread, gymnasium's on MuJoCo take
    whichever context was made last for their own. What an environment raises in a step ends its own episode,
    and it is made anew for the next one.
    """

    scene = None

    def __init__(self, family: GymnasiumFamily, num_worlds: int) -> None:
        self._family = family
        self.control_seconds = family.control_seconds
        self._worlds = [_World(family) for _ in range(num_worlds)]
        self._finalizer = weakref.finalize(self, _stop, self._worlds)
        self._closes_at_exit = False

    def painter(self, size: int, threads: int) -> "_Painter":
        """The environments draw themselves; their pictures are brought to that size."""
        return _Painter(self, size)

    def reset(self, worlds: Ids, tasks: Sequence[Task], generators: Sequence[np.random.Generator]) -> None:
        """Start an episode in each of these worlds, all chance drawn from a seed that its generator gives."""
        for world, task, generator in zip(worlds, tasks, generators, strict=True):
            begin = partial(self._worlds[world].begin, task, int(generator.integers(2**31)))
            try:
                self._worlds[world].do(begin)
            except FamilyError:
                raise
            except Exception as error:  # anything can happen in somebody else's environment
                said = f"{self._family.name}: task {task.index} cannot be started: {blame(error)}"
                raise FamilyError(said) from error

    def step(self, worlds: Ids, actions: Array) -> Outcome:
        """One step of these worlds (rising order) under actions (N, A) in [-1, 1]."""
        rewards: Array = np.zeros(len(worlds))
        terminated: Flags = np.zeros(len(worlds), dtype=bool)
        truncated: Flags = np.zeros(len(worlds), dtype=bool)
        failed: dict[int, str] = {}
        for row, world in enumerate(worlds):
            try:
                step = self._worlds[world].do(partial(self._worlds[world].advance, actions[row]))
            except FamilyError:
                raise
            except _NotFinite as error:
                failed[int(world)] = str(error)
                continue
            except Exception as error:  # likewise; the other worlds go on
                failed[int(world)] = blame(error)
                continue
            rewards[row], terminated[row], truncated[row] = step
        return Outcome(rewards, None, terminated, failed, truncated)

    def observe(self, worlds: Ids) -> Array:
        """The state observations (N, state_size) of these worlds."""
        if not self._family.state_size:
            raise FamilyError(f"{self._family.name}: its observations are pictures; there are no states")
        return np.stack([self._worlds[world].state for world in worlds])

    def draw(self, worlds: Ids, frames: Frames, size: int) -> None:
        """Draw these worlds into their rows of `frames` (num_worlds, size, size, 3).

        Raises:
            FamilyError: what an environment draws is no picture.
            RenderingUnavailable: it fails to draw.
        """
        for world in worlds:
            try:
                frames[world] = self._worlds[world].do(partial(self._worlds[world].drawn, size))
            except FamilyError:
                raise
            except Exception as error:  # likewise; a tolerant vector env starts anew
                said = f"{self._family.name}: the environment cannot be drawn: {blame(error)}"
                raise RenderingUnavailable(said) from error
        if not self._closes_at_exit:
            # MuJoCo closes its EGL display by a hook set with the first context; hooks run in reverse order.
            atexit.register(self._finalizer)
            self._closes_at_exit = True

    def close(self) -> None:
        """Close the environments and end the threads. May be called twice."""
        self._finalizer()
        atexit.unregister(self._finalizer)


class _Painter:
    """Draws the worlds at one size, when it is told to."""

    def __init__(self, worlds: GymnasiumWorlds, size: int) -> None:
        self._worlds, self._size = worlds, size

    def draw(self, worlds: Ids, frames: Frames) -> None:
        """As of GymnasiumWorlds."""
        self._worlds.draw(worlds, frames, self._size)

    def start(self, worlds: Ids, frames: Frames) -> None:
        """As draw()."""
        self.draw(worlds, frames)

    def finish(self) -> None:
        """Nothing is left to wait for."""

    def gl_strings(self) -> dict[str, str]:
        """Who draws: the environments, with whatever they choose to draw with."""
        return {"back_end": "gymnasium", "vendor": "unknown", "renderer": "the environment's own"}

    def close(self) -> None:
        """The environments are the worlds' to close."""


class _NotFinite(ValueError):
    """What came of a step is no number."""


class _Advance(NamedTuple):
    reward: float
    terminated: bool
    truncated: bool


class _World(JobThread):
    """One environment at a time: made, played, drawn and closed in this thread."""

    def __init__(self, family: GymnasiumFamily) -> None:
        self.state: Array = np.zeros(family.state_size)
        self._family = family
        self._env: gymnasium.Env[Any, Any] | None = None
        self._made_for: int | None = None  # the only task it can play, if there is only one
        self._observation: Any = None
        super().__init__("envs-gymnasium", self._close)

    def do(self, job: Callable[[], Result]) -> Result:
        """Have a job done in the thread, and wait for it."""
        future = self.submit(job)
        result: Result = future.result()
        return result

    def begin(self, task: Task, seed: int) -> None:
        """Start an episode of a task."""
        only = task.index if self._family.env_kwargs(task) else None
        if self._env is None or self._made_for != only:
            self._close()
            self._env = self._made(task)
            self._made_for = only
        try:
            self._observation, _ = self._env.reset(seed=seed, options=self._family.reset_options(task))
            self._observe_state(self._env)
        except BaseException:
            self._close()
            raise

    def advance(self, action: Array) -> _Advance:
        """A step under an action (A,) in [-1, 1]; an environment that fails in it is closed."""
        assert self._env is not None
        try:
            given = (self._middle + self._reach * action).astype(self._actions.dtype)
            self._observation, reward, terminated, truncated, _ = self._env.step(
                given.reshape(self._actions.shape)
            )
            if not math.isfinite(reward):
                raise _NotFinite(f"the reward is {reward}")
            self._observe_state(self._env)
        except BaseException:
            self._close()
            raise
        return _Advance(float(reward), bool(terminated), bool(truncated))

    def drawn(self, size: int) -> Frames:
        """The picture (size, size, 3) of what was observed last; black where nothing was begun."""
        if self._env is None:
            return np.zeros((size, size, 3), dtype=np.uint8)
        picture = self._family.picture(self._env, self._observation)
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            what = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture)
            raise FamilyError(
                f"{self._family.name}: a picture must be uint8 (H, W, 3), not {what[:80]}; "
                "it needs an environment with render_mode='rgb_array', or picture() overridden"
            )
        if picture.shape == (size, size, 3):
            return picture.copy()
        # Each pixel the mean of those that it stands for; Pillow's other filters blur further.
        return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))

    def _made(self, task: Task) -> gymnasium.Env[Any, Any]:
        env, name = self._family.make(task), self._family.name
        low, high = action_bounds(name, env.action_space)
        if len(low) != self._family.action_size:
            raise FamilyError(
                f"{name}: task {task.index} has {len(low)} actions, and the first {self._family.action_size}"
            )
        self._actions: gymnasium.spaces.Box[Any] = env.action_space  # type: ignore[assignment]
        self._middle, self._reach = (high + low) / 2, (high - low) / 2
        return env

    def _observe_state(self, env: gymnasium.Env[Any, Any]) -> None:
        if not (size := self._family.state_size):
            return
        state = np.asarray(self._family.state_observation(env, self._observation), dtype=np.float64)
        if state.shape != (size,):
            raise FamilyError(
                f"{self._family.name}: state_observation has shape {state.shape} in place of {(size,)}"
            )
        if not np.isfinite(state).all():
            raise _NotFinite("the state is not finite")
        self.state = state

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            with contextlib.suppress(Exception):  # of an environment that is given up either way
                env.close()


def _stop(worlds: list[_World]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for world in worlds:
        world.stop()
    for world in worlds:
        world.join(max(0.0, deadline - time.monotonic()))
