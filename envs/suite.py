"""The tasks of dm_control's suite, each a family of one task: `dmc:cheetah-run`.

Physics, starts and rewards are dm_control's own; here is how its worlds are seeded, stepped and shown.
"""

import difflib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import mujoco
import numpy as np

from envs.arrays import Array, Flags, Ids
from envs.errors import UnknownFamilyError
from envs.family import Family, Task, TaskParams
from envs.worlds import Outcome, PictureSource

PREFIX = "dmc:"
CAMERAS = {"quadruped": 2}  # elsewhere 0; from its camera 0 a quadruped is ten pixels wide
ENDLESS_HORIZON = 1000  # control steps, where dm_control sets no time limit; those of its other tasks
FLOOR_CONTRAST = 3.0  # times the stock checker's, which hides motion of less than 0.1 m between two pictures


class SuiteFamily(Family):
    """One task of dm_control's suite, to train on and to be tested on: there is nothing to infer.

    A control step is dm_control's own, and so are its rewards; actions in [-1, 1] are stretched to the range
    of each actuator that has one. The model is seen through its camera 0, a quadruped through its camera 2,
    as Dreamer and others do. The state observation is dm_control's, its entries flattened and put one after
    the other in their own order.

    Args:
        name: 'dmc:<domain>-<task>'; suite_names() lists them.
        image_size, action_repeat, observation: as for every family.

    Raises:
        UnknownFamilyError: the suite has no such task.
        FamilyError: an option is out of its range.
    """

    param_names = ()

    def __init__(
        self, name: str, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels"
    ) -> None:
        facts = _facts(name)
        self.name = name
        self.action_size = facts.action_size
        self.state_size = facts.state_size
        self.horizon = facts.horizon
        super().__init__(image_size, action_repeat, observation)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        """The one task, which has no parameters, in either split."""
        return [()], [()]

    def make_worlds(self, num_worlds: int, threads: int) -> "SuiteWorlds":
        """`num_worlds` worlds to step; dm_control's are stepped on one thread whatever `threads` says."""
        return SuiteWorlds(self.name, num_worlds)


class SuiteWorlds:
    """Worlds of dm_control, one after the other, each with a model of its own: tasks edit it in an episode.

    They are also the source of their pictures. A world's episode depends on nothing but its generator.
    """

    def __init__(self, name: str, num_worlds: int) -> None:
        from dm_control.rl import control

        self._worlds = [_load(name) for _ in range(num_worlds)]
        self._physics_error: type[Exception] = control.PhysicsError
        self._flatten = control.flatten_observation
        first = self._worlds[0]
        self.camera_id = CAMERAS.get(_domain_and_task(name)[0], 0)
        self.control_seconds = float(first.control_timestep())
        self._substeps = round(self.control_seconds / first.physics.timestep())
        self._action_middle, self._action_reach = _stretch(first.action_spec())
        _raise_contrast(self.model)

    @property
    def pictures(self) -> PictureSource:
        """What to draw: these worlds themselves."""
        return self

    @property
    def model(self) -> mujoco.MjModel:
        """Whose textures and meshes are drawn; in these, all worlds are alike."""
        model: mujoco.MjModel = self._worlds[0].physics.model.ptr
        return model

    def scratch(self) -> mujoco.MjData:
        """Nothing that show() needs."""
        return mujoco.MjData(self.model)

    def show(self, world: int, scratch: mujoco.MjData) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The world's own model and state."""
        physics = self._worlds[world].physics
        return physics.model.ptr, physics.data.ptr

    def reset(self, worlds: Ids, tasks: Sequence[Task], generators: Sequence[np.random.Generator]) -> None:
        """Start an episode in each of these worlds, all chance drawn from a seed that its generator gives."""
        for world, generator in zip(worlds, generators, strict=True):
            task, physics = self._worlds[world].task, self._worlds[world].physics
            task.random.seed(generator.integers(2**32, size=8, dtype=np.uint32))
            with physics.reset_context():
                task.initialize_episode(physics)

    def step(self, worlds: Ids, actions: Array) -> Outcome:
        """One control step of these worlds (rising order) under actions (N, A) in [-1, 1]."""
        rewards: Array = np.zeros(len(worlds))
        terminated: Flags = np.zeros(len(worlds), dtype=bool)
        failed: dict[int, str] = {}
        controls = self._action_middle + self._action_reach * actions
        for row, world in enumerate(worlds):
            try:
                reward, ended = self._advance(self._worlds[world], controls[row])
            except self._physics_error as error:
                failed[int(world)] = str(error)
                continue
            if math.isfinite(reward) and self._is_finite(world):
                rewards[row], terminated[row] = reward, ended
            else:
                failed[int(world)] = "the state is not finite"
        return Outcome(rewards, None, terminated, failed)

    def observe(self, worlds: Ids) -> Array:
        """The state observations (N, state_size) of these worlds."""
        return np.stack([self._observed(self._worlds[world]) for world in worlds])

    def _advance(self, world: Any, control: Array) -> tuple[float, bool]:
        # What dm_control's Environment.step does, but for its time limit, which is the vector env's business,
        # for starting the next episode on its own, and for an observation that nobody may ask for.
        task, physics = world.task, world.physics
        task.before_step(control, physics)
        physics.step(self._substeps)
        task.after_step(physics)
        return float(task.get_reward(physics)), task.get_termination(physics) == 0.0

    def _is_finite(self, world: int) -> bool:
        data = self._worlds[world].physics.data.ptr
        return bool(np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all())

    def _observed(self, world: Any) -> Array:
        observation = self._flatten(world.task.get_observation(world.physics))
        state: Array = observation["observations"]
        return state


