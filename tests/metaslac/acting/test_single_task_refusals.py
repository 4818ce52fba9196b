"""What an agent in somebody's own loop refuses, and that nothing is changed by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FRAME, SIZE, begun, make_agent, observed, tiny_config, untrained_checkpoint

import metaslac
from metaslac.acting.single_task import SingleTaskAgent
from metaslac.envs import make_family
from metaslac.errors import MetaslacError


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


@pytest.mark.parametrize("redraw_every", [0, 1])
@pytest.mark.parametrize("reward", [1e9, -1e15, 1e30])
def test_a_reward_that_is_far_too_large_leaves_the_agent_finite(reward: float, redraw_every: int) -> None:
    untrained = make_agent(tiny_config(size=5, factor_rank=1))
    agent = begun(SingleTaskAgent(untrained, redraw_every=redraw_every))
    for _ in range(50):
        agent.observe([0.0], reward, FRAME)
        assert np.isfinite(agent.act()).all() and np.isfinite(agent.act(deterministic=False)).all()
    assert np.isfinite(agent.belief).all() and (agent.belief.std > 0).all()
    agent.begin_episode(FRAME, explore=False)
    assert np.isfinite(observed(agent).act()).all()


def test_a_belief_that_would_not_be_finite_is_refused_and_changes_nothing() -> None:
    agent, other = begun(), begun()
    with torch.no_grad():
        for each in (agent, other):
            each._agent._context_encoder.network[0].weight *= 1e4  # so that float32 is not enough
    line = refusal([0.0], -1e36, FRAME, of=agent.observe)
    assert line.startswith("the belief after a reward of 1e+36 is not finite")
    for each in (agent, other):
        observed(each).begin_episode(FRAME)
    assert np.array_equal(agent.belief, other.belief)
    assert np.array_equal(agent.act(deterministic=False), other.act(deterministic=False))


def test_an_oracle_refuses_parameters_that_lead_nowhere() -> None:
    agent = SingleTaskAgent(make_agent(tiny_config(inference="oracle")))
    agent.begin_task([7.0])
    agent.begin_episode(FRAME)
    action = agent.act()
    with torch.no_grad():
        agent._agent._task_params.network[0].weight *= 1e4
    assert refusal([3e38], of=agent.begin_task).startswith("m of the task's parameters [3")
    assert np.array_equal(agent.act(), action)
    with torch.no_grad():
        agent._agent._actor.network[0].weight.fill_(np.nan)
    assert refusal(of=agent.act).startswith("an action is not finite")


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
    for seed in (-1, 0.5, 2**32):
        line = refusal(make_agent(), seed, of=SingleTaskAgent)
        assert line == f"seed must be a whole number from 0 to 4294967295, not {seed}"


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
