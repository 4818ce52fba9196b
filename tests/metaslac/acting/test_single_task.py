"""metaslac.load: the actions of `metaslac adapt`, bit for bit, without training code or environments."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fakes import FRAME, SIZE, begun, make_agent, observed, tiny_config, untrained_checkpoint

import metaslac
from metaslac.acting.adaptation import ADAPTATION_STREAM
from metaslac.acting.agent import Agent
from metaslac.acting.rollout import rng_of
from metaslac.acting.single_task import SingleTaskAgent
from metaslac.envs import make_family
from metaslac.launchers.cli import cli

TASK, EPISODES, SEED = 83, 3, 5


def actions_of_adapt(
    checkpoint: Path, redraw_every: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray, dict[str, Any]]:
    """What `metaslac adapt` does on the task, (episodes, steps, A), and what it reports of it."""
    done = []

    def act(agent: Agent, deterministic: bool = False) -> np.ndarray:
        done.append(as_it_is(agent, deterministic).copy())
        return done[-1]

    as_it_is, report = Agent.act, checkpoint.parent / "adapt.json"
    options = {
        "task": TASK,
        "episodes": EPISODES,
        "seed": SEED,
        "threads": 1,
        "device": "cpu",
        "redraw-every": redraw_every,
        "json": report,
    }
    with monkeypatch.context() as patch:
        patch.setattr(Agent, "act", act)
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        result = CliRunner().invoke(cli, ["adapt", "--checkpoint", str(checkpoint), *arguments])
    assert result.exit_code == 0, result.output
    (task,) = json.loads(report.read_text())["tasks"]
    return np.stack(done).reshape(EPISODES, -1, 2), task


@pytest.mark.parametrize(
    ("inference", "redraw_every"), [("infer", 0), ("infer", 3), ("oracle", 0), ("blind", 0)]
)
def test_actions_are_those_of_adapt_bit_for_bit(
    inference: str, redraw_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family("point_robot", image_size=SIZE)
    checkpoint = untrained_checkpoint(tmp_path / "1", family, inference=inference)
    expected, report = actions_of_adapt(checkpoint, redraw_every, monkeypatch)

    agent = metaslac.load(str(checkpoint), device="cpu", redraw_every=redraw_every)
    assert (agent.family, agent.observation_shape, agent.action_size) == ("point_robot", (SIZE, SIZE, 3), 2)
    env = gymnasium.make("metaslac/PointRobot-v0", image_size=SIZE)
    agent.begin_task(family.task(TASK).params if inference == "oracle" else None)
    actions, returns, widths = [], [], []
    for episode in range(EPISODES):
        rng = rng_of(SEED, ADAPTATION_STREAM, TASK, 0, episode)
        frame, _ = env.reset(seed=int(rng.integers(2**31)), options={"task": TASK})
        agent.begin_episode(frame, rng)
        rewards, over = [], False
        while not over:
            actions.append(agent.act())
            frame, reward, terminated, truncated, _ = env.step(actions[-1])
            agent.observe(actions[-1], reward, frame)
            rewards.append(np.float32(reward))
            over = terminated or truncated
        returns.append(float(np.sum(rewards, dtype=np.float64)))
        widths.append(float(agent.belief.std.sum() / agent.belief.std.size))
    env.close()

    played = np.stack(actions).reshape(expected.shape)
    assert played.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(played, expected)
    assert returns == report["returns"] and widths == report["belief_std"]
    assert len(np.unique(played)) > played.size // 2  # the networks' doing, not a constant
    assert (widths[0] < 1) == (inference == "infer")


def test_acting_imports_neither_training_nor_environments_nor_commands(tmp_path: Path) -> None:
    checkpoint = untrained_checkpoint(tmp_path / "1", make_family("point_robot", image_size=SIZE))
    code = f"""
import sys
import metaslac
import metaslac.config.sections
assert not {{"torch", "numpy"}} & set(sys.modules)
import numpy
agent = metaslac.load({str(checkpoint)!r})
frame = numpy.zeros(agent.observation_shape, numpy.uint8)
agent.begin_task()
agent.begin_episode(frame)
agent.observe(agent.act(), 0.0, frame)
print(*sys.modules)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(done.stdout.split())
    assert {"torch", "metaslac.acting.agent"} <= loaded
    rooms = {name.split(".")[1] for name in loaded if name.startswith("metaslac.")}
    assert not rooms & {"envs", "launchers", "training", "evidence", "learning", "replay"}
    outside = {"gymnasium", "mujoco", "dm_control", "tensorboardX", "click"}
    assert not outside & {name.partition(".")[0] for name in loaded}


