"""Worlds as people look at them: pictures of a size of their own, and where things are in them.

Looking changes nothing: neither the worlds nor what agents see of them. What is marked is overlay.py's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from metaslac.envs.arrays import Array, Frames
from metaslac.envs.errors import FamilyError
from metaslac.envs.family import Family, Task
from metaslac.envs.overlay import Gauge, Goal, Heading, Overlay
from metaslac.envs.pixels.camera import Camera, camera_of
from metaslac.envs.pixels.rendering import RenderPool
from metaslac.envs.worlds.supervision import SupervisedVectorEnv
from metaslac.envs.worlds.vector_env import TaskVectorEnv


class View(NamedTuple):
    """How one world is seen at one moment."""

    camera: Camera
    place: Array | None  # (3,) m, of the geom that the overlay follows, if it follows one


class Viewer:
    """Looks at the worlds of an environment, which must not be stepped meanwhile.

    Args:
        env: whose worlds; it is not closed here.
        size: side of the square pictures in pixels; 0 where none are wanted.

    Raises:
        RenderingUnavailable: pictures are wanted and cannot be drawn.
    """

    def __init__(self, env: TaskVectorEnv | SupervisedVectorEnv, size: int = 0) -> None:
        self._source, self._camera = env.worlds.pictures, env.worlds.camera_id
        self._scratch = self._source.scratch()
        self._scene = mujoco.MjvScene(self._source.model, maxgeom=1)
        self._pool = RenderPool(self._source, self._camera, size, threads=1) if size else None
        self._pictures: Frames = np.zeros((env.num_envs * bool(size), size, size, 3), dtype=np.uint8)

    def view(self, world: int, follows: str = "") -> View:
        """How a world is seen now, and where the geom called `follows` is.

        Raises FamilyError if there is none.
        """
        model, data = self._source.show(world, self._scratch)
        camera = camera_of(model, data, self._camera, self._scene)
        if not follows:
            return View(camera, None)
        geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, follows)
        if geom < 0:
            raise FamilyError(f"overlay: the model has no geom called {follows!r}")
        return View(camera, np.array(data.geom_xpos[geom]))

    def pictures(self, worlds: Sequence[int]) -> Frames:
        """Pictures (N, size, size, 3) of some worlds as they are now."""
        assert self._pool is not None
        chosen = np.array(worlds, dtype=np.intp)
        self._pool.draw(chosen, self._pictures)
        return self._pictures[chosen]

    def close(self) -> None:
        """Free the OpenGL context and its thread."""
        if self._pool is not None:
            self._pool.close()


def overlay_of(family: Family, task: Task) -> Overlay:
    """What a family says of one of its tasks; FamilyError if that cannot be drawn."""
    overlay = family.overlay(task)
    if not isinstance(overlay, Overlay) or not all(
        isinstance(mark, Goal | Heading | Gauge) for mark in overlay.marks
    ):
        raise FamilyError(f"{family.name}: overlay must give an Overlay of goals, headings and gauges")
    if not np.isfinite(np.array(overlay.target, dtype=float)).all():
        raise FamilyError(f"{family.name}: overlay of task {task.index} is not finite")
    if not overlay.follows and any(isinstance(mark, Heading | Gauge) for mark in overlay.marks):
        raise FamilyError(f"{family.name}: overlay has headings or gauges and follows no geom")
    return overlay
