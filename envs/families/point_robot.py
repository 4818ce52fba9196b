"""The families of a point in the plane, seen from above: go to a goal that is not drawn.

The point is a real MuJoCo body, so that it is stepped and drawn like everything else.
"""

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from metaslac.envs.arrays import Array, Ids
from metaslac.envs.family import Step, Task, TaskFamily, TaskParams
from metaslac.envs.overlay import Goal, Overlay
from metaslac.envs.references import Reference
from metaslac.envs.simulation import Simulation, State


class PointRobot(TaskFamily):
    """Reach a hidden goal in [-1, 1]^2. PEARL's family: 80 goals to train on and 20 held out.

    Each control step moves the point by 0.1 * a; there are no walls. Reward: -distance of the new position to
    the goal. Starts are uniform in [-1, 1]^2. Source: katerakelly/oyster, `point-robot`.
    """

    name = "point_robot"
    param_names = ("goal_x", "goal_y")
    params_said = "a goal in [-1, 1]^2"
    action_size = 2
    state_size = 2
    horizon = 20
    frame_skip = 1
    camera = "above"

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        goals = np.random.RandomState(1337).uniform(-1.0, 1.0, (100, 2))
        return goals[:80].tolist(), goals[80:].tolist()

    def validation_params(self) -> TaskParams:
        goals: TaskParams = np.random.RandomState(1338).uniform(-1.0, 1.0, (20, 2)).tolist()
        return goals

    def may_have(self, params: tuple[float, ...]) -> bool:
        return all(abs(value) <= 1.0 for value in params)

    def model(self) -> mujoco.MjModel:
        return point_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return rng.uniform(-1.0, 1.0, model.nq), np.zeros(model.nv)

    def reward(self, step: Step) -> Array:
        return -_distance(step)

    def apply_action(self, simulation: Simulation, worlds: Ids, actions: Array) -> None:
        move_point(simulation, worlds, actions)

    def state_observation(self, state: State) -> Array:
        return state.qpos

    def overlay(self, task: Task) -> Overlay:
        return goal_of_point(task)

    def references(self, tasks: Sequence[Task]) -> Sequence[Reference]:
        if self.action_repeat > 1:
            return ()
        goals = np.array([task.params for task in tasks])
        middles = (np.arange(STARTS) + 0.5) / STARTS * 2.0 - 1.0
        starts = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 1, 2)
        # Each axis by itself: a distance grows with either coordinate's.
        perfect = -distances(starts, goals, goals, self.horizon).sum(0).mean()
        blind = -distances(starts, np.zeros((1, 2)), goals, self.horizon).sum(0).mean()
        source = "computed, the mean over starts in the square"
        return (
            Reference("perfect play", float(perfect), f"straight to the known goal on both axes; {source}"),
            Reference("best blind play", float(blind), f"to the middle, whatever the goal; {source}"),
        )


