"""PEARL's randomised bodies: from a task's numbers to fields of the MuJoCo model, and what the bodies share.

Walker and hopper themselves are in walker.py and hopper.py; writing the fields is simulation.py's business.
"""

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from metaslac.envs.arrays import Array
from metaslac.envs.families.scenery import (
    BACK_COLOUR,
    FRONT_COLOUR,
    follow_body,
    gymnasium_spec,
    lay_checker,
    see_from_side,
)
from metaslac.envs.family import Step, Task, TaskParams
from metaslac.envs.overlay import Overlay
from metaslac.envs.simulation import State

# The fields of mujoco.MjModel that differ between tasks, in the order in which PEARL's code draws them, and
# what nominal values are multiplied by: base ** exponent, an exponent for each number of the field.
BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
EXPONENT_LIMIT = 3.0
TRAIN_TASKS, TEST_TASKS = 40, 10
TIME_STEP_SECONDS = 0.004  # rand_param_envs'; gymnasium's files say half of it
# A step at 1 m/s moves the floor by 0.016 m. Unambiguous up to 7.8 m/s at an action repeat of 4.
CHECKER_PERIOD_METRES = 1.0
MOST_UNUSUAL = 4  # parameters that people are shown
# What is zero in the nominal model, inertia about axes that no joint turns about, and friction of kinds that
# contacts of these bodies do not have.
_WITHOUT_EFFECT = (":world", ":root", ":x", ":z", ":torsional", ":rolling")
_WORDS = {
    "body_mass": "mass",
    "body_inertia": "inertia",
    "dof_damping": "damping",
    "geom_friction": "friction",
}


def parameter_names(bodies: Sequence[str], dofs: Sequence[str], geoms: Sequence[str]) -> tuple[str, ...]:
    """A name for each exponent, as "body_inertia:torso:x"; the arguments are names in the model's order."""
    return (
        *(f"body_mass:{body}" for body in bodies),
        *(f"body_inertia:{body}:{axis}" for body in bodies for axis in "xyz"),
        *(f"dof_damping:{dof}" for dof in dofs),
        *(f"geom_friction:{geom}:{kind}" for geom in geoms for kind in ("sliding", "torsional", "rolling")),
    )


def draw_exponents(size: int) -> tuple[TaskParams, TaskParams]:
    """Rows of `size` exponents, U(-3, 3), of the training and of the held-out tasks.

    Source: dennisl88/rand_param_envs, `sample_tasks`, as katerakelly/oyster calls it for 40 + 10 tasks. These
    are its draws after numpy is seeded with 1337; oyster itself drew them unseeded.
    """
    rows = _draw_rows(1337, TRAIN_TASKS + TEST_TASKS, size)
    return rows[:TRAIN_TASKS], rows[TRAIN_TASKS:]


def draw_validation_exponents(size: int) -> TaskParams:
    """The same of the validation tasks, as many as held-out ones."""
    return _draw_rows(1338, TEST_TASKS, size)


def randomised_fields(model: mujoco.MjModel, task: Task) -> dict[str, Array]:
    """The randomised fields of `task`: those of the nominal model times base ** exponent, each (n, ...)."""
    fields: dict[str, Array] = {}
    exponents = np.asarray(task.params)
    for name, base in BASES.items():
        nominal: Array = getattr(model, name)
        own, exponents = np.split(exponents, [nominal.size])
        fields[name] = nominal * base ** own.reshape(nominal.shape)
    return fields


def unusual_params(names: Sequence[str], task: Task) -> Overlay:
    """The parameters of a task that are furthest from the nominal model's, as ratios, for people."""
    ratios = [
        (_in_words(name), BASES[name.split(":")[0]] ** exponent)
        for name, exponent in zip(names, task.params, strict=True)
        if not any(part in name for part in _WITHOUT_EFFECT)
    ]
    ratios.sort(key=lambda named: -abs(math.log(named[1])))
    return Overlay(facts=tuple((name, f"x {ratio:.2g}") for name, ratio in ratios[:MOST_UNUSUAL]))


def stock_model(file_name: str, camera: Sequence[float], fovy: float) -> mujoco.MjModel:
    """One of gymnasium's models with rand_param_envs' time step, seen from the side by its camera "track".

    Args:
        file_name: the model file.
        camera: where the camera stands relative to the torso (m).
        fovy: vertical field of view (degrees).
    """
    spec = gymnasium_spec(file_name)
    spec.option.timestep = TIME_STEP_SECONDS
    see_from_side(spec, camera, fovy, {"left_geom": BACK_COLOUR, "geom": FRONT_COLOUR})
    model = spec.compile()
    follow_body(model, "track")
    lay_checker(model, CHECKER_PERIOD_METRES)
    return model


def start_near_rest(model: mujoco.MjModel, rng: np.random.Generator) -> tuple[Array, Array]:
    """The start distribution of gymnasium's Walker2d-v5 and Hopper-v5: (qpos, qvel), each +-0.005."""
    return model.qpos0 + rng.uniform(-5e-3, 5e-3, model.nq), rng.uniform(-5e-3, 5e-3, model.nv)


def forward_reward(step: Step) -> Array:
    """Rewards (N,): dx/dt + 1 - 0.001 * sum(a^2), with x the position along the track."""
    velocity = (step.after.qpos[:, 0] - step.before.qpos[:, 0]) / step.seconds
    reward: Array = velocity + 1.0 - 1e-3 * np.square(step.actions).sum(axis=1)
    return reward


def pearl_state(state: State) -> Array:
    """PEARL's state (N, nq - 1 + nv): positions but for x, and velocities clipped to +-10."""
    return np.concatenate([state.qpos[:, 1:], np.clip(state.qvel, -10.0, 10.0)], axis=1)


def _in_words(name: str) -> str:
    field, part, *_ = name.split(":")
    return f"{_WORDS[field]} of {part}"


def _draw_rows(seed: int, number: int, size: int) -> TaskParams:
    draws = np.random.RandomState(seed).uniform(-EXPONENT_LIMIT, EXPONENT_LIMIT, (number, size))
    rows: TaskParams = draws.tolist()
    return rows
