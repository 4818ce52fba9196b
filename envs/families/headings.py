"""Tasks that are directions in the plane: their frozen lists, and the vectors they stand for.

The bodies that run in them are in ant.py and humanoid.py.
"""

import numpy as np

from metaslac.envs.arrays import Array
from metaslac.envs.family import Task, TaskParams
from metaslac.envs.overlay import Heading, Overlay

TRAIN_TASKS, TEST_TASKS = 100, 30


def directions() -> tuple[TaskParams, TaskParams]:
    """The training and the held-out tasks."""
    angles = _draw_angles(1337, TRAIN_TASKS + TEST_TASKS)
    return angles[:TRAIN_TASKS], angles[TRAIN_TASKS:]


def validation_directions() -> TaskParams:
    """The validation tasks, as many as held-out ones."""
    return _draw_angles(1338, TEST_TASKS)


def unit_vectors(angles: Array) -> Array:
    """The directions (N, 2) of angles (N, 1)."""
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def direction_from(task: Task, geom: str) -> Overlay:
    """The direction of a task and the path of a body, for people."""
    (angle,) = task.params
    heading = Heading((float(np.cos(angle)), float(np.sin(angle))))
    return Overlay((heading,), follows=geom, trail=True)


def _draw_angles(seed: int, number: int) -> TaskParams:
    """Angles (rad), uniform in the circle, a row for each task."""
    angles: TaskParams = np.random.RandomState(seed).uniform(0.0, 2.0 * np.pi, number)[:, None].tolist()
    return angles