class SparsePointRobot(TaskFamily):
    """Find a hidden goal on the half circle of radius 1. PEARL's family: 80 goals to train on, 20 held out.

    Starts are at the origin; each control step moves the point by 0.1 * a. Reward: 1 - d if the new position
    is within d <= 0.2 of the goal, else 0; dense reward, to train on: -d. Going to a known goal on both axes
    as fast as each allows earns 13.36 on average over the tasks (11.9 to 14.8), -3.85 by the dense reward.
    Source: katerakelly/oyster, `sparse-point-robot`, seed 1337: 100 angles that are evenly spaced, shuffled.
    These are all; the validation goals have uniform angles instead.
    """

    name = "sparse_point_robot"
    param_names = ("goal_x", "goal_y")
    params_said = "a goal on the half circle of radius 1, to 0.01, y from 0"
    action_size = 2
    state_size = 2
    horizon = 20
    frame_skip = 1
    camera = "above"

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        angles = np.linspace(0.0, np.pi, 100)
        goals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        np.random.RandomState(1337).shuffle(goals)
        return goals[:80].tolist(), goals[80:].tolist()

    def validation_params(self) -> TaskParams:
        angles = np.random.RandomState(1338).uniform(0.0, np.pi, 20)
        goals: TaskParams = np.stack([np.cos(angles), np.sin(angles)], axis=1).tolist()
        return goals

    def may_have(self, params: tuple[float, ...]) -> bool:
        return params[1] >= 0.0 and abs(math.hypot(*params) - 1.0) <= 0.01

    def model(self) -> mujoco.MjModel:
        return point_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        return np.zeros(model.nq), np.zeros(model.nv)

    def reward(self, step: Step) -> Array:
        distance = _distance(step)
        return np.where(distance <= NEAR_ENOUGH, 1.0 - distance, 0.0)

    def dense_reward(self, step: Step) -> Array:
        return -_distance(step)

    def apply_action(self, simulation: Simulation, worlds: Ids, actions: Array) -> None:
        move_point(simulation, worlds, actions)

    def state_observation(self, state: State) -> Array:
        return state.qpos

    def overlay(self, task: Task) -> Overlay:
        return goal_of_point(task, radius=NEAR_ENOUGH)

    def references(self, tasks: Sequence[Task]) -> Sequence[Reference]:
        if self.action_repeat > 1:
            return ()
        goals = np.array([task.params for task in tasks])
        near = distances(np.zeros((1, 2)), goals, goals, self.horizon)
        perfect = np.where(near <= NEAR_ENOUGH, 1.0 - near, 0.0).sum(0).mean()
        source = "to the known goal on both axes as fast as each allows; computed"
        return (Reference("known goal", float(perfect), source),)


NEAR_ENOUGH = 0.2  # to the goal, for a sparse reward
STARTS = 50  # on each axis, to average over


def distances(starts: Array, ends: Array, goals: Array, steps: int) -> Array:
    """Distances to `goals` after each of so many steps from `starts` to `ends` by 0.1 on each axis.

    The three are (..., 2) and go together as arrays do; gives (steps, ...).
    """
    way = ends - starts
    # Added up, as worlds do it: of some goals a step ends on the edge of what is near enough.
    made = np.full(steps, 0.1).cumsum().reshape(-1, *[1] * way.ndim)
    positions = starts + np.sign(way) * np.minimum(np.abs(way), made)
    distance: Array = np.linalg.norm(positions - goals, axis=-1)
    return distance


def point_model() -> mujoco.MjModel:
    """The point on its ground, and the camera above it."""
    return mujoco.MjModel.from_xml_string(_XML)


def move_point(simulation: Simulation, worlds: Ids, actions: Array) -> None:
    """Let the next step move the points of these worlds by 0.1 * actions (N, 2)."""
    # With no force anywhere, one step of 0.1 s at velocity a is a move by 0.1 * a.
    simulation.qvel[worlds] = actions


def goal_of_point(task: Task, radius: float = 0.0) -> Overlay:
    """A point's goal and path, for people."""
    goal_x, goal_y = task.params
    return Overlay((Goal((goal_x, goal_y), POINT_TOP, radius),), follows="point", trail=True)


POINT_TOP = 0.15  # height of the point's upper side


def _distance(step: Step) -> Array:
    """Distance (N,) of the new position to the goal."""
    distance: Array = np.linalg.norm(step.after.qpos - step.params, axis=1)
    return distance


# Flat colours by emission alone: a pixel shows the point or the ground, wherever the point is. The picture
# spans [-2, 2]^2 without perspective. The point is large, for a decoder takes no notice of a small one.
_XML = """
<mujoco model="point_robot">
  <option timestep="0.1" gravity="0 0 0" integrator="Euler">
    <flag contact="disable"/>
  </option>
  <visual>
    <headlight ambient="0 0 0" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <asset>
    <material name="ground" rgba="0.08 0.12 0.30 1" emission="1" specular="0" shininess="0"/>
    <material name="point" rgba="1.0 0.75 0.10 1" emission="1" specular="0" shininess="0"/>
  </asset>
  <worldbody>
    <camera name="above" pos="0 0 4" projection="orthographic" fovy="4"/>
    <geom name="ground" type="plane" size="50 50 1" material="ground"/>
    <body name="point" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <geom name="point" type="cylinder" size="0.45 0.05" mass="1" material="point"/>
    </body>
  </worldbody>
</mujoco>
"""
