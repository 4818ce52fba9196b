"""Worlds as people look at them: pictures of a size of their own, and where things are in them.

Looking changes nothing: neither the worlds nor what agents see of them. What is marked is overlay.py's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from metaslac.envs.arrays import Array, Frames
from metaslac.envs.errors import FamilyError
from metaslac.envs.families.of_gymnasium import GymnasiumFamily
from metaslac.envs.family import Family, Task
from metaslac.envs.overlay import Gauge, Goal, Heading, Overlay
from metaslac.envs.pixels.camera import Camera, camera_of
from metaslac.envs.worlds.supervision import SupervisedVectorEnv
from metaslac.envs.worlds.vector_env import TaskVectorEnv


class View(NamedTuple):
    """How one world is seen at one moment."""

    camera: Camera | None  # None of worlds that are not MuJoCo's
    place: Array | None  # (3,) m, of the geom that the overlay follows, if it follows one

    def project(self, points: Array) -> Array:
        """As of the camera, which must be there."""
        assert self.camera is not None
        return self.camera.project(points)

    def bearing(self, point: Array) -> Array:
        """As of the camera, which must be there."""
        assert self.camera is not None
        return self.camera.bearing(point)


class Viewer:
    """Looks at the worlds of an environment, which must not be stepped meanwhile.

    Args:
        env: whose worlds; it is not closed here.
        size: side of the square pictures in pixels; 0 where none are wanted.

    Raises:
        RenderingUnavailable: pictures are wanted and cannot be drawn.
    """

    def __init__(self, env: TaskVectorEnv | SupervisedVectorEnv, size: int = 0) -> None:
        self._scene = env.worlds.scene
        if self._scene is not None:
            self._scratch = self._scene.source.scratch()
            self._geoms = mujoco.MjvScene(self._scene.source.model, maxgeom=1)
        self._painter = env.worlds.painter(size, threads=1) if size else None
        self._pictures: Frames = np.zeros((env.num_envs * bool(size), size, size, 3), dtype=np.uint8)

    def view(self, world: int, follows: str = "") -> View:
        """How a world is seen now, and where the geom called `follows` is.

        Raises FamilyError if there is none.
        """
        if self._scene is None:
            return View(None, None)
        model, data = self._scene.source.show(world, self._scratch)
        camera = camera_of(model, data, self._scene.camera, self._geoms)
        if not follows:
            return View(camera, None)
        geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, follows)
        if geom < 0:
            raise FamilyError(f"overlay: the model has no geom called {follows!r}")
        return View(camera, np.array(data.geom_xpos[geom]))

    def pictures(self, worlds: Sequence[int]) -> Frames:
        """Pictures (N, size, size, 3) of some worlds as they are now."""
        assert self._painter is not None
        chosen = np.array(worlds, dtype=np.intp)
        self._painter.draw(chosen, self._pictures)
        return self._pictures[chosen]

    def close(self) -> None:
        """Free what draws."""
        if self._painter is not None:
            self._painter.close()


def overlay_of(family: Family, task: Task) -> Overlay:
    """What a family says of one of its tasks; FamilyError if that cannot be drawn."""
    overlay = family.overlay(task)
    if not isinstance(overlay, Overlay) or not all(
        isinstance(mark, Goal | Heading | Gauge) for mark in overlay.marks
    ):
        raise FamilyError(f"{family.name}: overlay must give an Overlay of goals, headings and gauges")
    if isinstance(family, GymnasiumFamily) and (overlay.marks or overlay.follows):
        raise FamilyError(
            f"{family.name}: an overlay of environments of gymnasium's has facts alone: nobody knows their "
            "camera"
        )
    if not np.isfinite(np.array(overlay.target, dtype=float)).all():
        raise FamilyError(f"{family.name}: overlay of task {task.index} is not finite")
    if not overlay.follows and any(isinstance(mark, Heading | Gauge) for mark in overlay.marks):
        raise FamilyError(f"{family.name}: overlay has headings or gauges and follows no geom")
    return overlay
