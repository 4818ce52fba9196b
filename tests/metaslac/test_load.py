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
from fakes import SIZE, make_agent, tiny_config, untrained_checkpoint

import metaslac
from envs import make_family
from launchers.cli import cli
from metaslac.adaptation import EVALUATION_STREAM
from metaslac.agent import Agent
from metaslac.errors import MetaslacError
from metaslac.rollout import rng_of
from metaslac.single_task import SingleTaskAgent

TASK, EPISODES, SEED = 83, 3, 5
FRAME = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def actions_of_adapt(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, dict[str, Any]]:
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
        "json": report,
    }
    with monkeypatch.context() as patch:
        patch.setattr(Agent, "act", act)
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        result = CliRunner().invoke(cli, ["adapt", "--checkpoint", str(checkpoint), *arguments])
    assert result.exit_code == 0, result.output
    (task,) = json.loads(report.read_text())["tasks"]
    return np.stack(done).reshape(EPISODES, -1, 2), task


@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
def test_actions_are_those_of_adapt_bit_for_bit(
    inference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family("point_robot", image_size=SIZE)
    checkpoint = untrained_checkpoint(tmp_path / "1", family, inference=inference)
    expected, report = actions_of_adapt(checkpoint, monkeypatch)

    agent = metaslac.load(str(checkpoint), device="cpu")
    assert (agent.family, agent.observation_shape, agent.action_size) == ("point_robot", (SIZE, SIZE, 3), 2)
    env = gymnasium.make("metaslac/PointRobot-v0", image_size=SIZE)
    agent.begin_task(family.task(TASK).params if inference == "oracle" else None)
    actions, returns, widths = [], [], []
    for episode in range(EPISODES):
        rng = rng_of(SEED, EVALUATION_STREAM, TASK, 0, episode)
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
import metaslac.config
assert not {{"torch", "numpy"}} & set(sys.modules)
import numpy
agent = metaslac.load({str(checkpoint)!r})
frame = numpy.zeros(agent.observation_shape, numpy.uint8)
agent.begin_task()
agent.begin_episode(frame)
agent.observe(agent.act(), 0.0, frame)
print(*sys.modules)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(done.stdout.split())
    assert {"torch", "metaslac.agent"} <= loaded
    ours = {name for name in loaded if name.startswith("metaslac.")}
    assert (
        not {f"metaslac.{name}" for name in ("learner", "replay", "rollout", "meta_train", "run_log")} & ours
    )
    outside = {"envs", "launchers", "gymnasium", "mujoco", "dm_control", "tensorboardX", "click"}
    assert not outside & {name.partition(".")[0] for name in loaded}


def begun(agent: SingleTaskAgent | None = None) -> SingleTaskAgent:
    """An agent within the first episode of its first task."""
    agent = agent or SingleTaskAgent(make_agent())
    agent.begin_task()
    agent.begin_episode(FRAME)
    return agent


def observed(agent: SingleTaskAgent) -> SingleTaskAgent:
    agent.observe([0.5], -1.0, FRAME)
    return agent


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


def refusal(*arguments: Any, of: Any) -> str:
    with pytest.raises(MetaslacError) as caught:
        of(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def test_calls_out_of_order() -> None:
    agent = SingleTaskAgent(make_agent())
    assert refusal(FRAME, of=agent.begin_episode) == "begin_episode(): call begin_task() first"
    assert refusal(of=agent.act) == "act(): call begin_task() first"
    assert refusal(of=lambda: agent.belief) == "belief: call begin_task() first"
    for _ in range(2):
        agent.begin_task()
        assert "act(): call begin_episode(frame) first" in refusal(of=agent.act)
        assert "observe(): call begin_episode(frame) first" in refusal([0.0], 0.0, FRAME, of=agent.observe)
        agent.begin_episode(FRAME)
        agent.observe([0.0], 0.0, FRAME)  # acted on by another policy
        agent.act()


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (FRAME[None], "not uint8 (1, 32, 32, 3)"),
        (FRAME.transpose(2, 0, 1), "not uint8 (3, 32, 32)"),
        (FRAME / 255, "not float64 (32, 32, 3)"),
        (FRAME.astype(np.int64), "not int64 (32, 32, 3)"),
        (torch.from_numpy(FRAME), "not Tensor"),
        (FRAME.tolist(), "not list"),
        (None, "not NoneType"),
    ],
)
def test_frames_that_are_refused(frame: Any, named: str) -> None:
    agent = begun()
    for line in (refusal(frame, of=agent.begin_episode), refusal([0.0], 0.0, frame, of=agent.observe)):
        assert line == f"frame must be a NumPy array, uint8 (32, 32, 3), {named}"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ([0.0, 0.0], "action must be numbers of shape (1,), not (2,)"),
        (0.0, "action must be numbers of shape (1,), not ()"),
        (np.zeros((1, 1), np.float32), "action must be numbers of shape (1,), not (1, 1)"),
        ([np.nan], "action must be finite and in [-1, 1], not nan"),
        ([-np.inf], "action must be finite and in [-1, 1], not -inf"),
        ([1.01], "action must be finite and in [-1, 1], not 1.01"),
        (None, "action must be numbers of shape (1,), not ()"),
        ([10**400], "action must be numbers of shape (1,), not list"),
        (["left"], "action must be numbers of shape (1,), not list"),
        ({"a": 0}, "action must be numbers of shape (1,), not dict"),
        (torch.ones(2), "action must be numbers of shape (1,), not (2,)"),
        (torch.zeros(1, requires_grad=True), "action must be numbers of shape (1,), not Tensor"),
    ],
)
def test_actions_that_are_refused(action: Any, said: str) -> None:
    assert refusal(action, 0.0, FRAME, of=begun().observe) == said


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (np.nan, "reward must be finite, not nan"),
        (np.float32(np.inf), "reward must be finite, not inf"),
        (1e39, "reward must be finite, not 1e+39"),  # it would not be in float32
        (10**400, "reward must be finite, not inf"),
        (np.zeros(1), "reward must be one number, not float64 (1,)"),
        (False, "reward must be one number, not bool"),
        ("1", "reward must be one number, not str"),
        (None, "reward must be one number, not NoneType"),
    ],
)
def test_rewards_that_are_refused(reward: Any, said: str) -> None:
    assert refusal([0.0], reward, FRAME, of=begun().observe) == said


