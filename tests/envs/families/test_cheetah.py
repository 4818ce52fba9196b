"""The cheetah families against plain MuJoCo stepped in a loop, and what can be seen of the body."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from metaslac import envs

XML = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"


@pytest.fixture(autouse=True)
def log_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo finds fault with the stock model file, and logs it where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_physics_and_rewards_equal_plain_mujoco(threads: int) -> None:
    model = mujoco.MjModel.from_xml_path(str(XML))
    worlds, steps = 4, 60
    env = envs.make_vector_env(envs.make_family("cheetah_vel", image_size=32), worlds, threads=threads)
    env.reset(seed=5, options={"task": [0, 7, 100, 129]})
    targets = np.random.RandomState(1337).uniform(0, 3, 130)[[0, 7, 100, 129]]
    plain = [mujoco.MjData(model) for _ in range(worlds)]
    for data, qpos, qvel in zip(plain, env.worlds.simulation.qpos, env.worlds.simulation.qvel, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
    rng = np.random.default_rng(0)
    contacts = np.zeros(worlds, int)
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (worlds, 6))
        _, rewards, terminated, _, _ = env.step(actions)
        for i, data in enumerate(plain):
            x = data.qpos[0]
            data.ctrl[:] = actions[i]
            mujoco.mj_step(model, data, nstep=5)
            expected = -abs((data.qpos[0] - x) / 0.05 - targets[i]) - 0.05 * sum(a * a for a in actions[i])
            assert rewards[i] == pytest.approx(expected, abs=1e-12)
            np.testing.assert_array_equal(env.worlds.simulation.qpos[i], data.qpos)
            np.testing.assert_array_equal(env.worlds.simulation.qvel[i], data.qvel)
            contacts[i] += data.ncon
        assert not terminated.any()
    assert contacts.all(), "the comparison should include contacts"
    env.close()


def test_references_are_the_returns_of_velocities_that_are_held() -> None:
    family = envs.make_family("cheetah_vel", image_size=32)
    targets = np.array([task.params for task in family.test_tasks])
    for speed, known in zip((1.5, 0.0), family.known_references(family.test_tasks), strict=True):
        at = np.zeros((30, 9))
        before, after = (envs.State(at + moved, at, {}) for moved in (0.0, 0.05 * speed))
        rewards = family.reward(envs.Step(targets, np.zeros((30, 6)), before, after, 0.05))
        assert known.value == pytest.approx(200 * rewards.mean(), abs=1e-9)


def test_no_constant_velocity_is_better_for_unknown_targets_than_the_middle_one() -> None:
    targets = np.linspace(0, 3, 3001)
    speeds = np.linspace(0, 3, 31)
    mean = [np.abs(targets - speed).mean() for speed in speeds]
    assert speeds[np.argmin(mean)] == pytest.approx(1.5)


def test_running_either_way_pays_and_costs_as_in_plain_mujoco() -> None:
    model = mujoco.MjModel.from_xml_path(str(XML))
    family = envs.make_family("cheetah_dir", image_size=32, observation="state")
    env = envs.make_vector_env(family, 4)
    env.reset(seed=[8, 8, 9, 9], options={"task": [0, 1, 2, 3]})
    directions = [-1, 1, -1, 1]
    plain = [mujoco.MjData(model) for _ in directions]
    for data, qpos, qvel in zip(plain, env.worlds.simulation.qpos, env.worlds.simulation.qvel, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
    rng = np.random.default_rng(1)
    for _ in range(40):
        actions = np.repeat(rng.uniform(-1, 1, (2, 6)), 2, axis=0)
        states, rewards, terminated, _, info = env.step(actions)
        for i, data in enumerate(plain):
            x = data.qpos[0]
            data.ctrl[:] = actions[i]
            mujoco.mj_step(model, data, nstep=5)
            velocity, cost = (data.qpos[0] - x) / 0.05, 0.05 * sum(a * a for a in actions[i])
            assert rewards[i] == pytest.approx(directions[i] * velocity - cost, abs=1e-12)
            np.testing.assert_array_equal(env.worlds.simulation.qpos[i], data.qpos)
            np.testing.assert_array_equal(env.worlds.simulation.qvel[i], data.qvel)
            mujoco.mj_kinematics(model, data)
            expected = np.concatenate([data.qpos[1:], data.qvel, data.body("torso").xpos])
            np.testing.assert_allclose(states[i], expected, rtol=0, atol=1e-12)
        assert not terminated.any()
        assert set(info) == {"control_steps"}
    assert states.shape == (4, 20)
    env.close()


def test_both_directions_are_trained_on_and_tested_on() -> None:
    family = envs.make_family("cheetah_dir")
    assert [task.params for task in family.tasks] == [(-1.0,), (1.0,)] * 3
    assert [task.split for task in family.tasks] == ["train"] * 2 + ["test"] * 2 + ["validation"] * 2
    assert family.horizon == 200


@pytest.mark.parametrize("name", ["cheetah_dir", "cheetah_vel"])
def test_start_is_gymnasiums(name: str) -> None:
    env = envs.make_vector_env(envs.make_family(name, image_size=32), 1)
    stock = gymnasium.make("HalfCheetah-v5")
    env.reset(seed=[42], options={"task": [3]})
    stock.reset(seed=42)
    data = stock.unwrapped.data  # type: ignore[attr-defined]
    np.testing.assert_array_equal(env.worlds.simulation.qpos[0], data.qpos)
    np.testing.assert_array_equal(env.worlds.simulation.qvel[0], data.qvel)
    stock.close()
    env.close()


@pytest.mark.parametrize("size", [32, 64])
def test_floor_shows_how_far_the_cheetah_ran(size: int) -> None:
    env = envs.make_vector_env(envs.make_family("cheetah_vel", image_size=size), 4)
    env.reset(seed=[0] * 4, options={"task": [0] * 4})
    frames = _frames_at(env, x=np.array([0.0, 0.05, 0.15, 30.3]))
    changed = [(np.abs(frame - frames[0]).max(axis=2) > 8).mean() for frame in frames]
    assert changed[1] > 0.03, "one step at 1 m/s"
    assert changed[2] > changed[1], "one step at 3 m/s"
    assert changed[3] > 0.1, "the floor goes on"
    upper = frames[:, : size // 4]
    assert (upper == upper[0]).all(), "the camera follows: only the floor moves"
    env.close()


def test_camera_follows_the_torso_and_not_the_centre_of_mass() -> None:
    env = envs.make_vector_env(envs.make_family("cheetah_vel", image_size=32), 2)
    env.reset(seed=0)
    x, z = env.worlds.simulation.qpos[:, 0], env.worlds.simulation.qpos[:, 1] + 0.7
    camera = env.worlds.simulation.picture["cam_xpos"][:, 0]
    np.testing.assert_allclose(camera, np.stack([x, np.full(2, -3.0), z + 0.35], axis=1))
    env.close()


def test_the_families_of_the_cheetah_look_alike() -> None:
    made = [envs.make_vector_env(envs.make_family(name), 2) for name in ("cheetah_dir", "cheetah_vel")]
    first, second = (env.reset(seed=4, options={"task": [0, 1]})[0] for env in made)
    np.testing.assert_array_equal(first, second)
    for env in made:
        env.close()


def _frames_at(env: envs.TaskVectorEnv, x: np.ndarray) -> np.ndarray:
    """Pictures (signed) of the current posture, moved to the torso positions x."""
    worlds = np.arange(env.num_envs)
    qpos = env.worlds.simulation.qpos.copy()
    qpos[:, 0] = x
    env.worlds.simulation.reset(worlds, qpos, np.zeros_like(env.worlds.simulation.qvel))
    frames = np.zeros((env.num_envs, *env.single_observation_space.shape), np.uint8)
    env._drawing().draw(worlds, frames)
    return frames.astype(int)
