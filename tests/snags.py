"""Families and drawing that hang when a test says so."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.family import Step
from metaslac.envs.worlds import supervision
from metaslac.envs.worlds.supervision import SupervisedVectorEnv

LONG, SHORT = 60.0, 0.3  # seconds: for what works on a busy machine, and for what hangs anyway


PUSH = np.full((3, 2), 0.5)


class Snag:
    """Something that hangs in each of its next `times` calls until it is let go.

    Only those calls are waited for shortly: all that works has a minute, however busy the machine.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._released = threading.Event()
        self._left = 0

    def set(self, times: int = 1) -> None:
        self._left = times
        self._monkeypatch.setattr(supervision, "STEP_SECONDS", SHORT)

    def __call__(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self._monkeypatch.setattr(supervision, "STEP_SECONDS", LONG)
            self._released.wait(LONG)

    def release(self) -> None:
        self._left = 0
        self._released.set()


class Snagging(PointRobot):
    """A point robot some of whose hooks do something else first."""

    name = "snagging"

    def __init__(self, **hooks: Callable[[], None]) -> None:
        super().__init__(image_size=32)
        self.hooks = hooks

    def model(self) -> Any:
        self._first("model")
        return super().model()

    def start_state(self, *arguments: Any) -> Any:
        start = super().start_state(*arguments)
        self._first("start_state")
        return start

    def reward(self, step: Step) -> Any:
        self._first("reward")
        return super().reward(step)

    def _first(self, hook: str) -> None:
        if hook in self.hooks:
            self.hooks[hook]()


def make(family: envs.Family, num_envs: int = 3) -> SupervisedVectorEnv:
    env = envs.make_vector_env(family, num_envs, threads=2, tolerant=True)
    assert isinstance(env, SupervisedVectorEnv)
    return env


def same(first: Any, second: Any) -> None:
    """Both are equal bit for bit, whatever they are made of."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = tuple(first.values()), tuple(second.values())
    if isinstance(first, tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same(one, other)
    else:
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


def lost(result: Any, frames: np.ndarray, worlds: list[bool]) -> None:
    """A step that failed has these results and no others."""
    truncated = np.array(worlds)
    nothing, whole = np.zeros(len(worlds)), np.zeros(len(worlds), dtype=np.int64)
    info = {"control_steps": whole, "lost": truncated}
    same(result, (frames, nothing, np.zeros(len(worlds), dtype=bool), truncated, info))
