"""The families of gymnasium's ant: go to a goal or in a direction, seen obliquely from above.

The model is the one installed with gymnasium; only what is drawn of it is changed here.
"""

import math

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
from metaslac.envs.overlay import Goal, Overlay
from metaslac.envs.simulation import State


class AntGoal(TaskFamily):
    """Go to a hidden goal (m) in a disc of radius 3. PEARL's family: 150 goals to train on and 30 held out.

    Reward of a control step of 0.05 s, in the state reached: -|x - goal_x| - |y - goal_y| - 0.1 * sum(a^2)
    - 5e-4 * sum(clip(cfrc_ext, -1, 1)^2), with x, y the torso's position and cfrc_ext the forces and torques
    on the 14 bodies. Never terminates. PEARL's state (113): positions (15), velocities (14), clipped
    cfrc_ext (14 * 6). Source: katerakelly/oyster, `ant_goal`; it draws its goals without a seed, these are
    drawn as there with seed 1337. Its cfrc_ext, like gymnasium's, is of one physics step earlier.

    The camera follows the ant, so the colour of the floor tells where it is: see `draw_map`.
    """

    name = "ant_goal"
    param_names = ("goal_x", "goal_y")
    params_said = "a goal (m) in a disc of radius 3"
    action_size = 8
    state_size = 113
    horizon = 200
    frame_skip = 5
    camera = "track"
    reads = ("cfrc_ext",)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        goals = draw_goals(1337, 180)
        return goals[:150], goals[150:]

    def validation_params(self) -> TaskParams:
        return draw_goals(1338, 30)

    def may_have(self, params: tuple[float, ...]) -> bool:
        return math.hypot(*params) <= 3.0

    def model(self) -> mujoco.MjModel:
        spec = ant_spec()
        plan_map(spec)
        model = ant_model(spec)
        draw_map(model)
        return model

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return ant_start(model, rng)

    def reward(self, step: Step) -> Array:
        away: Array = np.abs(step.after.qpos[:, :2] - step.params).sum(axis=1)
        effort: Array = np.square(step.actions).sum(axis=1)
        return -away - 0.1 * effort - contact_cost(step.after)

    def state_observation(self, state: State) -> Array:
        forces = clipped_forces(state).reshape(len(state.qpos), -1)
        return np.concatenate([state.qpos, state.qvel, forces], axis=1)

    def overlay(self, task: Task) -> Overlay:
        goal_x, goal_y = task.params
        return Overlay((Goal((goal_x, goal_y)),), follows="torso_geom", trail=True)


class AntDir(TaskFamily):
    """Run in a hidden direction (rad). PEARL's family, with 100 directions to train on and 30 held out.

    Reward of a control step of 0.05 s: v . (cos direction, sin direction) - 0.5 * sum(a^2)
    - 5e-4 * sum(clip(cfrc_ext, -1, 1)^2) + 1, with v the torso's displacement per second and cfrc_ext the
    forces and torques on the 14 bodies in the state reached. Terminates when the torso's height leaves
    [0.2, 1] m. PEARL's state (27): positions but for x and y (13), velocities (14).

    Source of the reward: katerakelly/oyster, `ant_dir`. Its tasks as shipped are another matter: two random
    directions, drawn without a seed, that are trained on and tested on alike (or forward and back, which no
    configuration there asks for). The 130 directions here are uniform in the circle, with seed 1337.
    """

    name = "ant_dir"
    param_names = ("direction",)
    params_said = "an angle from 0 to 2 pi"
    action_size = 8
    state_size = 27
    horizon = 200
    frame_skip = 5
    camera = "track"
    reads = ("cfrc_ext",)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        return directions()

    def validation_params(self) -> TaskParams:
        return validation_directions()

    def may_have(self, params: tuple[float, ...]) -> bool:
        return 0.0 <= params[0] <= 2.0 * np.pi

    def model(self) -> mujoco.MjModel:
        spec = ant_spec()
        spec.geom("floor").rgba = [0.55, 0.55, 0.55, 1.0]  # no white: one leg is
        model = ant_model(spec)
        lay_checker(model)
        return model

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return ant_start(model, rng)

    def reward(self, step: Step) -> Array:
        velocity = (step.after.qpos[:, :2] - step.before.qpos[:, :2]) / step.seconds
        forward: Array = (velocity * unit_vectors(step.params)).sum(axis=1)
        effort: Array = np.square(step.actions).sum(axis=1)
        return forward - 0.5 * effort - contact_cost(step.after) + 1.0

    def terminated(self, params: Array, state: State) -> Flags:
        height = state.qpos[:, 2]
        finite = np.isfinite(state.qpos).all(axis=1) & np.isfinite(state.qvel).all(axis=1)
        return ~(finite & (height >= 0.2) & (height <= 1.0))

    def state_observation(self, state: State) -> Array:
        return np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)

    def overlay(self, task: Task) -> Overlay:
        return direction_from(task, "torso_geom")