def test_what_was_refused_changes_nothing() -> None:
    agent, other = begun(), begun()
    for call, arguments in [
        (agent.observe, ([0.5], np.nan, FRAME)),
        (agent.observe, ([0.5], 0.0, FRAME[0])),
        (agent.observe, ([5.0], 0.0, FRAME)),
        (agent.begin_episode, (FRAME[0],)),
        (agent.begin_episode, (FRAME, 7)),
    ]:
        refusal(*arguments, of=call)
    for each in (agent, other):
        each.begin_episode(FRAME)
        observed(each)
    assert np.array_equal(agent.belief, other.belief)
    assert np.array_equal(agent.act(deterministic=False), other.act(deterministic=False))


def test_the_oracle_wants_the_parameters() -> None:
    agent = SingleTaskAgent(make_agent(tiny_config(inference="oracle")))
    assert "task.inference=oracle and needs the task's 1 true parameters" in refusal(of=agent.begin_task)
    assert refusal([0.0, 1.0], of=agent.begin_task) == "params must be numbers of shape (1,), not (2,)"
    assert refusal([np.nan], of=agent.begin_task) == "params must be finite, not nan"
    agent.begin_task([7.0])
    agent.begin_episode(FRAME)
    assert agent._agent._params.tolist() == [[7.0]]


def test_generators_and_seeds_that_are_refused() -> None:
    assert refusal(FRAME, 7, of=begun().begin_episode) == "rng must be a numpy.random.Generator, not int"
    for seed in (-1, 0.5):
        line = refusal(make_agent(), seed, of=SingleTaskAgent)
        assert line == f"seed must be a whole number from 0, not {seed}"


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checkpoint = untrained_checkpoint(tmp_path / "1", make_family("point_robot", image_size=SIZE))
    for device in ("auto", "cpu", torch.device("cpu")):
        assert metaslac.load(checkpoint, device)._agent.device == torch.device("cpu")
    assert refusal(checkpoint, "tpu", of=metaslac.load).startswith(
        "device must be auto, cpu, cuda or a torch"
    )
    for device in ("cuda", torch.device("cuda", 1)):
        assert "torch finds no such CUDA device" in refusal(checkpoint, device, of=metaslac.load)


def test_checkpoints_that_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none", of=metaslac.load)
    assert "is not a metaslac checkpoint" in refusal(tmp_path, of=metaslac.load)
    checkpoint = untrained_checkpoint(
        tmp_path / "run/checkpoints/1", make_family("point_robot", image_size=SIZE)
    )
    assert metaslac.load(tmp_path / "run").family == "point_robot"
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "model.safetensors is damaged" in refusal(tmp_path / "run", of=metaslac.load)
