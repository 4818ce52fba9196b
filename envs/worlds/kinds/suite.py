"""Worlds of dm_control's suite: how they are seeded, stepped and shown. Physics and rewards are its own.

Which tasks the suite has, and how they are loaded, is in families/suite.py.
"""

import math
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from metaslac.envs.arrays import Array, Flags, Ids
from metaslac.envs.families.suite import domain_and_task, load_world
from metaslac.envs.family import Task
from metaslac.envs.pixels.rendering import RenderPool, Scene
from metaslac.envs.worlds.protocol import Outcome

CAMERAS = {"quadruped": 2}  # elsewhere 0; from its camera 0 a quadruped is ten pixels wide
FLOOR_CONTRAST = 3.0  # times the stock checker's, which hides motion of less than 0.1 m between two pictures


class SuiteWorlds:
    """Worlds of dm_control, one after the other, each with a model of its own: tasks edit it in an episode.

    They are also the source of their pictures. A world's episode depends on nothing but its generator.
    """

    def __init__(self, name: str, num_worlds: int) -> None:
        from dm_control.rl import control

        self._worlds = [load_world(name) for _ in range(num_worlds)]
        self._physics_error: type[Exception] = control.PhysicsError
        self._flatten = control.flatten_observation
        first = self._worlds[0]
        self._camera = CAMERAS.get(domain_and_task(name)[0], 0)
        self.control_seconds = float(first.control_timestep())
        self._substeps = round(self.control_seconds / first.physics.timestep())
        self._action_middle, self._action_reach = _stretch(first.action_spec())
        _raise_contrast(self.model)

    @property
    def scene(self) -> Scene:
        """What is seen of them: they are its source."""
        return Scene(self, self._camera)

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

    def painter(self, size: int, threads: int) -> RenderPool:
        """What draws them through their camera."""
        return RenderPool(*self.scene, size, threads)

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

    def close(self) -> None:
        """Nothing is held."""

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