@pytest.mark.parametrize("exploring", [0, 1, 2])
def test_the_first_episodes_of_every_task_explore_as_configured(exploring: int) -> None:
    config = tiny_config()
    config = replace(config, evaluation=replace(config.evaluation, exploration_episodes=exploring))
    agent, told = (SingleTaskAgent(make_agent(config)) for _ in range(2))
    for _ in range(2):
        agent.begin_task()
        told.begin_task()
        for episode in range(3):
            agent.begin_episode(FRAME, np.random.default_rng(1))
            m = agent._agent.m
            told.begin_episode(FRAME, np.random.default_rng(1), explore=episode < exploring)
            assert torch.equal(m, told._agent.m)
            told.begin_episode(FRAME, np.random.default_rng(1), explore=episode >= exploring)
            assert torch.equal(m, told._agent.m) == (episode == 0)  # the belief is the prior until then
            observed(agent)
            observed(told)


def test_noise_depends_on_seed_task_and_episode_alone() -> None:
    def ms(seed: int, steps: int) -> list[list[float]]:
        agent, drawn = SingleTaskAgent(make_agent(), seed), []
        for _ in range(2):
            agent.begin_task()
            for _ in range(2):
                agent.begin_episode(FRAME, explore=True)
                drawn.append(agent._agent.m[0].tolist())
                for _ in range(steps):
                    agent.observe(agent.act(deterministic=False), 0.0, FRAME)
        return drawn

    first = ms(0, 0)
    assert first == ms(0, 3)
    assert len({tuple(m) for m in first + ms(1, 0)}) == 8


def test_sampled_actions_are_noisy_and_greedy_ones_are_not() -> None:
    agent = begun()
    assert np.array_equal(agent.act(), agent.act())
    assert not np.array_equal(agent.act(deterministic=False), agent.act(deterministic=False))
    assert agent.act().shape == (1,) and agent.act().dtype == np.float32


def test_a_new_task_is_met_with_the_prior() -> None:
    agent = begun()
    assert agent.belief.mean.tolist() == [0, 0] and agent.belief.std.tolist() == [1, 1]
    observed(agent)
    assert (agent.belief.std < 1).all() and agent.belief.mean.all()
    agent.begin_task()
    assert agent.belief.mean.tolist() == [0, 0] and agent.belief.std.tolist() == [1, 1]


def test_arrays_are_not_kept() -> None:
    agent, other = begun(), begun()
    frame, action = FRAME.copy(), np.array([0.5], np.float32)
    agent.begin_episode(frame)
    agent.observe(action, -1.0, frame)
    belief = agent.belief
    for array in (frame, action, agent.act(), *belief):
        array[:] = 0
    other.begin_episode(FRAME)
    observed(other)
    assert np.array_equal(agent.act(), other.act())
    assert np.array_equal(agent.belief, other.belief)

    oracle, params = SingleTaskAgent(make_agent(tiny_config(inference="oracle"))), np.array([0.5], np.float32)
    oracle.begin_task(params)
    params[:] = 0
    oracle.begin_episode(FRAME)
    assert oracle._agent._params.tolist() == [[0.5]]


def test_frames_may_lie_in_memory_as_they_like() -> None:
    agent, other, flipped = begun(), begun(), np.ascontiguousarray(FRAME[::-1])
    agent.begin_episode(FRAME[::-1])
    other.begin_episode(flipped)
    flipped.flags.writeable = False
    agent.observe([0.5], -1.0, np.asfortranarray(FRAME[::-1]))
    other.observe([0.5], -1.0, flipped)
    assert np.array_equal(agent.act(), other.act()) and np.array_equal(agent.belief, other.belief)


def test_actions_a_rounding_error_too_large_are_one_as_in_the_environments() -> None:
    agent, other = begun(), begun()
    agent.observe([1 + 1e-7], -1, FRAME)
    other.observe([1.0], Fraction(-1), FRAME)
    assert np.array_equal(agent.act(), other.act()) and np.array_equal(agent.belief, other.belief)
