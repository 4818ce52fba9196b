"""Tasks that are directions in the plane: their frozen lists, and the vectors they stand for.

The bodies that run in them are in ant.py and humanoid.py.
"""

import numpy as np

from metaslac.envs.arrays import Array
from metaslac.envs.family import TaskParams


def directions(train: int, test: int) -> tuple[TaskParams, TaskParams]:
    """Frozen angles (rad), uniform in the circle, a row for each task."""
    angles = np.random.RandomState(1337).uniform(0.0, 2.0 * np.pi, train + test)[:, None]
    return angles[:train].tolist(), angles[train:].tolist()


def unit_vectors(angles: Array) -> Array:
    """The directions (N, 2) of angles (N, 1)."""
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
