"""ant_goal and ant_dir against plain MuJoCo stepped in a loop, and what can be seen of them."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.simulation import State

XML = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
TASKS = [0, 7, 100, 129]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["ant_goal", "ant_dir"])
def test_physics_rewards_ends_and_states_equal_plain_mujoco(name: str, threads: int) -> None:
    model = mujoco.MjModel.from_xml_path(str(XML))
    plain, scratch = [mujoco.MjData(model) for _ in TASKS], mujoco.MjData(model)
    family = envs.make_family(name, image_size=32, observation="state")
    env = envs.make_vector_env(family, len(TASKS), threads)
    env.reset(seed=5, options={"task": TASKS})
    for data, qpos, qvel in zip(plain, env.worlds.simulation.qpos, env.worlds.simulation.qvel, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
    rng = np.random.default_rng(0)
    touched, ended = np.zeros(len(TASKS), int), np.zeros(len(TASKS), bool)
    for _ in range(80):
        actions = rng.uniform(-1, 1, (len(TASKS), 8))
        observations, rewards, terminated, _, _ = env.step(actions)
        for i in np.flatnonzero(~ended):
            data = plain[i]
            start = data.qpos[:2].copy()
            data.ctrl[:] = actions[i]
            # Not a forward pass in between: the one that the family has made for its forces leaves no trace.
            mujoco.mj_step(model, data, nstep=5)
            np.testing.assert_array_equal(env.worlds.simulation.qpos[i], data.qpos)
            np.testing.assert_array_equal(env.worlds.simulation.qvel[i], data.qvel)
            forces = np.clip(_forces(model, data, scratch), -1, 1)
            touched[i] += np.any(forces != 0)
            force_cost = 0.0005 * sum(force**2 for force in forces.flat)
            effort, x, y = sum(action**2 for action in actions[i]), *data.qpos[:2]
            params = env.family.tasks[TASKS[i]].params
            if name == "ant_goal":
                expected = -abs(x - params[0]) - abs(y - params[1]) - 0.1 * effort - force_cost
                state = np.concatenate([data.qpos, data.qvel, forces.ravel()])
            else:
                speed = np.cos(params[0]) * (x - start[0]) / 0.05 + np.sin(params[0]) * (y - start[1]) / 0.05
                expected = speed - 0.5 * effort - force_cost + 1
                state = np.concatenate([data.qpos[2:], data.qvel])
                ended[i] = data.qpos[2] < 0.2 or data.qpos[2] > 1
            assert rewards[i] == pytest.approx(expected, abs=1e-11)
            np.testing.assert_array_equal(observations[i], state)
        np.testing.assert_array_equal(terminated, ended)
    assert touched.all() and touched.sum() > 40, "the comparison should include contacts"
    assert ended.any() == (name == "ant_dir"), "and ends, where there are any"
    env.close()


def test_forces_are_those_of_the_own_world_and_vanish_in_flight() -> None:
    env = envs.make_vector_env(envs.make_family("ant_goal", image_size=32, observation="state"), 4)
    env.reset(seed=0)
    env.worlds.simulation.qpos[[1, 3], 2] = 3.0
    strongest = np.zeros(4)
    for _ in range(8):
        observations, *_ = env.step(np.zeros((4, 8)))
        strongest = np.maximum(strongest, np.abs(observations[:, 29:]).max(axis=1))
    np.testing.assert_array_equal(strongest, [1, 0, 1, 0])
    env.close()


@pytest.mark.parametrize(("height", "falls"), [(0.19, True), (0.21, False), (0.99, False), (1.01, True)])
def test_ant_dir_ends_when_the_torso_leaves_its_heights_and_ant_goal_never(
    height: float, falls: bool
) -> None:
    state = State(np.full((2, 15), 0.5), np.zeros((2, 14)), {})
    state.qpos[1, 2] = height
    for name, ends in (("ant_dir", falls), ("ant_goal", False)):
        family = envs.make_family(name)
        ended = family.terminated(np.zeros((2, len(family.param_names))), state)
        np.testing.assert_array_equal(ended, [False, ends])


@pytest.mark.parametrize("entry", ["qpos", "qvel"])
def test_ant_dir_ends_in_a_state_that_is_not_finite(entry: str) -> None:
    state = State(np.full((2, 15), 0.5), np.zeros((2, 14)), {})
    getattr(state, entry)[1, 10] = np.nan
    ended = envs.make_family("ant_dir").terminated(np.zeros((2, 1)), state)
    np.testing.assert_array_equal(ended, [False, True])


@pytest.mark.parametrize("name", ["ant_goal", "ant_dir"])
def test_start_and_state_are_gymnasiums(name: str) -> None:
    env = envs.make_vector_env(envs.make_family(name, image_size=32, observation="state"), 1)
    stock = gymnasium.make("Ant-v5")
    observations, _ = env.reset(seed=[42], options={"task": [3]})
    stock.reset(seed=42)
    data = stock.unwrapped.data  # type: ignore[attr-defined]
    np.testing.assert_array_equal(env.worlds.simulation.qpos[0], data.qpos)
    np.testing.assert_array_equal(env.worlds.simulation.qvel[0], data.qvel)
    for _ in range(15):
        observations, *_ = env.step(np.full((1, 8), 0.3))
    stock.unwrapped.set_state(env.worlds.simulation.qpos[0], env.worlds.simulation.qvel[0])  # type: ignore[attr-defined]
    data.ctrl[:] = 0.3
    mujoco.mj_forward(stock.unwrapped.model, data)  # type: ignore[attr-defined]
    mujoco.mj_rnePostConstraint(stock.unwrapped.model, data)  # type: ignore[attr-defined]
    theirs = stock.unwrapped._get_obs()  # type: ignore[attr-defined]
    assert np.abs(theirs[27:]).max() > 0
    if name == "ant_dir":
        np.testing.assert_array_equal(observations[0], theirs[:27])
    else:
        np.testing.assert_array_equal(observations[0, :2], data.qpos[:2])
        np.testing.assert_array_equal(observations[0, 2:29], theirs[:27])
        np.testing.assert_array_equal(observations[0, 29:35], 0)  # the world, which gymnasium leaves out
        # Warm-started otherwise, the solver ends elsewhere within its tolerance.
        np.testing.assert_allclose(observations[0, 35:], theirs[27:], rtol=0, atol=1e-4)
    stock.close()
    env.close()


def test_goals_fill_the_disc_evenly() -> None:
    family = envs.make_family("ant_goal")
    assert (len(family.train_tasks), len(family.test_tasks)) == (150, 30)
    random = np.random.RandomState(1337)
    angle, radius = 2 * np.pi * random.random_sample(180), 3 * random.random_sample(180) ** 0.5
    goals = np.array([task.params for task in family.tasks[:180]])
    np.testing.assert_allclose(
        goals, np.transpose([radius * np.cos(angle), radius * np.sin(angle)]), atol=1e-15
    )
    distance = np.hypot(*goals.T)
    assert distance.max() <= 3
    # Half of the disc is within 1/sqrt(2) of its radius; were the radius drawn evenly, it would be 127 goals.
    assert 70 < (distance < 3 / np.sqrt(2)).sum() < 110
    quadrants = np.bincount((goals[:, 0] > 0) + 2 * (goals[:, 1] > 0))
    assert quadrants.min() > 30


def test_directions_go_round_the_circle() -> None:
    family = envs.make_family("ant_dir")
    assert (len(family.train_tasks), len(family.test_tasks)) == (100, 30)
    angles = np.array([task.params[0] for task in family.tasks[:130]])
    np.testing.assert_array_equal(angles, np.random.RandomState(1337).uniform(0, 2 * np.pi, 130))
    assert angles.min() >= 0 and angles.max() < 2 * np.pi
    assert np.histogram(angles, 4, (0, 2 * np.pi))[0].min() > 20


@pytest.mark.parametrize("name", ["ant_goal", "ant_dir"])
def test_no_picture_of_any_task_differs(name: str) -> None:
    family = envs.make_family(name, image_size=32)
    env = envs.make_vector_env(family, len(family.tasks))
    env.reset(seed=[1] * env.num_envs, options={"task": [task.index for task in family.tasks]})
    actions = np.tile(np.random.default_rng(0).uniform(-1, 1, 8), (env.num_envs, 1))
    for _ in range(3):
        frames, rewards, *_ = env.step(actions)
    assert (frames == frames[0]).all()
    assert len(np.unique(rewards)) == env.num_envs
    env.close()


@pytest.mark.parametrize("name", ["ant_goal", "ant_dir"])
def test_camera_follows_the_torso_and_not_the_centre_of_mass(name: str) -> None:
    env = envs.make_vector_env(envs.make_family(name, image_size=32), 50)
    simulation, model = env.worlds.simulation, env.worlds.simulation.model
    env.reset(seed=0)
    qpos = _postures(model, 50)
    simulation.reset(np.arange(50), qpos, np.zeros_like(simulation.qvel))
    offset = simulation.picture["cam_xpos"][:, 0] - qpos[:, :3]
    np.testing.assert_allclose(offset, np.tile(offset[0], (50, 1)), atol=1e-12)
    np.testing.assert_array_equal(
        simulation.picture["cam_xmat"], simulation.picture["cam_xmat"][:1].repeat(50, 0)
    )
    data = mujoco.MjData(model)
    centres = []
    for row in qpos:
        data.qpos[:] = row
        mujoco.mj_forward(model, data)
        centres.append(data.subtree_com[0] - row[:3])
    assert np.std(centres, axis=0).max() > 0.01, "the comparison should include moving centres of mass"
    env.close()


@pytest.mark.parametrize("size", [32, 64])
def test_a_picture_of_ant_goal_tells_where_the_ant_is(size: int) -> None:
    assert _errors_of_a_linear_readout("ant_goal", size).max() < 0.3


def test_a_picture_of_ant_dir_does_not_tell_where_the_ant_is() -> None:
    """Nor would that readout work on any floor: on one that repeats, it fails."""
    assert _errors_of_a_linear_readout("ant_dir", 64).mean() > 1


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", ["ant_goal", "ant_dir"])
def test_motion_is_seen_along_both_axes_and_far_away(name: str, size: int) -> None:
    places = [(0.3, 0.3), (0.35, 0.3), (0.45, 0.3), (0.3, 0.35), (0.3, 0.45), (60.3, 0.3), (60.45, 0.3)]
    frames = _frames_at(name, size, np.array(places))
    changed = {
        pair: (np.abs(frames[pair[0]] - frames[pair[1]]).max(axis=2) > 8).mean()
        for pair in [(0, 1), (0, 2), (0, 3), (0, 4), (5, 6)]
    }
    assert changed[0, 1] > 0.03 and changed[0, 3] > 0.03, "one step at 1 m/s"
    assert changed[0, 2] > 0.1 and changed[0, 4] > 0.1, "one step at 3 m/s"
    assert changed[5, 6] > 0.1, "the floor goes on"


@pytest.mark.parametrize("name", ["ant_goal", "ant_dir"])
def test_the_four_legs_can_be_told_apart(name: str) -> None:
    """Turned by a quarter, the same posture of the symmetric body gives another picture."""
    family = envs.make_family(name)
    env = envs.make_vector_env(family, 4)
    env.reset(seed=0)
    simulation = env.worlds.simulation
    qpos = np.stack([simulation.model.qpos0] * 4)
    turns = np.arange(4) * np.pi / 2
    qpos[:, 3], qpos[:, 6] = np.cos(turns / 2), np.sin(turns / 2)
    simulation.reset(np.arange(4), qpos, np.zeros_like(simulation.qvel))
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    env._drawing().draw(np.arange(4), frames)
    for i in range(4):
        for k in range(i):
            assert (np.abs(frames[i].astype(int) - frames[k]).max(axis=2) > 50).mean() > 0.03
    env.close()


def _forces(model: mujoco.MjModel, data: mujoco.MjData, scratch: mujoco.MjData) -> np.ndarray:
    """cfrc_ext in the state that `data` has reached, computed elsewhere."""
    mujoco.mj_copyData(scratch, model, data)
    mujoco.mj_forward(model, scratch)
    mujoco.mj_rnePostConstraint(model, scratch)
    return scratch.cfrc_ext.copy()


def _postures(model: mujoco.MjModel, number: int) -> np.ndarray:
    """Ants at any place in [-4, 4]^2, at any heading, tilted somewhat, legs within their ranges."""
    rng = np.random.default_rng(3)
    qpos = np.zeros((number, 15))
    qpos[:, :2] = rng.uniform(-4, 4, (number, 2))
    qpos[:, 2] = rng.uniform(0.3, 0.8, number)
    heading = rng.uniform(0, 2 * np.pi, number)
    tilt = np.stack(
        [np.cos(heading / 2), *rng.uniform(-0.15, 0.15, (2, number)), np.sin(heading / 2)], axis=1
    )
    qpos[:, 3:7] = tilt / np.linalg.norm(tilt, axis=1, keepdims=True)
    qpos[:, 7:] = rng.uniform(*model.jnt_range[1:].T, (number, 8))
    return qpos


def _errors_of_a_linear_readout(name: str, size: int) -> np.ndarray:
    """Distances (200, 2) along x and y between where ants are and what a linear map of the picture says.

    The map is fitted to 400 other pictures. It sees the mean red and green of the floor in each quarter of
    the picture; floor is what has little blue, which is true of the ant nowhere but in its dark spots.
    """
    env = envs.make_vector_env(envs.make_family(name, image_size=size), 600)
    env.reset(seed=0)
    simulation = env.worlds.simulation
    qpos = _postures(simulation.model, 600)
    simulation.reset(np.arange(600), qpos, np.zeros_like(simulation.qvel))
    frames = np.zeros((600, size, size, 3), np.uint8)
    env._drawing().draw(np.arange(600), frames)
    env.close()
    ant = np.repeat(frames[..., 2:] >= 110, 2, axis=3)
    floor = np.ma.array(frames[..., :2].astype(float), mask=ant)
    floor -= floor[:400].mean(axis=0)  # so that it does not matter which part the legs cover
    quarters = floor.reshape(600, 2, size // 2, 2, size // 2, 2)
    terms = np.column_stack([quarters.mean(axis=(2, 4)).filled(np.nan).reshape(600, 8), np.ones(600)])
    weights = np.linalg.lstsq(terms[:400], qpos[:400, :2], rcond=None)[0]
    return np.abs(terms[400:] @ weights - qpos[400:, :2])


def _frames_at(name: str, size: int, places: np.ndarray) -> np.ndarray:
    """Pictures (signed) of one posture at these places."""
    env = envs.make_vector_env(envs.make_family(name, image_size=size), len(places))
    env.reset(seed=0)
    simulation = env.worlds.simulation
    qpos = np.stack([simulation.model.qpos0] * len(places))
    qpos[:, :2] = places
    simulation.reset(np.arange(len(places)), qpos, np.zeros_like(simulation.qvel))
    frames = np.zeros((len(places), size, size, 3), np.uint8)
    env._drawing().draw(np.arange(len(places)), frames)
    env.close()
    return frames.astype(int)
