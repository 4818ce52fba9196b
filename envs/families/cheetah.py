"""The families of gymnasium's half-cheetah, seen from the side: run at a velocity, or in a direction.

The model is the one installed with gymnasium; only what is drawn of it is changed here.
"""

from collections.abc import Sequence

import mujoco
import numpy as np

from metaslac.envs.arrays import Array
from metaslac.envs.families.scenery import (
    BACK_COLOUR,
    FRONT_COLOUR,
    TRUNK_COLOUR,
    follow_body,
    gymnasium_spec,
    lay_checker,
    see_from_side,
)
from metaslac.envs.family import Step, Task, TaskFamily, TaskParams
from metaslac.envs.overlay import Gauge, Heading, Overlay
from metaslac.envs.references import Reference
from metaslac.envs.simulation import State


class CheetahVel(TaskFamily):
    """Run at a hidden velocity (m/s). PEARL's family, with its targets: 100 to train on and 30 held out.

    Reward of a control step of 0.05 s: -|dx/dt - target| - 0.05 * sum(a^2), with x the torso's position.
    Source of reward and targets: katerakelly/oyster, `half_cheetah_vel`, seed 1337.
    """

    name = "cheetah_vel"
    param_names = ("target_velocity",)
    params_said = "a velocity from 0 to 3 m/s"
    action_size = 6
    state_size = 20
    horizon = 200
    frame_skip = 5
    camera = "track"
    reads = ("xpos",)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        targets = np.random.RandomState(1337).uniform(0.0, 3.0, 130)[:, None]
        return targets[:100].tolist(), targets[100:].tolist()

    def validation_params(self) -> TaskParams:
        targets: TaskParams = np.random.RandomState(1338).uniform(0.0, 3.0, 30)[:, None].tolist()
        return targets

    def may_have(self, params: tuple[float, ...]) -> bool:
        return 0.0 <= params[0] <= 3.0

    def references(self, tasks: Sequence[Task]) -> Sequence[Reference]:
        targets = np.array([task.params[0] for task in tasks])
        steady, still = (-self.horizon * np.abs(targets - speed).mean() for speed in (1.5, 0.0))
        return (
            Reference(
                "blind, 1.5 m/s",
                float(steady),
                "that velocity from the first step on, the best that knows no target, its effort not counted",
            ),
            Reference("standing still", float(still), "no velocity and no effort"),
        )

    def model(self) -> mujoco.MjModel:
        return cheetah_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return cheetah_start(model, rng)

    def reward(self, step: Step) -> Array:
        reward: Array = -np.abs(_velocity(step) - step.params[:, 0]) - _effort(step)
        return reward

    def state_observation(self, state: State) -> Array:
        return cheetah_state(state)

    def overlay(self, task: Task) -> Overlay:
        (target,) = task.params
        gauge = Gauge("velocity", target, low=0.0, high=4.0, along=(1.0, 0.0, 0.0))
        return Overlay((gauge,), follows="torso")


class CheetahDir(TaskFamily):
    """Run backward (-1) or forward (+1). PEARL's family: the two directions are trained on and tested on.

    They are the validation tasks as well, as there are no others.

    Reward of a control step of 0.05 s: direction * dx/dt - 0.05 * sum(a^2), with x the torso's position.
    Source of reward and directions: katerakelly/oyster, `half_cheetah_dir`.
    """

    name = "cheetah_dir"
    param_names = ("direction",)
    params_said = "-1 for backward, 1 for forward"
    action_size = 6
    state_size = 20
    horizon = 200
    frame_skip = 5
    camera = "track"
    reads = ("xpos",)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        return self.validation_params(), self.validation_params()

    def validation_params(self) -> TaskParams:
        return [[-1.0], [1.0]]

    def may_have(self, params: tuple[float, ...]) -> bool:
        return abs(params[0]) == 1.0

    def model(self) -> mujoco.MjModel:
        return cheetah_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return cheetah_start(model, rng)

    def reward(self, step: Step) -> Array:
        reward: Array = step.params[:, 0] * _velocity(step) - _effort(step)
        return reward

    def state_observation(self, state: State) -> Array:
        return cheetah_state(state)

    def overlay(self, task: Task) -> Overlay:
        (direction,) = task.params
        return Overlay((Heading((direction, 0.0), length=0.8),), follows="torso")


def cheetah_start(model: mujoco.MjModel, rng: np.random.Generator) -> tuple[Array, Array]:
    """(qpos, qvel) drawn from the start distribution of gymnasium's HalfCheetah-v5."""
    qpos = model.qpos0 + rng.uniform(-0.1, 0.1, model.nq)
    return qpos, 0.1 * rng.standard_normal(model.nv)


def cheetah_state(state: State) -> Array:
    """PEARL's state (N, 20): positions but for x, velocities, and where the torso is."""
    return np.concatenate([state.qpos[:, 1:], state.qvel, state["xpos"][:, TORSO]], axis=1)


def _velocity(step: Step) -> Array:
    """Mean velocity (N,) of the torso over a control step, m/s."""
    return (step.after.qpos[:, 0] - step.before.qpos[:, 0]) / step.seconds


def _effort(step: Step) -> Array:
    """What the actions cost (N,)."""
    cost: Array = 0.05 * np.square(step.actions).sum(axis=1)
    return cost


TORSO = 1  # the torso's number among the bodies


_LEGS = {"f": FRONT_COLOUR, "b": BACK_COLOUR}


def cheetah_model() -> mujoco.MjModel:
    """gymnasium's half_cheetah.xml, its physics untouched, with camera and floor made for small pictures."""
    spec = gymnasium_spec("half_cheetah.xml")
    limbs = {f"{side}{limb}": colour for side, colour in _LEGS.items() for limb in ("thigh", "shin", "foot")}
    see_from_side(spec, (0.0, -3.0, 0.35), 40.0, {**limbs, "": TRUNK_COLOUR})
    # `settotalmass` is deprecated and MuJoCo says so at every compilation: do by hand what it does.
    total_mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    model = spec.compile()
    mujoco.mj_setTotalmass(model, total_mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    follow_body(model, "track")
    # One period of the checker is 2 m: unambiguous up to 5 m/s at an action repeat of 4.
    lay_checker(model)
    return model
