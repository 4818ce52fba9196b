"""Agents and environments in rlkit's interface: what is played is what is played without it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from fakes import SIZE, untrained_checkpoint
from helpers.rollouts import Wrapper, pearl_rollout, rlkit_rollout

import metaslac
from metaslac import envs
from metaslac.acting.rollout import rng_of
from metaslac.acting.single_task import SingleTaskAgent
from metaslac.integrations.rlkit import RLKIT_STREAM, AgentPolicy, FlatBox, MultitaskEnv

EPISODES, HELD_OUT, SEED = 3, 83, 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = envs.make_family("point_robot", image_size=SIZE)
    return untrained_checkpoint(tmp_path_factory.mktemp("agent") / "1", family)


def agent_of(checkpoint: Path) -> SingleTaskAgent:
    return metaslac.load(checkpoint, device="cpu")


def played_without(agent: SingleTaskAgent, tasks: list[int]) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Actions, rewards and the belief's width of EPISODES on each task, in a loop of one's own."""
    env, episodes = envs.TaskEnv("point_robot", SIZE), []
    agent.begin_task()  # the one that was there before the first reset_task
    for task in tasks:
        agent.begin_task()
        for number in range(1, EPISODES + 1):  # reset_task has reset once
            seed = int(rng_of(SEED, RLKIT_STREAM, task, number).integers(2**31))
            frame, _ = env.reset(seed=seed, options={"task": task})
            agent.begin_episode(frame)
            actions, rewards, over = [], [], False
            while not over:
                actions.append(agent.act())
                frame, reward, terminated, truncated, _ = env.step(actions[-1])
                agent.observe(actions[-1], reward, frame)
                rewards.append(reward)
                over = terminated or truncated
            episodes.append((np.array(actions), np.array(rewards), float(agent.belief.std.sum())))
    env.close()
    return episodes


@pytest.mark.parametrize("rollout", [rlkit_rollout, pearl_rollout])
@pytest.mark.parametrize("wrap", [lambda env: env, Wrapper])
def test_rollouts_are_the_agents_own_episodes_bit_for_bit(checkpoint: Path, rollout: Any, wrap: Any) -> None:
    env = wrap(MultitaskEnv("point_robot", seed=SEED, done_at_horizon=False, image_size=SIZE))
    policy = AgentPolicy(agent_of(checkpoint), env)
    widths, paths = [], []
    for task in (HELD_OUT, 2):
        env.reset_task(task)
        for _ in range(EPISODES):
            paths.append(rollout(env, policy, max_path_length=env.horizon))
            widths.append(float(policy.agent.belief.std.sum()))
    expected = played_without(agent_of(checkpoint), [HELD_OUT, 2])
    assert len(paths) == len(expected) == 6
    for path, width, (actions, rewards, other) in zip(paths, widths, expected, strict=True):
        np.testing.assert_array_equal(path["actions"], actions)
        np.testing.assert_array_equal(path["rewards"][:, 0], rewards)
        assert width == other
        assert path["observations"].shape == (20, SIZE * SIZE * 3) and not path["terminals"].any()
    narrowed = [path["agent_infos"][0]["belief_std"].sum() for path in paths]
    assert narrowed[0] == narrowed[3] > narrowed[1] == widths[0] > narrowed[2]
    env.close()


def test_time_limits_are_ends_that_rlkit_knows_for_none(checkpoint: Path) -> None:
    env = MultitaskEnv("point_robot", image_size=SIZE)
    policy = AgentPolicy(agent_of(checkpoint), env)
    env.reset_task(0)
    path = rlkit_rollout(env, policy)  # which goes on until it is done
    assert len(path["rewards"]) == env.horizon == 20 and not path["terminals"].any()
    with pytest.raises(envs.FamilyError, match="no episode is running"):
        env.step(np.zeros(2))
    env.reset()
    dones = [env.step(np.zeros(2))[2:] for _ in range(20)]
    assert [done for done, _ in dones] == [False] * 19 + [True]
    assert dones[-1][1]["TimeLimit.truncated"] and "TimeLimit.truncated" not in dones[-2][1]
    env.close()


def test_an_end_for_good_is_one_either_way() -> None:
    for at_horizon in (True, False):
        env = MultitaskEnv("hopper_rand_params", done_at_horizon=at_horizon, observation="state")
        env.reset()
        done, steps, info = False, 0, {}
        while not done:
            _, _, done, info = env.step(np.ones(3))
            steps += 1
        assert steps < env.horizon and "TimeLimit.truncated" not in info
        env.close()


def test_tasks_are_those_of_the_family_in_pearls_order() -> None:
    env = MultitaskEnv("point_robot", observation="state")
    family = env.family
    assert list(env.get_all_task_idx()) == list(range(100))
    assert [task["goal_x"] for task in env.tasks[-20:]] == [task.params[0] for task in family.test_tasks]
    first = [{"goal_x": task.params[0], "goal_y": task.params[1]} for task in family.tasks[:3]]
    assert env.sample_tasks(3) == env.tasks[:3] == first
    env.reset_task(env.get_all_task_idx()[-1])
    assert tuple(env._goal) == family.test_tasks[-1].params
    for bad in (-1, 100, "0"):
        with pytest.raises(envs.FamilyError, match="they are 0 to 99"):
            env.reset_task(bad)
    for bad in (-1, 81):
        with pytest.raises(envs.FamilyError, match="there are 80 tasks to train on"):
            env.sample_tasks(bad)
    env.tasks = env.tasks
    with pytest.raises(envs.FamilyError, match="its tasks are frozen"):
        env.tasks = env.tasks[::-1]
    env.close()


