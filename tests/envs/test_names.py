"""What is known of families without importing them is what they are, by name and as gymnasium's ids."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.suite import suite_names
from metaslac.envs.gymnasium_ids import gymnasium_id
from metaslac.envs.names import BUILT_IN, SUITE, SUITE_HORIZON
from metaslac.envs.worlds.vector_env import TaskVectorEnv


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_family_is_what_its_name_says(name: str) -> None:
    family = envs.make_family(name)
    place = BUILT_IN[name]
    assert (type(family).__module__, type(family).__name__) == place[:2]
    assert (family.name, family.horizon) == (name, place.horizon)
    spec = gymnasium.spec(gymnasium_id(name))
    assert spec.max_episode_steps == place.horizon and spec.kwargs == {"family": name}


def test_the_suite_has_the_tasks_that_are_listed() -> None:
    assert sorted(SUITE) == sorted(suite_names())
    ids = {gymnasium_id(name) for name in SUITE}
    assert len(ids) == len(SUITE) and ids <= gymnasium.registry.keys()
    for name in ("dmc:ball_in_cup-catch", "dmc:lqr-lqr_2_1", "dmc:humanoid_CMU-run"):
        assert envs.make_family(name).horizon == SUITE_HORIZON


def test_ids_are_words() -> None:
    assert gymnasium_id("cheetah_vel") == "metaslac/CheetahVel-v0"
    assert gymnasium_id("dmc:ball_in_cup-catch") == "metaslac/DmcBallInCupCatch-v0"
    assert gymnasium_id("dmc:humanoid_CMU-run") == "metaslac/DmcHumanoidCMURun-v0"


def test_a_task_of_the_suite_can_be_made() -> None:
    env = gymnasium.make("metaslac/DmcCartpoleSwingup-v0", image_size=32)
    frame, info = env.reset(seed=0)
    assert frame.shape == (32, 32, 3) and info == {"task": 0}
    env.close()


def test_many_worlds_are_the_native_ones() -> None:
    env = gymnasium.make_vec("metaslac/PointRobot-v0", num_envs=3, image_size=32)
    alone = gymnasium.make("metaslac/PointRobot-v0", image_size=32)
    assert isinstance(env, TaskVectorEnv) and env.spec is not None
    frames, info = env.reset(seed=[5, 6, 7], options={"task": 83})
    frame, info_alone = alone.reset(options={"task": 83})
    assert info.keys() == info_alone.keys() == {"task"}
    assert info["task"].tolist() == [83] * 3 and info_alone["task"] == 83
    again, info = env.reset(seed=[5, 6, 7], options={"task": [83, 2, 83]})
    assert info["task"].tolist() == [83, 2, 83]
    np.testing.assert_array_equal(frames[[0, 2]], again[[0, 2]])
    env.close()
    alone.close()


@pytest.mark.parametrize("repeat", [1, 2])
def test_the_description_tells_how_many_decisions_an_episode_has(repeat: int) -> None:
    alone = gymnasium.make("metaslac/PointRobot-v0", image_size=32, action_repeat=repeat)
    many = gymnasium.make_vec("metaslac/PointRobot-v0", num_envs=2, image_size=32, action_repeat=repeat)
    for env in (alone.unwrapped, many.unwrapped):
        assert env.spec is not None and env.spec.max_episode_steps == 20 // repeat
    alone.reset(seed=0)
    many.reset(seed=0)
    ends = [alone.step(np.zeros(2, np.float32))[3] for _ in range(20 // repeat)]
    assert ends == [False] * (20 // repeat - 1) + [True]
    alone.close()
    many.close()


def test_a_limit_below_the_familys_is_refused_where_it_cannot_be_kept() -> None:
    with pytest.raises(
        envs.FamilyError, match="point_robot: episodes of many worlds have 20 decisions, not 5"
    ):
        gymnasium.make_vec("metaslac/PointRobot-v0", num_envs=2, image_size=32, max_episode_steps=5)
    with pytest.raises(envs.FamilyError, match="render_mode must be None or 'rgb_array'"):
        gymnasium.make_vec("metaslac/PointRobot-v0", num_envs=2, image_size=32, render_mode="human")


def test_an_id_with_its_module_needs_no_import() -> None:
    env = gymnasium.make("metaslac.envs:metaslac/ReacherGoal-v0", image_size=32)
    assert env.reset(seed=0)[0].shape == (32, 32, 3)
    env.close()
