"""reacher_goal against plain MuJoCo and dm_control's own reacher, and what can be seen of the arm."""

import mujoco
import numpy as np
import pytest
from dm_control.suite import reacher

from metaslac import envs
from metaslac.envs.arrays import Array

# Bright colours of the parts in the picture, by which of red, green and blue are above the middle.
BLUE, GREEN, ORANGE = (False, True, True), (False, True, False), (True, True, False)
POSTURES = np.radians([[0, 0], [45, 0], [90, 90], [0, 160], [0, -160], [200, -120], [-60, 40], [135, 150]])


def goals() -> Array:
    random = np.random.RandomState(1337)
    radii = random.uniform(0.05, 0.20, 100)
    angles = random.uniform(0, 2 * np.pi, 100)
    return np.array([[r * np.cos(a), r * np.sin(a)] for r, a in zip(radii, angles, strict=True)])


def finger_position(qpos: Array) -> Array:
    """Two links of 0.12 m, by hand."""
    shoulder, wrist = qpos[..., 0], qpos[..., 1]
    x = 0.12 * np.cos(shoulder) + 0.12 * np.cos(shoulder + wrist)
    y = 0.12 * np.sin(shoulder) + 0.12 * np.sin(shoulder + wrist)
    return np.stack([x, y], axis=-1)


def make(num_envs: int, threads: int = 1, **options: object) -> envs.TaskVectorEnv:
    return envs.make_vector_env(envs.make_family("reacher_goal", **options), num_envs, threads)  # type: ignore[arg-type]


def test_goals_lie_on_a_ring_within_reach() -> None:
    family = envs.make_family("reacher_goal")
    params = np.array([task.params for task in family.tasks])
    np.testing.assert_array_equal(params[:100], goals())
    assert (len(family.train_tasks), len(family.test_tasks)) == (80, 20)
    radii = np.hypot(*params.T)
    assert 0.05 <= radii.min() < 0.06
    assert 0.19 < radii.max() <= 0.20
    quadrants = {(x > 0, y > 0) for x, y in params[80:100]}
    assert len(quadrants) == 4, "held-out goals lie all around"


@pytest.mark.parametrize("threads", [1, 2])
def test_physics_and_rewards_equal_plain_mujoco_on_the_stock_model(threads: int) -> None:
    stock = mujoco.MjModel.from_xml_string(*reacher.get_model_and_assets())
    tasks = [0, 41, 80, 99]
    env = make(4, threads, image_size=32)
    env.reset(seed=3, options={"task": tasks})
    plain = [mujoco.MjData(stock) for _ in tasks]
    for data, qpos in zip(plain, env.worlds.simulation.qpos, strict=True):
        data.qpos[:] = qpos
    rng = np.random.default_rng(0)
    for step in range(50):
        actions = rng.uniform(-1, 1, (4, 2))
        _, rewards, terminated, truncated, info = env.step(actions)
        for i, data in enumerate(plain):
            data.ctrl[:] = actions[i]
            for _ in range(2):
                mujoco.mj_step(stock, data)
            np.testing.assert_array_equal(env.worlds.simulation.qpos[i], data.qpos)
            np.testing.assert_array_equal(env.worlds.simulation.qvel[i], data.qvel)
            expected = -np.hypot(*(finger_position(data.qpos) - goals()[tasks[i]])) / 0.24
            assert rewards[i] == pytest.approx(expected, abs=1e-12)
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step == 49)
        assert set(info) == {"control_steps"}
    env.close()


def test_states_and_distances_are_dm_controls() -> None:
    physics = reacher.Physics.from_xml_string(*reacher.get_model_and_assets())
    env = make(1, observation="state")
    goal = goals()[90]
    states, _ = env.reset(seed=[6], options={"task": [90]})
    physics.named.model.geom_pos["target", :2] = goal
    with physics.reset_context():
        physics.data.qpos[:] = states[0, :2]
    rng = np.random.default_rng(1)
    for _ in range(50):
        action = rng.uniform(-1, 1, (1, 2))
        states, rewards, *_ = env.step(action)
        physics.set_control(action[0])
        physics.step(2)
        np.testing.assert_array_equal(states[0], [*physics.position(), *physics.velocity()])
        assert rewards[0] == pytest.approx(-physics.finger_to_target_dist() / 0.24, abs=1e-12)
    assert np.abs(states[0, 2:]).max() > 0.1
    env.close()


def test_a_control_step_is_two_of_dm_controls() -> None:
    env = make(1)
    assert env.worlds.control_seconds == pytest.approx(0.04)
    env.close()


def test_starts_are_at_rest_at_any_shoulder_angle_and_within_the_wrists_range() -> None:
    env = make(200, observation="state")
    states, _ = env.reset(seed=0)
    np.testing.assert_array_equal(states[:, 2:], 0.0)
    for angles, limit in zip(states[:, :2].T, (np.pi, np.radians(160)), strict=True):
        assert np.abs(angles).max() <= limit
        assert angles.min() < -0.95 * limit
        assert angles.max() > 0.95 * limit
        assert abs(angles.mean()) < 0.2 * limit
    assert abs(np.corrcoef(states[:, :2].T)[0, 1]) < 0.2
    env.close()


