"""The families of gymnasium's half-cheetah: run at a target velocity, seen from the side.

The model is the one installed with gymnasium; only what is drawn of it is changed here.
"""

from collections.abc import Sequence
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from envs.family import Array, Task, TaskFamily


class CheetahVel(TaskFamily):
    """Run at a hidden velocity (m/s). PEARL's family, with its targets: 100 to train on and 30 held out.

    Reward of a control step of 0.05 s: -|dx/dt - target| - 0.05 * sum(a^2), with x the torso's position.
    Source of reward and targets: katerakelly/oyster, `half_cheetah_vel`, seed 1337.
    """

    name = "cheetah_vel"
    param_names = ("target_velocity",)
    action_size = 6
    horizon = 200
    frame_skip = 5
    camera = "track"

    def task_params(self) -> tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]:
        targets = np.random.RandomState(1337).uniform(0.0, 3.0, 130)[:, None]
        return targets[:100].tolist(), targets[100:].tolist()

    def model(self) -> mujoco.MjModel:
        return cheetah_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        # The start distribution of gymnasium's HalfCheetah-v5.
        qpos = model.qpos0 + rng.uniform(-0.1, 0.1, model.nq)
        return qpos, 0.1 * rng.standard_normal(model.nv)

    def reward(self, params: Array, qpos_before: Array, qpos_after: Array, actions: Array) -> Array:
        velocity = (qpos_after[:, 0] - qpos_before[:, 0]) / CONTROL_STEP_SECONDS
        cost = 0.05 * np.square(actions).sum(axis=1)
        reward: Array = -np.abs(velocity - params[:, 0]) - cost
        return reward


CONTROL_STEP_SECONDS = 0.05


def cheetah_model() -> mujoco.MjModel:
    """gymnasium's half_cheetah.xml, its physics untouched, with camera and floor made for small pictures."""
    spec = mujoco.MjSpec.from_file(str(_XML))
    # `settotalmass` is deprecated and MuJoCo says so at every compilation: do by hand what it does.
    total_mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    model = spec.compile()
    mujoco.mj_setTotalmass(model, total_mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    # Stock cameras follow the centre of mass, which would give away masses if a family changed them.
    model.camera("track").mode[:] = mujoco.mjtCamLight.mjCAMLIGHT_TRACK.value
    _lay_floor(model)
    return model


def _lay_floor(model: mujoco.MjModel) -> None:
    # Long enough that no run leaves it. One period of the checker is 2 m: motion between two pictures is
    # unambiguous below 1 m, which is 5 m/s at an action repeat of 4.
    floor = model.geom("floor")
    half_length = 160.0
    floor.size[:2] = half_length
    model.mat_texrepeat[floor.matid[0]] = 2.0 * half_length / CHECKER_PERIOD_METRES


CHECKER_PERIOD_METRES = 2.0
_XML = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"