def draw_goals(seed: int, number: int) -> TaskParams:
    """Goals (m), uniform in the disc of radius 3, a row for each."""
    random = np.random.RandomState(seed)
    angle = 2.0 * np.pi * random.random_sample(number)
    radius = 3.0 * np.sqrt(random.random_sample(number))
    goals: TaskParams = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).tolist()
    return goals


def clipped_forces(state: State) -> Array:
    """cfrc_ext (N, 14, 6), N and N m, each entry clipped to [-1, 1]."""
    forces: Array = np.clip(state["cfrc_ext"], -1.0, 1.0)
    return forces


def contact_cost(state: State) -> Array:
    """PEARL's and gymnasium's cost (N,) of the forces on an ant."""
    cost: Array = 5e-4 * np.square(clipped_forces(state)).sum(axis=(1, 2))
    return cost


def ant_start(model: mujoco.MjModel, rng: np.random.Generator) -> tuple[Array, Array]:
    """(qpos, qvel) from the start distribution of gymnasium's Ant-v5."""
    qpos = model.qpos0 + rng.uniform(-0.1, 0.1, model.nq)
    return qpos, 0.1 * rng.standard_normal(model.nv)


def ant_spec() -> mujoco.MjSpec:
    """gymnasium's ant.xml, its physics untouched, with camera and colours made for small pictures."""
    spec = gymnasium_spec("ant.xml")
    sense_contacts(spec)
    mute_floor(spec)
    camera = spec.camera("track")
    camera.pos = [0.0, -2.1, 2.4]
    camera.alt.xyaxes = [1.0, 0.0, 0.0, 0.0, 2.4, 2.1]
    camera.fovy = 48.0
    # The ant looks the same from four sides; without colours, which leg is which could not be seen.
    spec.geom("torso_geom").rgba = TORSO_COLOUR
    for leg, colour in LEG_COLOURS.items():
        for geom in _geoms_below(spec.body(leg)):
            geom.rgba = colour
    return spec


def ant_model(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """The compiled model, its camera following the torso."""
    model = spec.compile()
    follow_body(model, "track")
    return model


# All with much more blue than the floor of ant_goal ever has.
TORSO_COLOUR = (0.6, 0.6, 1.0, 1.0)
LEG_COLOURS = {
    "front_left_leg": (1.0, 1.0, 1.0, 1.0),
    "front_right_leg": (0.1, 0.2, 1.0, 1.0),
    "back_leg": (1.0, 0.1, 1.0, 1.0),
    "right_back_leg": (0.1, 1.0, 1.0, 1.0),
}

MAP_REACH_METRES = 6.0  # the colours tell places apart up to here, along x and along y
MAP_HALF_LENGTH_METRES = 80.0  # more than an ant can run in an episode
_MAP_PIXELS = 1024


def plan_map(spec: mujoco.MjSpec) -> None:
    """Make room for a floor with colours that tell the place; draw_map fills it in."""
    flat, size = mujoco.mjtBuiltin.mjBUILTIN_FLAT, _MAP_PIXELS
    kind = mujoco.mjtTexture.mjTEXTURE_2D
    spec.add_texture(name="map", type=kind, builtin=flat, width=size, height=size)
    material = spec.material("MatPlane")
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB.value] = "map"
    material.texrepeat = [1.0, 1.0]
    floor = spec.geom("floor")
    floor.size[:2] = MAP_HALF_LENGTH_METRES
    floor.rgba = [0.65, 0.65, 0.65, 1.0]  # lit fully, still no channel saturates


def draw_map(model: mujoco.MjModel) -> None:
    """Colour the floor by place.

    Red grows with x and green with y, linearly from -6 to 6 m and constant beyond; blue is a checker with
    squares of 1 m, for the motion to be seen at any place.
    """
    metres = MAP_HALF_LENGTH_METRES * ((np.arange(_MAP_PIXELS) + 0.5) * 2.0 / _MAP_PIXELS - 1.0)
    place = 0.05 + 0.9 * np.clip(0.5 + 0.5 * metres / MAP_REACH_METRES, 0.0, 1.0)
    square = np.floor(metres).astype(np.int64)
    picture = np.zeros((_MAP_PIXELS, _MAP_PIXELS, 3))  # the first row at the far end of y, as in a picture
    picture[:, :, 0] = place
    picture[:, :, 1] = place[::-1, None]
    picture[:, :, 2] = np.where((square + square[:, None]) % 2 == 0, 0.02, 0.4)
    start = model.texture("map").adr[0]
    model.tex_data[start : start + picture.size] = np.round(255.0 * picture).astype(np.uint8).ravel()


def _geoms_below(body: mujoco.MjsBody) -> list[mujoco.MjsGeom]:
    below = [geom for child in body.bodies for geom in _geoms_below(child)]
    return [*body.geoms, *below]
