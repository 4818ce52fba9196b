"""Where a point of the world is in a picture: the camera that a picture was drawn with, as plain numbers."""

from dataclasses import dataclass

import mujoco
import numpy as np

from metaslac.envs.arrays import Array


@dataclass(frozen=True)
class Camera:
    """A camera at one moment, for square pictures.

    The axes are unit vectors of the world; a point is seen where its ray meets the window, which lies `near`
    in front of the camera.
    """

    position: Array  # (3,), m
    axes: Array  # (3, 3): rows to the right, up and ahead
    middle: Array  # (2,) of the window, right and up
    reach: Array  # (2,) from its middle to its edges
    near: float  # m
    parallel: bool  # orthographic: all rays are parallel

    def project(self, points: Array) -> Array:
        """Where points (N, 3) are in the picture: (N, 2), from 0 to 1 rightwards and downwards.

        What is out of the picture is beyond that; not a number for what is not in front of the camera.
        """
        seen = (np.asarray(points, dtype=float) - self.position) @ self.axes.T
        depth = seen[:, 2:]
        scale = np.where(
            depth > 0, 1.0 if self.parallel else self.near / np.where(depth > 0, depth, 1), np.nan
        )
        return self._fractions(seen[:, :2] * scale)

    def on_plane(self, fractions: Array, height: float) -> Array:
        """The inverse of project for points of the horizontal plane at a height: places (N, 3) of the world.

        Not a number where the plane is not seen.
        """
        inside = (np.asarray(fractions, dtype=float) - 0.5) * (2.0, -2.0)
        window = self.middle + inside * self.reach
        right_and_up = window @ self.axes[:2]
        if self.parallel:
            start, ways = self.position + right_and_up, np.broadcast_to(self.axes[2], right_and_up.shape)
        else:
            start, ways = self.position, right_and_up + self.near * self.axes[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            far = (height - start[..., 2]) / ways[..., 2]
            places: Array = start + np.where((far > 0) & np.isfinite(far), far, np.nan)[:, None] * ways
        return places

    def bearing(self, point: Array) -> Array:
        """The direction (2,) from the picture's middle, rightwards and downwards, in which a point lies.

        Of points behind the camera as well; zero for one straight ahead.
        """
        right, up, _ = self.axes @ (np.asarray(point, dtype=float) - self.position)
        length = np.hypot(right, up)
        return np.array([right, -up]) / length if length else np.zeros(2)

    def _fractions(self, window: Array) -> Array:
        inside: Array = (window - self.middle) / (2.0 * self.reach)
        return 0.5 + inside * (1.0, -1.0)


def camera_of(model: mujoco.MjModel, data: mujoco.MjData, number: int, scene: mujoco.MjvScene) -> Camera:
    """A camera of a model as it is now, as MuJoCo draws with it; `scene` is scratch space."""
    chosen = mujoco.MjvCamera()
    chosen.type, chosen.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
    mujoco.mjv_updateCamera(model, data, chosen, scene)
    eye = mujoco.mjv_averageCamera(scene.camera[0], scene.camera[1])  # one for each eye, the same here
    ahead, up = np.array(eye.forward, dtype=float), np.array(eye.up, dtype=float)
    height = (eye.frustum_top - eye.frustum_bottom) / 2.0
    return Camera(
        position=np.array(eye.pos, dtype=float),
        axes=np.stack([np.cross(ahead, up), up, ahead]),
        middle=np.array([eye.frustum_center, (eye.frustum_top + eye.frustum_bottom) / 2.0]),
        reach=np.array([eye.frustum_width or height, height]),
        near=float(eye.frustum_near),
        parallel=bool(eye.orthographic),
    )