def suite_family(
    name: str, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels"
) -> Family:
    """The family of the suite's task `name`; raises UnknownFamilyError if there is none."""
    return SuiteFamily(name, image_size, action_repeat, observation)


@cache
def suite_names() -> tuple[str, ...]:
    """The names of all tasks of the suite, sorted. Imports dm_control."""
    return tuple(sorted(f"{PREFIX}{domain}-{task}" for domain, task in _suite().ALL_TASKS))


class _Facts(NamedTuple):
    action_size: int
    state_size: int
    horizon: int


@cache
def _facts(name: str) -> _Facts:
    if name not in suite_names():
        near = difflib.get_close_matches(name, suite_names(), n=1, cutoff=0.0)[0]
        raise UnknownFamilyError(f"dm_control's suite has no task {name!r}; did you mean {near!r}?")
    world = _load(name)
    limit: float = world._step_limit
    return _Facts(
        action_size=math.prod(world.action_spec().shape),
        state_size=sum(math.prod(entry.shape) for entry in world.observation_spec().values()),
        horizon=math.ceil(limit) if math.isfinite(limit) else ENDLESS_HORIZON,
    )


def _domain_and_task(name: str) -> tuple[str, str]:
    domain, task = name.removeprefix(PREFIX).split("-", 1)
    return domain, task


def _load(name: str) -> Any:
    """A dm_control environment; equal ones for equal names."""
    domain, task = _domain_and_task(name)
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


def _stretch(spec: Any) -> tuple[Array, Array]:
    """Middle and reach of the action range (A,); [-1, 1] for an actuator without a range."""
    limited = (spec.minimum > -mujoco.mjMAXVAL) & (spec.maximum < mujoco.mjMAXVAL)
    low, high = np.where(limited, spec.minimum, -1.0), np.where(limited, spec.maximum, 1.0)
    return (high + low) / 2, (high - low) / 2


def _raise_contrast(model: mujoco.MjModel) -> None:
    """Rescale the floor's checker about its mean colour."""
    texture = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_TEXTURE, "grid")
    if texture < 0:
        return
    channels = model.tex_nchannel[texture]
    first, size = model.tex_adr[texture], model.tex_height[texture] * model.tex_width[texture] * channels
    texels = model.tex_data[first : first + size].reshape(-1, channels)
    mean = texels.mean(axis=0)
    texels[:] = np.clip(np.rint(mean + FLOOR_CONTRAST * (texels - mean)), 0, 255)
