"""humanoid_dir against plain MuJoCo stepped in a loop, and what can be seen of it."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from metaslac import envs

XML = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"
TASKS = [0, 7, 100, 129]


@pytest.mark.parametrize("threads", [1, 2])
def test_physics_rewards_ends_and_states_equal_plain_mujoco(threads: int) -> None:
    model = mujoco.MjModel.from_xml_path(str(XML))
    plain, scratch = [mujoco.MjData(model) for _ in TASKS], mujoco.MjData(model)
    family = envs.make_family("humanoid_dir", image_size=32, observation="state")
    env = envs.make_vector_env(family, len(TASKS), threads)
    env.reset(seed=5, options={"task": TASKS})
    # This one hits the ground so hard that the cost of it reaches its bound.
    env.worlds.simulation.qvel[3, 2] = -25.0
    env.worlds.simulation.reset(
        np.arange(4), env.worlds.simulation.qpos.copy(), env.worlds.simulation.qvel.copy()
    )
    for data, qpos, qvel in zip(plain, env.worlds.simulation.qpos, env.worlds.simulation.qvel, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
    rng = np.random.default_rng(0)
    touched, bounded, ended = np.zeros(len(TASKS), int), 0, np.zeros(len(TASKS), bool)
    for _ in range(60):
        actions = rng.uniform(-1, 1, (len(TASKS), 17))
        observations, rewards, terminated, _, _ = env.step(actions)
        for i in np.flatnonzero(~ended):
            data = plain[i]
            start = _centre_of_mass(model, _forward(model, data, scratch))
            data.ctrl[:] = 0.4 * actions[i]
            # Not a forward pass in between: the one that the family has made for its forces leaves no trace.
            mujoco.mj_step(model, data, nstep=5)
            np.testing.assert_array_equal(env.worlds.simulation.qpos[i], data.qpos)
            np.testing.assert_array_equal(env.worlds.simulation.qvel[i], data.qvel)
            reached = _forward(model, data, scratch)
            x, y = _centre_of_mass(model, reached)
            angle = family.tasks[TASKS[i]].params[0]
            forward = 0.25 * (np.cos(angle) * (x - start[0]) + np.sin(angle) * (y - start[1])) / 0.003
            hit = 5e-7 * sum(force**2 for force in reached.cfrc_ext.flat)
            touched[i] += hit > 0
            bounded += hit > 10
            effort = sum((0.4 * action) ** 2 for action in actions[i])
            assert rewards[i] == pytest.approx(forward - 0.1 * effort - min(hit, 10) + 5, abs=1e-10)
            derived = [reached.cinert, reached.cvel, reached.qfrc_actuator, reached.cfrc_ext]
            state = np.concatenate([data.qpos[2:], data.qvel, *(part.ravel() for part in derived)])
            np.testing.assert_array_equal(observations[i], state)
            ended[i] = data.qpos[2] < 1 or data.qpos[2] > 2
        np.testing.assert_array_equal(terminated, ended)
    assert touched.all() and touched.sum() > 10, "the comparison should include contacts"
    assert bounded, "and one that costs all that a contact may"
    assert ended.any(), "and ends"
    env.close()


def test_the_forward_term_is_one_and_a_quarter_of_the_velocity() -> None:
    env = envs.make_vector_env(envs.make_family("humanoid_dir", image_size=32, observation="state"), 2)
    env.reset(seed=0, options={"task": [4, 4]})
    simulation = env.worlds.simulation
    angle = env.params[0, 0]
    qpos, qvel = np.stack([simulation.model.qpos0] * 2), np.zeros_like(simulation.qvel)
    qpos[:, 2] = 1.6  # in flight: the velocity stays
    qvel[1, :2] = 2 * np.cos(angle), 2 * np.sin(angle)
    simulation.reset(np.arange(2), qpos, qvel)
    _, rewards, *_ = env.step(np.zeros((2, 17)))
    assert rewards[0] == pytest.approx(5, abs=1e-3)
    assert rewards[1] - rewards[0] == pytest.approx(1.25 * 2, abs=1e-6)
    env.close()


def test_forces_are_those_of_the_own_world_and_vanish_in_flight() -> None:
    env = envs.make_vector_env(envs.make_family("humanoid_dir", image_size=32, observation="state"), 4)
    env.reset(seed=0)
    env.worlds.simulation.qpos[[1, 3], 2] = 1.9
    strongest = np.zeros(4)
    for _ in range(15):
        observations, *_ = env.step(np.zeros((4, 17)))
        strongest = np.maximum(strongest, np.abs(observations[:, -84:]).max(axis=1))
    np.testing.assert_array_equal(strongest[[1, 3]], 0)
    assert (strongest[[0, 2]] > 10).all()
    env.close()


@pytest.mark.parametrize(("height", "falls"), [(0.99, True), (1.01, False), (1.99, False), (2.01, True)])
def test_ends_when_the_torso_leaves_its_heights(height: float, falls: bool) -> None:
    env = envs.make_vector_env(envs.make_family("humanoid_dir", image_size=32), 1)
    simulation = env.worlds.simulation
    qpos = simulation.model.qpos0[None].copy()
    qpos[0, 2] = height
    simulation.reset(np.arange(1), qpos, np.zeros_like(simulation.qvel))
    assert env.family.terminated(env.params, simulation.states(np.arange(1))).tolist() == [falls]
    env.close()


def test_start_and_state_are_gymnasiums() -> None:
    env = envs.make_vector_env(envs.make_family("humanoid_dir", image_size=32, observation="state"), 1)
    stock = gymnasium.make("Humanoid-v5")
    env.reset(seed=[42], options={"task": [3]})
    stock.reset(seed=42)
    simulation = env.worlds.simulation
    data, model = stock.unwrapped.data, stock.unwrapped.model  # type: ignore[attr-defined]
    np.testing.assert_array_equal(simulation.qpos[0], data.qpos)
    np.testing.assert_array_equal(simulation.qvel[0], data.qvel)
    mine = np.zeros(376)
    while np.abs(mine[-84:]).max() < 10:  # until it touches the ground
        observations, _, terminated, *_ = env.step(np.full((1, 17), 0.3))
        mine = observations[0]
        assert not terminated[0]
    stock.unwrapped.set_state(simulation.qpos[0], simulation.qvel[0])  # type: ignore[attr-defined]
    data.ctrl[:] = 0.3 * 0.4
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    theirs = stock.unwrapped._get_obs()  # type: ignore[attr-defined]
    assert (len(mine), len(theirs)) == (376, 348)
    # gymnasium leaves out the world and the six motors that the root does not have.
    parts = [("pose", 0, 45, 0), ("cinert", 45, 140, 10), ("cvel", 185, 84, 6), ("motors", 269, 23, 6)]
    taken = 0
    for name, start, length, left_out in parts:
        kept = length - left_out
        np.testing.assert_array_equal(mine[start : start + left_out], 0, err_msg=name)
        np.testing.assert_array_equal(
            mine[start + left_out : start + length], theirs[taken : taken + kept], err_msg=name
        )
        taken += kept
    # Warm-started otherwise, the solver ends elsewhere within its tolerance.
    np.testing.assert_array_equal(mine[292:298], 0)
    assert np.abs(theirs[taken:]).max() > 10
    np.testing.assert_allclose(mine[298:], theirs[taken:], rtol=1e-3, atol=1e-3)
    stock.close()
    env.close()


def test_directions_go_round_the_circle() -> None:
    family = envs.make_family("humanoid_dir")
    assert (len(family.train_tasks), len(family.test_tasks)) == (100, 30)
    angles = np.array([task.params[0] for task in family.tasks[:130]])
    np.testing.assert_array_equal(angles, np.random.RandomState(1337).uniform(0, 2 * np.pi, 130))
    assert angles.min() >= 0 and angles.max() < 2 * np.pi


def test_no_picture_of_any_task_differs() -> None:
    family = envs.make_family("humanoid_dir", image_size=32)
    env = envs.make_vector_env(family, len(family.tasks))
    env.reset(seed=[1] * env.num_envs, options={"task": [task.index for task in family.tasks]})
    actions = np.tile(np.random.default_rng(0).uniform(-1, 1, 17), (env.num_envs, 1))
    for _ in range(3):
        frames, rewards, *_ = env.step(actions)
    assert (frames == frames[0]).all()
    assert len(np.unique(rewards)) == env.num_envs
    env.close()


def test_camera_follows_the_torso_and_not_the_centre_of_mass() -> None:
    env = envs.make_vector_env(envs.make_family("humanoid_dir", image_size=32), 50)
    simulation, model = env.worlds.simulation, env.worlds.simulation.model
    rng = np.random.default_rng(0)
    qpos = np.stack([model.qpos0] * 50)
    qpos[:, :3] += rng.uniform(-0.4, 0.4, (50, 3))
    qpos[:, 7:] = rng.uniform(*model.jnt_range[1:].T, (50, 17))
    simulation.reset(np.arange(50), qpos, np.zeros_like(simulation.qvel))
    camera = model.camera("track").id
    offset = simulation.picture["cam_xpos"][:, camera] - qpos[:, :3]
    np.testing.assert_allclose(offset, np.tile(offset[0], (50, 1)), atol=1e-12)
    turn = simulation.picture["cam_xmat"][:, camera]
    np.testing.assert_array_equal(turn, np.tile(turn[0], (50, 1)))
    data = mujoco.MjData(model)
    centres = []
    for row in qpos:
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        centres.append(_centre_of_mass(model, data) - row[:2])
    assert np.std(centres, axis=0).max() > 0.01, "the comparison should include moving centres of mass"
    env.close()


@pytest.mark.parametrize("size", [32, 64])
def test_motion_is_seen_along_both_axes_and_far_away(size: int) -> None:
    places = np.array([(0, 0), (0.015, 0), (0.06, 0), (0, 0.015), (0, 0.06), (30, 0), (30.06, 0)]) + 0.3
    frames = _frames(size, places, np.zeros(len(places)))
    changed = {
        pair: (np.abs(frames[pair[0]] - frames[pair[1]]).max(axis=2) > 8).mean()
        for pair in [(0, 1), (0, 2), (0, 3), (0, 4), (5, 6)]
    }
    assert changed[0, 1] > 0.05 and changed[0, 3] > 0.05, "one step at 1 m/s"
    assert changed[0, 2] > 0.1 and changed[0, 4] > 0.1, "one step at 4 m/s"
    assert changed[5, 6] > 0.1, "the floor goes on"


def test_headings_can_be_told_apart() -> None:
    turns = np.arange(8) * np.pi / 4
    frames = _frames(64, np.full((8, 2), 0.3), turns)
    for i in range(8):
        for k in range(i):
            assert (np.abs(frames[i] - frames[k]).max(axis=2) > 50).mean() > 0.02


def _forward(model: mujoco.MjModel, data: mujoco.MjData, scratch: mujoco.MjData) -> mujoco.MjData:
    """Everything about the state that `data` has reached, computed elsewhere."""
    mujoco.mj_copyData(scratch, model, data)
    mujoco.mj_forward(model, scratch)
    mujoco.mj_rnePostConstraint(model, scratch)
    return scratch


def _centre_of_mass(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    return (model.body_mass[:, None] * data.xipos).sum(axis=0)[:2] / model.body_mass.sum()


def _frames(size: int, places: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Pictures (signed) of one posture at these places and headings."""
    env = envs.make_vector_env(envs.make_family("humanoid_dir", image_size=size), len(places))
    simulation = env.worlds.simulation
    qpos = np.stack([simulation.model.qpos0] * len(places))
    qpos[:, :2] = places
    qpos[:, 3], qpos[:, 6] = np.cos(turns / 2), np.sin(turns / 2)
    simulation.reset(np.arange(len(places)), qpos, np.zeros_like(simulation.qvel))
    frames = np.zeros((len(places), size, size, 3), np.uint8)
    env._drawing().draw(np.arange(len(places)), frames)
    env.close()
    return frames.astype(int)
