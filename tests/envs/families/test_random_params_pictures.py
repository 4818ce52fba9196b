"""Pictures of the randomised bodies: in sight whatever their masses, over a floor that shows motion."""

import numpy as np
import pytest
from bodies import Body, bodies

from metaslac import envs


@bodies
def test_the_camera_keeps_the_body_in_the_picture_whatever_its_masses(body: Body) -> None:
    env = body.make(50)
    env.reset(seed=0, options={"task": list(range(50))})
    offsets, spots = [], []
    for action in np.random.default_rng(0).uniform(-1, 1, (30, 50, body.actions)):
        running = env._running()
        env.step(action)
        torso = env.worlds.simulation.qpos[:, [0, 1]]
        camera = env.worlds.simulation.picture["cam_xpos"][:, 0]
        offsets.append(camera[:, [0, 2]] - torso)
        spots.append(limbs_in_the_picture(env)[running])
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[0][0], np.shape(offsets)), atol=1e-12)
    across, up = np.moveaxis(np.concatenate(spots), -1, 0)
    assert np.abs(up).max() < 0.97
    assert (np.abs(across).max(axis=1) < 0.97).mean() > 0.99
    standing = spots[0][..., 1]
    assert standing.max() - standing.min() > 0.6 * 2, "the body should fill most of the height"
    env.close()


def limbs_in_the_picture(env: envs.TaskVectorEnv) -> np.ndarray:
    """Where the ends of all limbs (worlds, ends, 2) are seen: across and up, from -1 to 1 in the picture."""
    model, picture = env.worlds.simulation.model, env.worlds.simulation.picture
    turns = picture["geom_xmat"][:, 1:].reshape(env.num_envs, -1, 3, 3)
    halves = turns[..., 2] * model.geom_size[1:, 1, None]
    ends = np.concatenate(
        [picture["geom_xpos"][:, 1:] + halves, picture["geom_xpos"][:, 1:] - halves], axis=1
    )
    camera = picture["cam_xmat"][:, 0].reshape(env.num_envs, 3, 3)
    seen = (ends - picture["cam_xpos"][:, :1]) @ camera
    return seen[..., :2] / -seen[..., 2:] / np.tan(np.radians(model.cam_fovy[0]) / 2)


@bodies
@pytest.mark.parametrize(("size", "least"), [(32, 0.03), (64, 0.05)])
def test_floor_shows_a_step_at_walking_speed(body: Body, size: int, least: float) -> None:
    env = body.make(3, observation="pixels", image_size=size)
    env.reset(seed=[0] * 3, options={"task": [0] * 3})
    simulation, worlds = env.worlds.simulation, np.arange(3)
    qpos = simulation.qpos.copy()
    qpos[:, 0] = [0.0, 0.016, 0.064]
    simulation.reset(worlds, qpos, np.zeros_like(simulation.qvel))
    frames = np.zeros((3, size, size, 3), np.uint8)
    env._drawing().draw(worlds, frames)
    signed = frames.astype(int)
    changed = [(np.abs(frame - signed[0]).max(axis=2) > 8).mean() for frame in signed]
    assert changed[1] > least, "one step at 1 m/s"
    assert changed[2] > changed[1], "one step at 4 m/s"
    assert (frames[:, : size // 5] == frames[0, : size // 5]).all(), (
        "the camera follows: only the floor moves"
    )
    env.close()
