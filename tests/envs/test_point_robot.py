"""point_robot: the move of a step, the reward, and where the point is in the picture."""

import numpy as np
import pytest

import envs

CORNERS = np.array([[0.0, 0.0], [0.9, 0.9], [-0.9, 0.9], [0.9, -0.9], [-0.4, 0.2]])


def test_a_step_moves_the_point_by_a_tenth_of_the_action() -> None:
    env = envs.make_family("point_robot", image_size=32).make_vector_env(5)
    env.reset(seed=0, options={"tasks": [0, 1, 50, 80, 99]})
    goals = np.random.RandomState(1337).uniform(-1, 1, (100, 2))[[0, 1, 50, 80, 99]]
    position = env.worlds.simulation.qpos.copy()
    rng = np.random.default_rng(1)
    for step in range(20):
        actions = rng.uniform(-1, 1, (5, 2))
        _, rewards, terminated, truncated, _ = env.step(actions)
        position += 0.1 * actions
        np.testing.assert_allclose(env.worlds.simulation.qpos, position, rtol=0, atol=1e-12)
        np.testing.assert_allclose(rewards, -np.hypot(*(position - goals).T), rtol=0, atol=1e-12)
        assert truncated.all() == truncated.any() == (step == 19)
        assert not terminated.any()
    env.close()


def test_starts_fill_the_square() -> None:
    env = envs.make_family("point_robot", image_size=32).make_vector_env(64)
    env.reset(seed=0)
    starts = np.concatenate([env.worlds.simulation.qpos.copy() for _ in range(4) if env.reset()])
    assert np.abs(starts).max() <= 1.0
    assert starts.min() < -0.9
    assert starts.max() > 0.9
    assert np.abs(starts.mean(axis=0)).max() < 0.15
    env.close()


@pytest.mark.parametrize("size", [32, 64])
def test_picture_tells_where_the_point_is(size: int) -> None:
    env = envs.make_family("point_robot", image_size=size).make_vector_env(len(CORNERS))
    env.reset(seed=0)
    env.worlds.simulation.qpos[:] = CORNERS
    for move in (np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, -1.0])):
        frames, *_ = env.step(np.tile(move, (len(CORNERS), 1)))
        seen = np.array([_blob_centre(frame) for frame in frames])
        pixel = 4.0 / size
        np.testing.assert_allclose(seen, env.worlds.simulation.qpos, atol=0.75 * pixel)
    env.close()


def test_point_is_large_and_in_strong_contrast() -> None:
    env = envs.make_family("point_robot", image_size=32).make_vector_env(1)
    frames, _ = env.reset(seed=[0])
    colours, counts = np.unique(frames[0].reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) == 2
    assert np.abs(colours[0].astype(int) - colours[1]).max() > 150
    assert 35 < counts.min() < 60
    env.close()


def _blob_centre(frame: np.ndarray) -> np.ndarray:
    """World position of the middle of the bright pixels, the picture spanning [-2, 2]^2 with y up."""
    rows, columns = np.nonzero(frame[..., 0] > 128)
    size = frame.shape[0]
    return 4.0 * np.array([columns.mean() + 0.5, size - rows.mean() - 0.5]) / size - 2.0
