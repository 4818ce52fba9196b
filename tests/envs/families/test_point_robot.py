"""The point families: the move of a step, the rewards, and where the point is in the picture."""

from collections.abc import Sequence

import numpy as np
import pytest

from metaslac import envs

CORNERS = np.array([[0.0, 0.0], [0.9, 0.9], [-0.9, 0.9], [0.9, -0.9], [-0.4, 0.2]])


def test_a_step_moves_the_point_by_a_tenth_of_the_action() -> None:
    env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 5)
    env.reset(seed=0, options={"task": [0, 1, 50, 80, 99]})
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
    env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 64)
    env.reset(seed=0)
    starts = np.concatenate([env.worlds.simulation.qpos.copy() for _ in range(4) if env.reset()])
    assert np.abs(starts).max() <= 1.0
    assert starts.min() < -0.9
    assert starts.max() > 0.9
    assert np.abs(starts.mean(axis=0)).max() < 0.15
    env.close()


def half_circle_goals() -> np.ndarray:
    goals = np.array([[np.cos(angle), np.sin(angle)] for angle in np.linspace(0, np.pi, 100)])
    np.random.RandomState(1337).shuffle(goals)
    return goals


def test_sparse_goals_are_all_of_the_half_circle_shuffled() -> None:
    family = envs.make_family("sparse_point_robot")
    goals = np.array([task.params for task in family.tasks])
    np.testing.assert_array_equal(goals[:100], half_circle_goals())
    assert (len(family.train_tasks), len(family.test_tasks)) == (80, 20)
    held_out = np.arctan2(*goals[80:100].T[::-1])
    assert held_out.min() < 0.5, "held-out goals lie all along the arc"
    assert held_out.max() > np.pi - 0.5
    np.testing.assert_allclose(np.hypot(*goals[100:].T), 1.0)
    assert goals[100:, 1].min() > 0, "goals to validate on lie on the same half circle"


def test_sparse_rewards_appear_near_the_goal_only_and_dense_ones_in_the_info() -> None:
    env = envs.make_vector_env(envs.make_family("sparse_point_robot", image_size=32), 4)
    tasks = [0, 1, 80, 99]
    env.reset(seed=0, options={"task": tasks})
    np.testing.assert_array_equal(env.worlds.simulation.qpos, np.zeros((4, 2)))
    goals, position = half_circle_goals()[tasks], np.zeros((4, 2))
    inside = np.zeros(4, int)
    rng = np.random.default_rng(2)
    for step in range(20):
        actions = np.clip((goals - position) / 0.1 + rng.uniform(-1, 1, (4, 2)), -1, 1)
        _, rewards, terminated, truncated, info = env.step(actions)
        position += 0.1 * actions
        np.testing.assert_allclose(env.worlds.simulation.qpos, position, rtol=0, atol=1e-12)
        assert set(info) == {"control_steps", "dense_reward"}
        for i in range(4):
            distance = np.hypot(*(position[i] - goals[i]))
            sparse = 1 - distance if distance <= 0.2 else 0.0
            assert rewards[i] == pytest.approx(sparse, abs=1e-12)
            assert info["dense_reward"][i] == pytest.approx(-distance, abs=1e-12)
            inside[i] += distance <= 0.2
        assert truncated.all() == truncated.any() == (step == 19)
        assert not terminated.any()
    assert (inside > 5).all(), "both sides of the edge should be seen"
    assert (inside < 18).all()
    env.close()


@pytest.mark.parametrize("distance", [0.1999, 0.2001])
def test_sparse_reward_ends_at_a_fifth(distance: float) -> None:
    env = envs.make_vector_env(envs.make_family("sparse_point_robot", image_size=32), 1)
    env.reset(seed=0, options={"task": [7]})
    env.worlds.simulation.qpos[0] = half_circle_goals()[7] * (1 - distance)
    _, rewards, _, _, info = env.step(np.zeros((1, 2)))
    assert rewards[0] == pytest.approx(0.8001 if distance < 0.2 else 0.0, abs=1e-12)
    assert info["dense_reward"][0] == pytest.approx(-distance, abs=1e-12)
    env.close()


def test_a_repeated_action_sums_dense_rewards_too() -> None:
    env = envs.make_vector_env(envs.make_family("sparse_point_robot", image_size=32, action_repeat=4), 2)
    env.reset(seed=0, options={"task": [0, 1]})
    goals = half_circle_goals()[:2]
    for first in range(0, 20, 4):
        _, rewards, _, _, info = env.step(0.7 * goals)
        distances = np.array([abs(1 - 0.07 * k) for k in range(first + 1, first + 5)])
        sparse = np.where(distances <= 0.2, 1 - distances, 0).sum()
        np.testing.assert_allclose(rewards, [sparse] * 2, rtol=0, atol=1e-12)
        np.testing.assert_allclose(info["dense_reward"], [-distances.sum()] * 2, rtol=0, atol=1e-12)
    env.close()


