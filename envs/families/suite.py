"""The tasks of dm_control's suite, each a family of one task: `dmc:cheetah-run`.

How dm_control's worlds are seeded, stepped and shown is in worlds/kinds/suite.py.
"""

import difflib
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from metaslac.envs.errors import UnknownFamilyError
from metaslac.envs.family import Family, TaskParams
from metaslac.envs.names import SUITE_HORIZON, SUITE_PREFIX


class SuiteFamily(Family):
    """One task of dm_control's suite, to train on and to be tested on: there is nothing to infer.

    A control step is dm_control's own, and so are its rewards; actions in [-1, 1] are stretched to the range
    of each actuator that has one. The model is seen through its camera 0, a quadruped through its camera 2,
    as Dreamer and others do. The state observation is dm_control's, its entries flattened and put one after
    the other in their own order.

    Args:
        name: 'dmc:<domain>-<task>'; suite_names() lists them.
        image_size, action_repeat, observation, frames: as for every family.

    Raises:
        UnknownFamilyError: the suite has no such task.
        FamilyError: an option is out of its range.
    """

    param_names = ()

    def __init__(
        self,
        name: str,
        image_size: int = 64,
        action_repeat: int = 1,
        observation: str = "pixels",
        frames: int = 1,
    ) -> None:
        facts = _facts(name)
        self.name = name
        self.action_size = facts.action_size
        self.state_size = facts.state_size
        self.horizon = facts.horizon
        super().__init__(image_size, action_repeat, observation, frames)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        """The one task, which has no parameters, in either split."""
        return [()], [()]

    def validation_params(self) -> TaskParams:
        """The same task, as there is no other."""
        return [()]


@cache
def suite_names() -> tuple[str, ...]:
    """The names of all tasks of the suite, sorted. Imports dm_control."""
    return tuple(sorted(f"{SUITE_PREFIX}{domain}-{task}" for domain, task in _suite().ALL_TASKS))


class _Facts(NamedTuple):
    action_size: int
    state_size: int
    horizon: int


@cache
def _facts(name: str) -> _Facts:
    if name not in suite_names():
        near = difflib.get_close_matches(name, suite_names(), n=1, cutoff=0.0)[0]
        raise UnknownFamilyError(f"dm_control's suite has no task {name!r}; did you mean {near!r}?")
    world = load_world(name)
    limit: float = world._step_limit
    return _Facts(
        action_size=math.prod(world.action_spec().shape),
        state_size=sum(math.prod(entry.shape) for entry in world.observation_spec().values()),
        horizon=math.ceil(limit) if math.isfinite(limit) else SUITE_HORIZON,
    )


def domain_and_task(name: str) -> tuple[str, str]:
    """The two parts of 'dmc:<domain>-<task>'."""
    domain, task = name.removeprefix(SUITE_PREFIX).split("-", 1)
    return domain, task


def load_world(name: str) -> Any:
    """A dm_control environment; equal ones for equal names."""
    domain, task = domain_and_task(name)
    with _without_warnings():
        # The number matters where the model itself is drawn by chance (lqr).
        world = _suite().load(domain, task, task_kwargs={"random": 0})
    # quadruped-escape would start an OpenGL context of dm_control's, only to hand its terrain to it.
    physics = world.physics
    physics.__class__ = type(type(physics).__name__, (type(physics),), {"contexts": None})
    return world


@cache
def _suite() -> ModuleType:
    """dm_control's suite, imported when first asked for, and without its own way to draw.

    That is not needed, refuses values of MUJOCO_GL that MuJoCo takes, fails where OpenGL is missing, and
    shuts the EGL display of open environments at exit. A program that wants dm_control's own pictures too
    imports dm_control before it asks for a family of the suite.
    """
    asked = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "off"
    try:
        from dm_control import suite
    finally:
        if asked is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = asked
    module: ModuleType = suite
    return module


@contextmanager
def _without_warnings() -> Iterator[None]:
    # The stock cheetah uses a deprecated attribute, and MuJoCo would say so for every world.
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
