"""The worlds of a TaskFamily: its hooks, with what they return checked, around a simulation.

Pure physics is in simulation.py; dm_control's worlds are in suite.py.
"""

from collections.abc import Sequence
from typing import TypeVar

import mujoco
import numpy as np
import numpy.typing as npt

from metaslac.envs.arrays import Array, Flags, Ids
from metaslac.envs.errors import FamilyError
from metaslac.envs.family import Step, Task, TaskFamily
from metaslac.envs.pixels.rendering import RenderPool, Scene
from metaslac.envs.simulation import Simulation
from metaslac.envs.worlds.protocol import Outcome

Scalar = TypeVar("Scalar", np.float64, np.bool_)


class BatchWorlds:
    """The worlds of a TaskFamily: its hooks around a simulation."""

    def __init__(self, family: TaskFamily, num_worlds: int, threads: int) -> None:
        model = family.model()
        if not isinstance(model, mujoco.MjModel):
            raise FamilyError(
                f"{family.name}: model() must give a mujoco.MjModel, as mujoco.MjModel.from_xml_string(xml) "
                f"does, not {type(model).__name__}"
            )
        camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, family.camera)
        if camera < 0:
            raise FamilyError(f"{family.name}: the model has no camera called {family.camera!r}")
        self._family = family
        self._camera = camera
        self.control_seconds = float(model.opt.timestep) * family.frame_skip
        self.simulation = Simulation(model, num_worlds, threads, family.reads, family.randomises)
        self._params: Array = np.zeros((num_worlds, len(family.param_names)))

    @property
    def scene(self) -> Scene:
        """What is seen of them."""
        return Scene(self.simulation, self._camera)

    def painter(self, size: int, threads: int) -> RenderPool:
        """What draws them through their camera."""
        return RenderPool(*self.scene, size, threads)

    def reset(self, worlds: Ids, tasks: Sequence[Task], generators: Sequence[np.random.Generator]) -> None:
        """Start an episode of a task in each of these worlds, all chance drawn from its generator."""
        family, model = self._family, self.simulation.model
        starts = [
            self._start(family.start_state(model, task, rng), task)
            for task, rng in zip(tasks, generators, strict=True)
        ]
        qpos, qvel = (np.stack(part) for part in zip(*starts, strict=True))
        values = [family.task_model(model, task) for task in tasks]
        if missing := {name for value in values for name in set(family.randomises) - value.keys()}:
            raise FamilyError(f"{family.name}: task_model gives no {', '.join(sorted(missing))}")
        fields = {name: np.stack([value[name] for value in values]) for name in family.randomises}
        self._params[worlds] = [task.params for task in tasks]
        self.simulation.reset(worlds, qpos, qvel, fields)

    def step(self, worlds: Ids, actions: Array) -> Outcome:
        """One control step of these worlds (rising order) under actions (N, A) in [-1, 1]."""
        family, simulation = self._family, self.simulation
        family.apply_action(simulation, worlds, actions)
        before = simulation.states(worlds)
        failed = simulation.step(worlds, family.frame_skip)
        sound = ~np.isin(worlds, list(failed))
        params, after = self._params[worlds[sound]], simulation.states(worlds[sound])
        step = Step(params, actions[sound], before.rows(sound), after, self.control_seconds)
        dense = family.dense_reward(step)
        count = len(after.qpos)
        return Outcome(
            _spread(self._given("reward", family.reward(step), (count,)), sound),
            None if dense is None else _spread(self._given("dense_reward", dense, (count,)), sound),
            _spread(self._given("terminated", family.terminated(params, after), (count,)), sound),
            failed,
        )

    def observe(self, worlds: Ids) -> Array:
        """The state observations (N, state_size) of these worlds."""
        observed = self._family.state_observation(self.simulation.states(worlds))
        return self._given("state_observation", observed, (len(worlds), self._family.state_size))

    def close(self) -> None:
        """Nothing is held."""

    def _start(self, state: tuple[Array, Array], task: Task) -> tuple[Array, Array]:
        model = self.simulation.model
        for part, size in zip(state, (model.nq, model.nv), strict=True):
            self._given(f"start_state of task {task.index}", part, (size,))
        return state

    def _given(self, hook: str, values: npt.NDArray[Scalar], shape: tuple[int, ...]) -> npt.NDArray[Scalar]:
        """What a hook of the family returned, which may be anybody's code; FamilyError if it will not do."""
        if np.shape(values) != shape:
            raise FamilyError(f"{self._family.name}: {hook} has shape {np.shape(values)} in place of {shape}")
        if not np.isfinite(values).all():
            raise FamilyError(f"{self._family.name}: {hook} is not finite")
        return values


def _spread(values: npt.NDArray[Scalar], sound: Flags) -> npt.NDArray[Scalar]:
    """`values` of the sound worlds only to one for every world, zero elsewhere."""
    if sound.all():
        return values
    spread = np.zeros(len(sound), dtype=values.dtype)
    spread[sound] = values
    return spread
