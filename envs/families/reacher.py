"""The family of dm_control's reacher, a two-link arm seen from above: bring its finger to a hidden goal.

The model is the one installed with dm_control; its target is taken out, and what is drawn made plain.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import dm_control
import mujoco
import numpy as np

from metaslac.envs.arrays import Array
from metaslac.envs.family import Step, Task, TaskFamily, TaskParams
from metaslac.envs.overlay import Goal, Overlay
from metaslac.envs.references import Reference

ARM_LENGTH_METRES = 0.24
_CONTROLLED = {1: (-6.2, -30.5), 2: (-7.9, -31.1)}  # action repeat -> returns with the goal known, and blind


class ReacherGoal(TaskFamily):
    """Hold the finger at a hidden goal in the plane (m): 80 goals to train on and 20 held out.

    Reward of a control step of 0.04 s: -(distance of the finger to the goal) / 0.24, in arm lengths. Goals
    have a radius U(0.05, 0.20) and an angle U(0, 2 pi), seed 1337: the radii are those of dm_control's
    targets. Starts are dm_control's: any shoulder angle, wrist U(-160, 160) degrees, at rest.

    Mean returns on the held-out goals: -6.2 with joint controllers that know the goal (all within 0.01 m
    after 25 of the 50 steps), -7.9 with ones that act at every other step, -30.5 holding one place near the
    middle, -43 staying where it starts.
    """

    name = "reacher_goal"
    param_names = ("goal_x", "goal_y")
    params_said = "a goal 0.05 to 0.20 m from the shoulder"
    action_size = 2
    state_size = 4
    horizon = 50
    frame_skip = 2
    camera = "fixed"
    reads = ("geom_xpos",)

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        goals = draw_goals(1337, 100)
        return goals[:80], goals[80:]

    def validation_params(self) -> TaskParams:
        return draw_goals(1338, 20)

    def may_have(self, params: tuple[float, ...]) -> bool:
        return 0.05 <= math.hypot(*params) <= 0.20

    def model(self) -> mujoco.MjModel:
        return reacher_model()

    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        low, high = model.joint("wrist").range
        return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(low, high)]), np.zeros(model.nv)

    def reward(self, step: Step) -> Array:
        finger = step.after["geom_xpos"][:, FINGER, :2]
        reward: Array = -np.linalg.norm(finger - step.params, axis=1) / ARM_LENGTH_METRES
        return reward

    def overlay(self, task: Task) -> Overlay:
        goal_x, goal_y = task.params
        return Overlay((Goal((goal_x, goal_y), height=0.01),), follows="finger", trail=True)

    def references(self, tasks: Sequence[Task]) -> Sequence[Reference]:
        if self.action_repeat not in _CONTROLLED or tuple(tasks) != self.test_tasks:
            return ()
        known, blind = _CONTROLLED[self.action_repeat]
        how = "as near to the middle as the wrist allows, in all directions, whatever the goal"
        return (
            Reference(
                "controllers",
                known,
                "joint controllers that know the goal; simulated, 20 starts each",
            ),
            Reference("blind, middle", blind, f"the same, {how}"),
        )


def draw_goals(seed: int, number: int) -> TaskParams:
    """Goals (m), a row for each."""
    random = np.random.RandomState(seed)
    radii, angles = random.uniform(0.05, 0.20, number), random.uniform(0.0, 2.0 * np.pi, number)
    goals: TaskParams = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).tolist()
    return goals


def reacher_model() -> mujoco.MjModel:
    """dm_control's reacher.xml without target and walls, its physics untouched, made for small pictures."""
    # The file and not dm_control.suite: that does not import where the user's MUJOCO_GL cannot be loaded.
    file = Path(dm_control.__file__).parent / "suite" / "reacher.xml"
    spec = mujoco.MjSpec.from_file(str(file))
    for name in ("target", "wall_x", "wall_y", "wall_neg_x", "wall_neg_y"):
        spec.delete(spec.geom(name))
    model = spec.compile()
    _make_plain(model)
    return model


FINGER = 4  # the finger's number among the geoms


def _make_plain(model: mujoco.MjModel) -> None:
    # Nothing touches in this model and masses were compiled before: sizes are for the eye only from here on.
    for name, (radius, colour) in _LOOK.items():
        geom = model.geom(name)
        geom.size[0] = radius
        geom.matid[0] = -1
        geom.rgba[:] = (*colour, 1.0)
    # Ambient light alone: colours are flat, the same wherever the arm is.
    model.light_active[:] = False
    model.vis.headlight.ambient[:] = 1.0
    model.vis.headlight.diffuse[:] = 0.0
    model.vis.headlight.specular[:] = 0.0
    camera = model.camera("fixed")
    model.cam_projection[camera.id] = mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC.value
    camera.fovy[:] = 2.0 * VIEW_METRES


VIEW_METRES = 0.3  # from the middle of the picture to its edge: the finger, all of it, stays in view
# Radius and colour. They differ, so that it is plain what is in front: the finger, then the hand.
_LOOK = {
    "ground": (VIEW_METRES, (0.05, 0.08, 0.20)),
    "root": (0.036, (0.55, 0.55, 0.65)),
    "arm": (0.027, (0.10, 0.55, 1.00)),
    "hand": (0.030, (0.25, 0.90, 0.35)),
    "finger": (0.050, (1.00, 0.65, 0.10)),
}