def test_only_sparse_families_have_dense_rewards() -> None:
    with_dense = set()
    for name in envs.family_names():
        env = envs.make_vector_env(envs.make_family(name, image_size=32, observation="state"), 1)
        env.reset(seed=0)
        if "dense_reward" in env.step(np.zeros((1, env.family.action_size)))[4]:
            with_dense.add(name)
        env.close()
    assert with_dense == {"sparse_point_robot"}


def test_playing_with_a_known_goal_earns_the_known_returns() -> None:
    family = envs.make_family("sparse_point_robot", image_size=32, observation="state")
    env = envs.make_vector_env(family, 100)
    positions, _ = env.reset(seed=0, options={"task": np.arange(100)})
    sparse, dense = np.zeros(100), np.zeros(100)
    for _ in range(family.horizon):
        positions, rewards, _, _, info = env.step(np.clip((env.params - positions) / 0.1, -1, 1))
        sparse += rewards
        dense += info["dense_reward"]
    assert sparse.mean() == pytest.approx(13.36, abs=0.005)
    assert sparse.min() == pytest.approx(11.9, abs=0.05)
    assert sparse.max() == pytest.approx(14.8, abs=0.05)
    assert dense.mean() == pytest.approx(-3.85, abs=0.005)
    env.close()


def test_references_are_what_going_to_the_goal_and_to_the_middle_earn() -> None:
    family = envs.make_family("point_robot", image_size=32, observation="state")
    for tasks in (family.test_tasks, family.validation_tasks):
        played = [_earned(family, tasks, 200, knowing) for knowing in (True, False)]
        for returns, known in zip(played, family.known_references(tasks), strict=True):
            assert known.value == pytest.approx(returns.mean(), abs=3 * returns.std() / np.sqrt(len(returns)))
    assert not envs.make_family("point_robot", action_repeat=2).known_references(family.test_tasks)


def test_the_middle_is_the_best_place_to_be_without_knowing_the_goal() -> None:
    goals = np.random.default_rng(0).uniform(-1, 1, (20000, 2))
    places = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 11)] * 2), axis=-1).reshape(-1, 2)
    mean = [np.hypot(*(goals - place).T).mean() for place in places]
    assert np.abs(places[np.argmin(mean)]).max() < 1e-9


def test_the_sparse_reference_is_what_going_to_the_goal_earns() -> None:
    family = envs.make_family("sparse_point_robot", image_size=32, observation="state")
    for tasks in (family.test_tasks, family.validation_tasks):
        (known,) = family.known_references(tasks)
        assert known.value == pytest.approx(_earned(family, tasks, 1, True).mean(), abs=1e-9)


def _earned(family: envs.TaskFamily, tasks: Sequence[envs.Task], starts: int, knowing: bool) -> np.ndarray:
    """Returns of going straight to the goal, or to the middle, from so many starts on every task."""
    indices = np.repeat([task.index for task in tasks], starts)
    env = envs.make_vector_env(family, len(indices))
    positions, _ = env.reset(seed=0, options={"task": indices})
    returns = np.zeros(len(indices))
    for _ in range(20):
        to = env.params if knowing else np.zeros_like(env.params)
        positions, rewards, *_ = env.step(np.clip((to - positions) / 0.1, -1, 1))
        returns += rewards
    env.close()
    return returns


@pytest.mark.parametrize("name", ["point_robot", "sparse_point_robot"])
def test_state_is_the_position(name: str) -> None:
    env = envs.make_vector_env(envs.make_family(name, observation="state"), 3)
    start, _ = env.reset(seed=0)
    actions = np.array([[0.5, -1.0], [0.0, 0.3], [1.0, 1.0]])
    states, *_ = env.step(actions)
    assert states.shape == (3, 2)
    np.testing.assert_allclose(states, start + 0.1 * actions, rtol=0, atol=1e-12)
    env.close()


def test_the_families_of_the_point_look_alike() -> None:
    made = [envs.make_vector_env(envs.make_family(name), 5) for name in ("point_robot", "sparse_point_robot")]
    frames = []
    for env in made:
        env.reset(seed=0)
        env.worlds.simulation.qpos[:] = CORNERS
        frames.append(env.step(np.zeros((5, 2)))[0])
        env.close()
    np.testing.assert_array_equal(*frames)


@pytest.mark.parametrize("size", [32, 64])
def test_picture_tells_where_the_point_is(size: int) -> None:
    env = envs.make_vector_env(envs.make_family("point_robot", image_size=size), len(CORNERS))
    env.reset(seed=0)
    env.worlds.simulation.qpos[:] = CORNERS
    for move in (np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, -1.0])):
        frames, *_ = env.step(np.tile(move, (len(CORNERS), 1)))
        seen = np.array([_blob_centre(frame) for frame in frames])
        pixel = 4.0 / size
        np.testing.assert_allclose(seen, env.worlds.simulation.qpos, atol=0.75 * pixel)
    env.close()


def test_point_is_large_and_in_strong_contrast() -> None:
    env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 1)
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
