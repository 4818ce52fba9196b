"""The families of gymnasium's half-cheetah: run at a target velocity, seen from the side.

The model is the one installed with gymnasium; only what is drawn of it is changed here.
"""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from envs.arrays import Array
from envs.family import Step, Task, TaskFamily, TaskParams
from envs.simulation import State


class CheetahVel(TaskFamily):
    """Run at a hidden velocity (m/s). PEARL's family, with its targets: 100 to train on and 30 held out.

    Reward of a control step of 0.05 s: -|dx/dt - target| - 0.05 * sum(a^2), with x the torso's position.
    Source of reward and targets: katerakelly/oyster, `half_cheetah_vel`, seed 1337.
    """

    name = "cheetah_vel"
    param_names = ("target_velocity",)
    action_size = 6
    state_size = 20
    horizon = 200
    frame_skip = 5
    camera = "track"
    reads = ("xpos",)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        targets = np.random.RandomState(1337).uniform(0.0, 3.0, 130)[:, None]
        return targets[:100].tolist(), targets[100:].tolist()

    def model(self) -> mujoco.MjModel:
        return cheetah_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        # The start distribution of gymnasium's HalfCheetah-v5.
        qpos = model.qpos0 + rng.uniform(-0.1, 0.1, model.nq)
        return qpos, 0.1 * rng.standard_normal(model.nv)

    def reward(self, step: Step) -> Array:
        velocity = (step.after.qpos[:, 0] - step.before.qpos[:, 0]) / step.seconds
        cost = 0.05 * np.square(step.actions).sum(axis=1)
        reward: Array = -np.abs(velocity - step.params[:, 0]) - cost
        return reward

    def state_observation(self, state: State) -> Array:
        return cheetah_state(state)


def cheetah_state(state: State) -> Array:
    """PEARL's state (N, 20): positions but for x, velocities, and where the torso is."""
    return np.concatenate([state.qpos[:, 1:], state.qvel, state["xpos"][:, TORSO]], axis=1)


TORSO = 1  # the torso's number among the bodies


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
