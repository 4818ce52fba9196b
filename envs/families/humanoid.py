"""The family of gymnasium's humanoid: walk in a hidden direction, seen obliquely from above.

The model is the one installed with gymnasium; only what is drawn of it is changed here.
"""

import mujoco
import numpy as np

from metaslac.envs.arrays import Array, Flags
from metaslac.envs.families.headings import (
    direction_from,
    directions,
    unit_vectors,
    validation_directions,
)
from metaslac.envs.families.scenery import (
    follow_body,
    gymnasium_spec,
    lay_checker,
    mute_floor,
    sense_contacts,
)
from metaslac.envs.family import Step, Task, TaskFamily, TaskParams
from metaslac.envs.overlay import Overlay
from metaslac.envs.simulation import State


class HumanoidDir(TaskFamily):
    """Walk in a hidden direction (rad). PEARL's family: 100 directions to train on and 30 held out.

    Reward of a control step of 0.015 s: 0.25 * d . (cos direction, sin direction) / 0.003
    - 0.1 * sum(ctrl^2) - min(5e-7 * sum(cfrc_ext^2), 10) + 5, with d the displacement (m) of the centre of
    mass, ctrl the controls, in [-0.4, 0.4], and cfrc_ext the forces and torques on the 14 bodies in the state
    reached. PEARL divides by the physics time step, of which a control step has 5: the first term is 1.25
    times the velocity. Terminates when the torso's height leaves [1, 2] m.

    PEARL's state (376), all of the state reached: positions but for x and y (22), velocities (23), cinert
    (14 * 10), cvel (14 * 6), qfrc_actuator (23), cfrc_ext (14 * 6). The world counts as a body.

    The model is gymnasium's, in which left_hip_y reaches from -110 degrees; in the one PEARL used, from -120.

    Source: katerakelly/oyster, `humanoid_dir`; it draws its directions without a seed, here the seed is 1337.
    Its derived quantities, like gymnasium's, are of one physics step earlier than its positions.
    """

    name = "humanoid_dir"
    param_names = ("direction",)
    params_said = "an angle from 0 to 2 pi"
    action_size = 17
    state_size = 376
    horizon = 200
    frame_skip = 5
    camera = "track"
    reads = ("subtree_com", "ctrl", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        return directions()

    def validation_params(self) -> TaskParams:
        return validation_directions()

    def may_have(self, params: tuple[float, ...]) -> bool:
        return 0.0 <= params[0] <= 2.0 * np.pi

    def model(self) -> mujoco.MjModel:
        return humanoid_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        # The start distribution of gymnasium's Humanoid-v5.
        qpos = model.qpos0 + rng.uniform(-0.01, 0.01, model.nq)
        return qpos, rng.uniform(-0.01, 0.01, model.nv)

    def reward(self, step: Step) -> Array:
        # Row 0 is the world's: everything there is.
        moved = step.after["subtree_com"][:, 0, :2] - step.before["subtree_com"][:, 0, :2]
        physics_seconds = step.seconds / self.frame_skip
        forward: Array = 0.25 * (moved * unit_vectors(step.params)).sum(axis=1) / physics_seconds
        control_cost: Array = 0.1 * np.square(step.after["ctrl"]).sum(axis=1)
        contact_cost: Array = 5e-7 * np.square(step.after["cfrc_ext"]).sum(axis=(1, 2))
        return forward - control_cost - np.minimum(contact_cost, 10.0) + 5.0

    def terminated(self, params: Array, state: State) -> Flags:
        height = state.qpos[:, 2]
        return (height < 1.0) | (height > 2.0)

    def state_observation(self, state: State) -> Array:
        derived = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
        flat = [state[name].reshape(len(state.qpos), -1) for name in derived]
        return np.concatenate([state.qpos[:, 2:], state.qvel, *flat], axis=1)

    def overlay(self, task: Task) -> Overlay:
        return direction_from(task, "torso1")


def humanoid_model() -> mujoco.MjModel:
    """gymnasium's humanoid.xml, its physics untouched, with camera and colours made for small pictures."""
    spec = gymnasium_spec("humanoid.xml")
    sense_contacts(spec)
    mute_floor(spec)
    camera = spec.camera("track")
    camera.pos = [0.0, -2.3, 1.0]
    camera.alt.xyaxes = [1.0, 0.0, 0.0, 0.0, 1.48, 2.3]
    camera.fovy = 36.0
    spec.geom("floor").rgba = [0.55, 0.55, 0.55, 1.0]
    spec.visual.headlight.diffuse = [0.7, 0.7, 0.7]  # the stock light shines straight down, past the legs
    for geom in spec.geoms:
        if geom.name != "floor":
            geom.material = ""
            geom.rgba = _colour(geom.name)
    model = spec.compile()
    follow_body(model, "track")
    lay_checker(model)
    return model


def _colour(geom: str) -> tuple[float, float, float, float]:
    # Left and right apart: a body seen from the front and one seen from behind look alike otherwise.
    if geom.startswith("right"):
        return (0.1, 0.5, 1.0, 1.0)
    if geom.startswith("left"):
        return (1.0, 0.3, 0.1, 1.0)
    return (1.0, 0.8, 0.3, 1.0)
