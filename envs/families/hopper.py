"""The family of gymnasium's hopper: masses, inertias, damping and friction are hidden.

How they are drawn and applied, and what it shares with the walker, is in random_params.py.
"""

import mujoco
import numpy as np

from metaslac.envs.arrays import Array, Flags
from metaslac.envs.families.random_params import (
    BASES,
    EXPONENT_LIMIT,
    draw_exponents,
    draw_validation_exponents,
    forward_reward,
    parameter_names,
    pearl_state,
    randomised_fields,
    start_near_rest,
    stock_model,
    unusual_params,
)
from metaslac.envs.family import Step, Task, TaskFamily, TaskParams
from metaslac.envs.overlay import Overlay
from metaslac.envs.simulation import State

_LIMBS = ("thigh", "leg", "foot")


class HopperRandParams(TaskFamily):
    """Hop ahead with a body whose dynamics are hidden. PEARL's family: 40 tasks to train on, 10 held out.

    A task is 41 exponents u ~ U(-3, 3), one for every number of the model's body_mass, body_inertia,
    dof_damping and geom_friction; each is its nominal value times 1.5^u, or 1.3^u for damping. 34 of them
    matter: the world body has no mass and the root joints have no damping.

    Reward of a control step of 0.016 s: dx/dt + 1 - 0.001 * sum(a^2). An episode ends for good when the
    torso sinks to 0.7 m, leans by 0.2 rad, or any number of the state but x and z reaches 100.

    Source: katerakelly/oyster, `hopper_rand_params`, on dennisl88/rand_param_envs. Unlike there, the model's
    constants that follow from mass and inertia are computed anew for each task (mj_setConst); PEARL's code
    left them nominal, so contacts and joint limits react a little differently.
    """

    name = "hopper_rand_params"
    param_names = parameter_names(
        bodies=("world", "torso", *_LIMBS),
        dofs=("rootx", "rootz", "rooty", *(f"{limb}_joint" for limb in _LIMBS)),
        geoms=("floor", "torso_geom", *(f"{limb}_geom" for limb in _LIMBS)),
    )
    params_said = "exponents from -3 to 3"
    action_size = 3
    state_size = 11
    horizon = 200
    frame_skip = 4
    camera = "track"
    randomises = tuple(BASES)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        return draw_exponents(len(self.param_names))

    def validation_params(self) -> TaskParams:
        return draw_validation_exponents(len(self.param_names))

    def may_have(self, params: tuple[float, ...]) -> bool:
        return all(abs(value) <= EXPONENT_LIMIT for value in params)

    def model(self) -> mujoco.MjModel:
        return stock_model("hopper.xml", camera=(-0.1, -3.0, -0.15), fovy=34.0)

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return start_near_rest(model, rng)

    def reward(self, step: Step) -> Array:
        return forward_reward(step)

    def terminated(self, params: Array, state: State) -> Flags:
        height, angle = state.qpos[:, 1], state.qpos[:, 2]
        rest = np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)
        bounded = np.isfinite(state.qpos).all(axis=1) & (np.abs(rest) < 100.0).all(axis=1)
        upright: Flags = bounded & (height > 0.7) & (np.abs(angle) < 0.2)
        return ~upright

    def task_model(self, model: mujoco.MjModel, task: Task) -> dict[str, Array]:
        return randomised_fields(model, task)

    def state_observation(self, state: State) -> Array:
        return pearl_state(state)

    def overlay(self, task: Task) -> Overlay:
        return unusual_params(self.param_names, task)
