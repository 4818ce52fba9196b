"""Where a camera says that a point is, beside where the point is drawn."""

from collections.abc import Sequence

import mujoco
import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.arrays import Array, Frames
from metaslac.envs.pixels.camera import camera_of
from metaslac.envs.pixels.rendering import RenderPool
from metaslac.envs.simulation import Simulation
from metaslac.envs.worlds.viewer import Viewer, overlay_of

SIZE = 256
# Of several kinds: from above, oblique, off its axis, following a body.
CAMERAS = {
    "parallel": '<camera name="seer" pos="0.3 -0.2 4" projection="orthographic" fovy="3"/>',
    "oblique": '<camera name="seer" pos="0.4 -2.1 2.4" xyaxes="1 0.2 0 -0.1 0.75 0.66" fovy="50"/>',
    "lens": '<camera name="seer" pos="0 0 3" resolution="100 100" sensorsize="0.01 0.01" '
    'focal="0.012 0.012" principal="0.001 -0.0005"/>',
}
WORLD = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    {camera}
    <geom name="floor" type="plane" size="9 9 1" rgba="0 0 1 1"/>
    <geom name="ball" type="sphere" size="0.05" pos="{place}" rgba="1 0 0 1"/>
  </worldbody>
</mujoco>
"""


def centre(shown: np.ndarray) -> Array:
    """The middle (2,) of marked pixels (H, W), as a fraction of the picture, rightwards and downwards."""
    rows, columns = np.nonzero(shown)
    return (np.array([columns.mean(), rows.mean()]) + 0.5) / len(shown)


def drawn(model: mujoco.MjModel, camera: int) -> Frames:
    simulation = Simulation(model, 1, 1)
    simulation.reset(np.array([0]), model.qpos0[None], np.zeros((1, model.nv)))
    frames: Frames = np.zeros((1, SIZE, SIZE, 3), dtype=np.uint8)
    pool = RenderPool(simulation, camera, SIZE, threads=1)
    pool.draw(np.array([0]), frames)
    pool.close()
    return frames[0]


@pytest.mark.parametrize("kind", CAMERAS)
@pytest.mark.parametrize("place", [(0.0, 0.0, 0.1), (0.6, 0.4, 0.3), (-0.7, 0.5, 0.0), (0.5, -0.5, 0.6)])
def test_a_point_is_where_a_ball_is_drawn(kind: str, place: Sequence[float]) -> None:
    text = WORLD.format(camera=CAMERAS[kind], place=" ".join(map(str, place)))
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = camera_of(model, data, 0, mujoco.MjvScene(model, maxgeom=1))
    assert camera.parallel == (kind == "parallel")
    picture = drawn(model, 0)
    found = centre(picture[..., 0] > picture[..., 2])
    np.testing.assert_allclose(camera.project(np.array([place]))[0], found, atol=1.5 / SIZE)


@pytest.mark.parametrize("kind", CAMERAS)
def test_a_place_in_a_picture_is_that_point_of_a_plane(kind: str) -> None:
    model = mujoco.MjModel.from_xml_string(WORLD.format(camera=CAMERAS[kind], place="0 0 0"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = camera_of(model, data, 0, mujoco.MjvScene(model, maxgeom=1))
    points = np.array([(0.0, 0.0, 0.2), (0.6, 0.4, 0.2), (-0.7, -0.5, 0.2)])
    np.testing.assert_allclose(camera.on_plane(camera.project(points), 0.2), points, atol=1e-6)


def test_above_the_horizon_there_is_no_plane() -> None:
    text = WORLD.format(camera='<camera name="seer" pos="0 -2 1" xyaxes="1 0 0 0 0 1"/>', place="0 0 0")
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = camera_of(model, data, 0, mujoco.MjvScene(model, maxgeom=1))
    below, above = camera.on_plane(np.array([(0.5, 0.9), (0.5, 0.1)]), 0.0)
    assert np.isfinite(below).all() and below[1] > -2
    assert np.isnan(above).all()


def test_what_is_behind_the_camera_is_nowhere_but_has_a_bearing() -> None:
    model = mujoco.MjModel.from_xml_string(WORLD.format(camera=CAMERAS["oblique"], place="0 0 0"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = camera_of(model, data, 0, mujoco.MjvScene(model, maxgeom=1))
    assert np.isnan(camera.project(np.array([(0.4, -9.0, 0.0)]))).all()
    assert camera.bearing(np.array([0.4, -9.0, 0.0]))[1] > 0.9  # below, where the floor would come from
    assert camera.bearing(np.array([9.0, 0.0, 0.0]))[0] > 0.9
    assert np.isnan(camera.project(camera.position[None])).all()
    assert camera.bearing(camera.position).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", envs.family_names())
def test_what_a_familys_overlay_follows_is_where_it_is_drawn(name: str) -> None:
    family = envs.make_family(name, image_size=128)
    overlay = overlay_of(family, family.tasks[0])
    if not overlay.follows:
        assert overlay.facts
        return
    env = envs.make_vector_env(family, 2)
    env.reset(seed=0, options={"task": 0})
    for _ in range(3):  # the camera moves with some bodies
        env.step(np.full((2, family.action_size), 0.5))
    viewer, model = Viewer(env, SIZE), env.worlds.scene.source.model
    view = viewer.view(1, overlay.follows)
    whole = viewer.pictures([1])[0]
    model.geom(overlay.follows).group[:] = 5  # which is not drawn
    found = centre((whole != viewer.pictures([1])[0]).any(-1))
    viewer.close()
    env.close()
    assert view.place is not None
    # Some of a body is behind its limbs, and its shape need not be seen evenly about its middle.
    np.testing.assert_allclose(view.camera.project(view.place[None])[0], found, atol=8 / SIZE)