def test_controllers_that_know_the_goal_hold_it_after_half_the_episode() -> None:
    rewards = held(np.arange(80, 100).repeat(3))
    assert (rewards[25:] > -0.01 / 0.24).all()


@pytest.mark.parametrize("repeat", [1, 2])
def test_references_are_what_controllers_earn_that_know_the_goal_or_hold_the_middle(repeat: int) -> None:
    tasks = np.arange(80, 100).repeat(20)
    nearest = 0.24 * np.cos(np.radians(80))  # with the wrist at 160 degrees
    around = np.random.default_rng(0).permutation(np.linspace(0, 2 * np.pi, len(tasks), endpoint=False))
    middle = nearest * np.stack([np.cos(around), np.sin(around)], axis=1)
    family = envs.make_family("reacher_goal", action_repeat=repeat)
    played = [held(tasks, repeat=repeat).sum(0), held(tasks, middle, repeat).sum(0)]
    for returns, known in zip(played, family.known_references(family.test_tasks), strict=True):
        assert known.value == pytest.approx(returns.mean(), abs=3 * returns.std() / np.sqrt(len(tasks)))
    assert not family.known_references(family.validation_tasks)
    assert not envs.make_family("reacher_goal", action_repeat=5).known_references(family.test_tasks)


def held(tasks: Array, places: Array | None = None, repeat: int = 1) -> Array:
    """Rewards (50 / repeat, N) of controllers that bring the finger to the goals, or to places (N, 2) m."""
    env = make(len(tasks), observation="state", image_size=32, action_repeat=repeat)
    states, _ = env.reset(seed=0, options={"task": tasks})
    places = goals()[tasks] if places is None else places
    wanted = np.array([_joint_angles(*pair) for pair in zip(places, states[:, :2], strict=True)])
    rewards = []
    for _ in range(50 // repeat):
        action = np.clip(4 * (wanted - states[:, :2]) - 0.2 * states[:, 2:], -1, 1)
        states, reward, *_ = env.step(action)
        rewards.append(reward)
    env.close()
    return np.stack(rewards)


@pytest.mark.parametrize("size", [32, 64])
def test_picture_shows_the_finger_wherever_it_is(size: int) -> None:
    env = make(len(POSTURES), image_size=size)
    env.reset(seed=0)
    env.worlds.simulation.qpos[:] = POSTURES
    frames, *_ = env.step(np.zeros((len(POSTURES), 2)))
    qpos = env.worlds.simulation.qpos
    for frame, expected in zip(frames, finger_position(qpos), strict=True):
        assert _share(frame, BLUE) > 0.005, "the upper arm can be seen"
        assert _share(frame, GREEN) > 0.01, "the forearm can be seen"
        assert _share(frame, ORANGE) > 0.016, "the finger can be seen, all of it"
        np.testing.assert_allclose(_centre(frame, ORANGE), expected, atol=0.6 / size)
    env.close()


def test_ground_is_dark_and_plain_to_the_edges() -> None:
    env = make(len(POSTURES))
    env.reset(seed=0)
    env.worlds.simulation.qpos[:] = POSTURES
    frames, *_ = env.step(np.zeros((len(POSTURES), 2)))
    edges = np.concatenate([frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]])
    assert (edges == edges[0, 0]).all()
    ground = edges[0, 0].astype(int)
    assert 0 < ground.max() < 64
    for frame in frames:
        colours = np.unique(frame.reshape(-1, 3), axis=0).astype(int)
        assert 4 <= len(colours) <= 5, "ground, root, two links and finger: no goal among them"
        others = colours[(colours != ground).any(axis=1)]
        assert (np.abs(others - ground).max(axis=1) > 100).all()
    env.close()


def test_target_is_not_in_the_model() -> None:
    model = envs.make_family("reacher_goal").model()
    names = {model.geom(i).name for i in range(model.ngeom)}
    assert names == {"ground", "root", "arm", "hand", "finger"}
    assert model.nsite == 0


def _joint_angles(goal: Array, start: Array) -> Array:
    """The nearer of the two postures that hold the finger at the goal."""
    bend = 2 * np.arccos(np.hypot(*goal) / 0.24)
    postures = []
    for wrist in (bend, -bend):
        turn = np.arctan2(goal[1], goal[0]) - wrist / 2 - start[0]
        postures.append(np.array([start[0] + (turn + np.pi) % (2 * np.pi) - np.pi, wrist]))
    return min(postures, key=lambda posture: np.abs(posture - start).max())


def _pixels(frame: np.ndarray, colour: tuple[bool, bool, bool]) -> np.ndarray:
    return ((frame > 128) == colour).all(axis=2)


def _share(frame: np.ndarray, colour: tuple[bool, bool, bool]) -> float:
    return float(_pixels(frame, colour).mean())


def _centre(frame: np.ndarray, colour: tuple[bool, bool, bool]) -> np.ndarray:
    """Position of the middle of the pixels of a colour, m; the ground in view spans 0.6 m, y up."""
    rows, columns = np.nonzero(_pixels(frame, colour))
    size = len(frame)
    return 0.6 * (np.array([columns.mean(), size - 1 - rows.mean()]) + 0.5) / size - 0.3
