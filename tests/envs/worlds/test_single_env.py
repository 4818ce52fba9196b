"""The plain environments that gymnasium.make gives."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from metaslac import envs

IDS = {
    "ant_dir": "metaslac/AntDir-v0",
    "ant_goal": "metaslac/AntGoal-v0",
    "cheetah_dir": "metaslac/CheetahDir-v0",
    "cheetah_vel": "metaslac/CheetahVel-v0",
    "hopper_rand_params": "metaslac/HopperRandParams-v0",
    "humanoid_dir": "metaslac/HumanoidDir-v0",
    "point_robot": "metaslac/PointRobot-v0",
    "reacher_goal": "metaslac/ReacherGoal-v0",
    "sparse_point_robot": "metaslac/SparsePointRobot-v0",
    "walker_rand_params": "metaslac/WalkerRandParams-v0",
}


@pytest.mark.parametrize("name", envs.family_names())
def test_check_env_passes_without_warnings(name: str) -> None:
    env = gymnasium.make(IDS[name], render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_module_prefix_works() -> None:
    env = gymnasium.make("envs:metaslac/PointRobot-v0", image_size=32, action_repeat=2)
    frame, _ = env.reset(seed=0)
    assert frame.shape == (32, 32, 3)
    env.close()


def test_plain_env_plays_the_episode_of_the_vector_env() -> None:
    plain = gymnasium.make(IDS["cheetah_vel"], image_size=32)
    many = envs.make_vector_env(envs.make_family("cheetah_vel", image_size=32), 2)
    frame, info = plain.reset(seed=9, options={"task": 110})
    frames, _ = many.reset(seed=[1, 9], options={"task": [0, 110]})
    assert info == {"task": 110}
    np.testing.assert_array_equal(frame, frames[1])
    rng = np.random.default_rng(0)
    for _ in range(3):
        actions = rng.uniform(-1, 1, (2, 6))
        frame, reward, *_ = plain.step(actions[1])
        frames, rewards, *_ = many.step(actions)
        np.testing.assert_array_equal(frame, frames[1])
        assert reward == rewards[1]
    plain.close()
    many.close()


def test_a_training_task_is_drawn_if_none_is_named() -> None:
    env = gymnasium.make(IDS["point_robot"], image_size=32)
    drawn = [env.reset(seed=0 if k == 0 else None)[1]["task"] for k in range(30)]
    again = [env.reset(seed=0 if k == 0 else None)[1]["task"] for k in range(30)]
    assert drawn == again
    assert len(set(drawn)) > 10
    assert max(drawn) < 80
    env.close()


def test_episode_is_truncated_at_the_horizon() -> None:
    env = gymnasium.make(IDS["point_robot"], image_size=32)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(False, True)]
    env.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"task": 200}, "unknown task 200; the tasks are 0 to 119"), ({"tasks": [0]}, "unknown reset options")],
)
def test_bad_reset_options_are_refused(options: dict[str, object], said: str) -> None:
    env = envs.TaskEnv("point_robot", image_size=32)
    with pytest.raises(envs.FamilyError, match=said):
        env.reset(options=options)
    with pytest.raises(envs.FamilyError, match="shape"):
        env.step(np.zeros(3))
    env.close()


def test_vector_env_states_its_interface() -> None:
    env = envs.make_vector_env(envs.make_family("cheetah_vel", image_size=32), 3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert env.metadata["render_fps"] == 20
    assert isinstance(env, gymnasium.vector.VectorEnv)
    frames, _ = env.reset(seed=0)
    assert frames in env.observation_space
    assert env.action_space.shape == (3, 6)
    frames, rewards, terminated, truncated, info = env.step(env.action_space.sample())
    assert frames in env.observation_space
    assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
    assert {name: values.tolist() for name, values in info.items()} == {"control_steps": [1, 1, 1]}
    env.close()
