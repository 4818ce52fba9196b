"""A vector env for long runs: one that hangs, or that OpenGL fails, is replaced and its episodes are lost.

What is played is the business of vector_env.py, and a driver that hangs is first noticed in pixels/.
"""

import copy
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from metaslac.envs.arrays import Array, Flags, Frames
from metaslac.envs.errors import FamilyError, RenderingUnavailable
from metaslac.envs.family import Task
from metaslac.envs.pixels.job_thread import JobThread
from metaslac.envs.worlds.arguments import Seed
from metaslac.envs.worlds.live import refuse_to_be_copied
from metaslac.envs.worlds.protocol import Worlds
from metaslac.envs.worlds.vector_env import Observations, Remains, TaskVectorEnv

STEP_SECONDS = 90.0  # longer than rendering.DRAW_SECONDS, for drawing's own error says more
MAKE_SECONDS = 300.0  # drawing threads start one after the other
CLOSE_SECONDS = 10.0
MOST_RESTARTS = 3  # without a step in between

Result = TypeVar("Result")

_STANDARD_LIBRARY = Path(threading.__file__).parent


class _Hung(FamilyError):
    """A call did not return in time."""


_FAULTS = (RenderingUnavailable, _Hung)  # for which an env is replaced


class SupervisedVectorEnv(VectorEnv[Observations, Array, npt.NDArray[Any]]):
    """A TaskVectorEnv, and a new one in its place whenever a call of it hangs or cannot draw.

    It lives in a thread of its own. The episodes that were running in a replaced env are lost: their worlds
    are truncated, as they were last seen, until they are reset. All else is carried over: tasks, flags and
    generators. Nothing changes as long as nothing fails.

    Args:
        make: makes the env; called again for each one that takes its place, in another thread.

    Attributes:
        restarts: how many envs were replaced.
        last_fault: why the last one was, in one line; '' if none was.

    Raises:
        FamilyError: the first env does not come to be; other errors of `make` as they are.
    """

    __reduce_ex__ = refuse_to_be_copied

    def __init__(self, make: Callable[[], TaskVectorEnv]) -> None:
        self.restarts = 0
        self.last_fault = ""
        self._make = make
        self._faults_in_a_row = 0
        self._over = ""  # why there is no env to call
        self._start()
        env = self._env
        self.family = env.family
        self.num_envs = env.num_envs
        self.single_observation_space = env.single_observation_space
        self.single_action_space = env.single_action_space
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        self.metadata = env.metadata
        self.render_mode = env.render_mode

    @property
    def worlds(self) -> Worlds:
        """The worlds of the env that is there now."""
        return self._env.worlds

    @property
    def tasks(self) -> tuple[Task | None, ...]:
        """The task of each world; None where a world was never reset."""
        return self._env.tasks

    @property
    def params(self) -> Array:
        """The true task parameters (num_envs, P). Zero before reset."""
        return self._env.params

    @property
    def renderer(self) -> dict[str, str]:
        """Who draws: `back_end`, and OpenGL's `vendor` and `renderer`."""
        env = self._env
        return self._call("asking for the renderer", lambda: env.renderer)

    def reset(
        self, *, seed: Seed | Sequence[Seed] = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """As TaskVectorEnv.reset, made again with the same arguments if the env has to be replaced.

        Generators among the seeds start from where they were; a new env draws from copies of them.

        Returns:
            observations and info, which may have "lost", bool (num_envs,): the running worlds that were not
            to be reset and whose episodes were lost.

        Raises:
            FamilyError: as TaskVectorEnv.reset, or the env was given up.
            RenderingUnavailable: the env was given up because OpenGL does not draw.
        """
        lost: Flags = np.zeros(self.num_envs, dtype=bool)
        while True:
            env, remains = self._env, self._env.remains()
            # Copied together: a seed may be a world's generator, or that of several worlds.
            generators, again = copy.deepcopy((remains.generators, seed))
            try:
                observations, info = self._call("reset", partial(env.reset, seed=seed, options=options))
                break
            except _FAULTS as fault:
                lost |= self._replace(replace(remains, generators=generators), fault)
                seed = again
        mask = (options or {}).get("reset_mask")
        lost[slice(None) if mask is None else mask] = False
        return observations, {**info, "lost": lost} if lost.any() else info

    def step(self, actions: Array) -> tuple[Observations, Array, Flags, Flags, dict[str, Any]]:
        """As TaskVectorEnv.step, unless the env has to be replaced.

        Returns:
            as TaskVectorEnv.step. In a step that failed, info has "lost", bool (num_envs,): the worlds that
            were running. They are truncated, with their last observations and states, reward 0 and no
            control steps.

        Raises:
            FamilyError: as TaskVectorEnv.step, or the env was given up.
            RenderingUnavailable: the env was given up because OpenGL does not draw.
        """
        env, remains = self._env, self._env.remains()
        try:
            result = self._call("step", partial(env.step, actions))
        except _FAULTS as fault:
            # Copied: whatever hangs may yet go on.
            generators = copy.deepcopy(remains.generators)
            lost = self._replace(replace(remains, generators=generators), fault)
            info: dict[str, Any] = {"control_steps": np.zeros(self.num_envs, dtype=np.int64), "lost": lost}
            if remains.states is not None:
                info["state"] = remains.states
            rewards: Array = np.zeros(self.num_envs)
            return remains.observations, rewards, remains.terminated, remains.truncated | lost, info
        if result[-1]["control_steps"].any():
            self._faults_in_a_row = 0
        return result

    def render(self) -> tuple[Frames, ...]:
        """The current picture of every world. No env is replaced here, and errors are raised as they are.

        Where states are observed, a lost world has no picture of its own: one that was not begun is shown.
        """
        return self._call("render", self._env.render)

    def close_extras(self, **kwargs: Any) -> None:
        """Free OpenGL contexts and threads; waits for them, but not long."""
        host: _Host | None = getattr(self, "_host", None)  # not there if the first env could not be made
        if host is not None and not self._over:
            self._over = "the environment was closed"
            host.close()

    @property
    def _env(self) -> TaskVectorEnv:
        if self._over:
            raise FamilyError(self._over)
        assert self._host.env is not None
        return self._host.env

    def _call(self, what: str, job: Callable[[], Result]) -> Result:
        return self._host.call(what, job, STEP_SECONDS)

    def _start(self) -> None:
        host = _Host(self._make)
        try:
            host.call("making the environment", host.start, MAKE_SECONDS)
        except BaseException:
            host.stop()
            raise
        self._host = host
        self._finalizer = weakref.finalize(self, host.stop)
        self._finalizer.atexit = False  # drawing sees to what must be freed at exit

    def _replace(self, remains: Remains, fault: FamilyError) -> Flags:
        """A new env in the place of one that failed; which worlds (num_envs,) have lost an episode."""
        self._finalizer.detach()
        self._host.stop()
        while True:
            self.last_fault = self._over = str(fault)
            self._faults_in_a_row += 1
            if self._faults_in_a_row > MOST_RESTARTS:
                kind = RenderingUnavailable if isinstance(fault, RenderingUnavailable) else FamilyError
                times = f"failed {self._faults_in_a_row} times without a step in between"
                self._over = f"{self.family.name}: the environment {times}, at last: {fault}"
                raise kind(self._over) from fault
            self.restarts += 1
            try:
                self._start()
            except _FAULTS as another:
                fault = another
                continue
            self._over = ""
            return self._env.inherit(remains)


class _Host(JobThread):
    """A thread in which an env is made, used and closed."""

    def __init__(self, make: Callable[[], TaskVectorEnv]) -> None:
        self._make = make
        self.env: TaskVectorEnv | None = None
        super().__init__("envs-supervised", self._close_env)

    def call(self, what: str, job: Callable[[], Result], seconds: float) -> Result:
        """What `job` returns or raises; _Hung if it does neither in time."""
        future: Future[Result] = self.submit(job)
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():  # so the error was the job's own, or it was finished just now
                return future.result()
            raise _Hung(f"{what} did not return within {seconds:g} s{self._where()}") from None

    def start(self) -> None:
        """The first job: make the env."""
        self.env = self._make()

    def close(self) -> None:
        """As stop(), and wait for it, but not for an env that hangs."""
        self.stop()
        self.join(CLOSE_SECONDS)

    def _close_env(self) -> None:
        if self.env is not None:
            self.env.close()

    def _where(self) -> str:
        frame = sys._current_frames().get(self.ident or 0)
        if frame is None:
            return ": its thread has died"
        while frame.f_back is not None and Path(frame.f_code.co_filename).parent == _STANDARD_LIBRARY:
            frame = frame.f_back  # whoever waits for a lock is told, not the lock
        code = frame.f_code
        return f": it is in {code.co_name} ({Path(code.co_filename).name}, line {frame.f_lineno})"