def test_validation_tasks_are_left_out() -> None:
    env = MultitaskEnv("cheetah_vel", observation="state")
    assert len(env.tasks) == 130 < len(env.family.tasks)
    env.close()


def test_spaces_have_the_sizes_that_replay_buffers_ask_for() -> None:
    env = MultitaskEnv("point_robot", image_size=SIZE)
    assert env.observation_space.flat_dim == env.observation_space.low.size == SIZE * SIZE * 3
    assert env.action_space.flat_dim == 2 and isinstance(env.action_space, gymnasium.spaces.Box)
    assert env.reset() in env.observation_space and env.reset().dtype == np.uint8
    assert isinstance(env.observation_space, FlatBox)
    assert env.render().shape == (SIZE, SIZE, 3) and env.render(mode="human").any()
    np.testing.assert_array_equal(env.step(np.ones(2))[0], env.render().ravel())
    env.close()


def test_sparse_rewards_come_as_in_pearls_code() -> None:
    env, plain = (
        MultitaskEnv("sparse_point_robot", observation="state"),
        envs.TaskEnv("sparse_point_robot", observation="state"),
    )
    env.reset_task(3)
    observation = env.reset()
    seed = int(rng_of(0, RLKIT_STREAM, 3, 1).integers(2**31))
    np.testing.assert_array_equal(observation, plain.reset(seed=seed, options={"task": 3})[0])
    for _ in range(20):
        action = np.clip(5 * (env._goal - observation[:2]), -1, 1)
        observation, reward, _, info = env.step(action)
        _, sparse, _, _, told = plain.step(action)
        assert (reward, info["sparse_reward"]) == (told["dense_reward"], sparse)
    assert sparse > 0.5
    for one in (env, plain):
        one.close()


def test_starts_depend_on_seed_task_and_number_alone() -> None:
    def starts(env: MultitaskEnv, tasks: list[int]) -> dict[int, list[tuple[float, ...]]]:
        found: dict[int, list[tuple[float, ...]]] = {}
        for task in tasks:
            env.reset_task(task)
            found.setdefault(task, []).append(tuple(env.reset()))
        env.close()
        return found

    first = starts(MultitaskEnv("point_robot", observation="state"), [0, 1, 0])
    assert first == starts(MultitaskEnv("point_robot", observation="state"), [1, 0, 0])
    other = starts(MultitaskEnv("point_robot", seed=1, observation="state"), [0, 1, 0])
    assert len({start for found in (first, other) for rows in found.values() for start in rows}) == 6


def test_a_snapshot_of_an_environment_is_one_that_plays() -> None:
    env = MultitaskEnv("point_robot", seed=SEED, done_at_horizon=False, image_size=SIZE)
    again = pickle.loads(pickle.dumps(env))
    for one in (env, again):
        one.reset_task(7)
    np.testing.assert_array_equal(env.reset(), again.reset())
    assert (again.seed, again.done_at_horizon, again.family.image_size) == (SEED, False, SIZE)
    for one in (env, again):
        one.close()


def test_what_does_not_belong_together_is_refused(checkpoint: Path) -> None:
    with pytest.raises(metaslac.MetaslacError, match=r"takes \(32, 32, 3\) and has 2 actions.*gives \(2,\)"):
        AgentPolicy(agent_of(checkpoint), MultitaskEnv("point_robot", observation="state"))
    env, other = (MultitaskEnv("point_robot", image_size=SIZE) for _ in range(2))
    policy = AgentPolicy(agent_of(checkpoint), env)
    with pytest.raises(metaslac.MetaslacError, match="begin_episode"):
        policy.get_action()
    env.reset_task(0)
    with pytest.raises(metaslac.MetaslacError, match="must be the one that AgentPolicy was given"):
        rlkit_rollout(other, policy)
    with pytest.raises(envs.FamilyError, match="in \\[-1, 1\\]"):
        env.step(np.array([2.0, 0.0]))
    for one in (env, other):
        one.close()


def test_clearing_z_forgets_what_others_did_too(checkpoint: Path) -> None:
    env = MultitaskEnv("point_robot", image_size=SIZE)
    policy = AgentPolicy(agent_of(checkpoint), env)
    env.reset_task(0)
    env.step(np.array([0.5, -0.5]))  # somebody else's action
    assert (policy.agent.belief.std < 1).all()
    policy.clear_z()
    assert (policy.agent.belief.std == 1).all()
    assert (policy.get_action()[1]["belief_std"] == 1).all()
    env.step(np.array([0.5, -0.5]))
    assert (policy.get_action()[1]["belief_std"] < 1).all()
    env.close()
