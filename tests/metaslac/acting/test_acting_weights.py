"""The weights that are exported are those that acting and inferring the task need: each of them, no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import CPU, FRAME, tiny_config

from metaslac.acting.agent import Agent, agent_from_checkpoint
from metaslac.config.sections import LATENT_KINDS, TASK_INFERENCE, Config
from metaslac.config.text import with_values
from metaslac.errors import MetaslacError
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.exported import save_agent

PARAMS = 2
FACTS = {
    **{"family": "fake", "task_hash": "", "train_tasks": 1, "test_tasks": 1, "update": 0, "env_steps": 0},
    **{"param_names": ["x", "y"], "action_size": 1, "trained_with": {}},
}

CASES = [
    *(("latent", kind, "infer") for kind in LATENT_KINDS),
    *(("features", "slac", inference) for inference in TASK_INFERENCE),
]


def config_of(sees: str, kind: str, inference: str) -> Config:
    base = tiny_config(inference=inference)
    actor_critic = replace(base.actor_critic, actor_input=sees)
    return replace(base, model=replace(base.model, kind=kind), actor_critic=actor_critic)


def agent_of(config: Config) -> Agent:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = MetaSLAC(config, 1, PARAMS)
    return Agent.from_networks(config, networks, 1, PARAMS)


def played(agent: Agent) -> list[np.ndarray]:
    """Actions, sampled and greedy, and beliefs of an episode."""
    rng = np.random.default_rng(0)
    agent.begin_task(1, np.array([[0.3, -0.4]]))
    agent.begin_episode(FRAME[None], [np.random.default_rng(1)])
    seen = []
    for step in range(4):
        action = agent.act(deterministic=step % 2 == 0)
        agent.observe(action, np.array([-0.5]), rng.integers(0, 256, (1, *FRAME.shape), np.uint8))
        seen += [action, agent.belief.mean.numpy(), agent.belief.std.numpy()]
    return seen


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_they_suffice(case: tuple[str, str, str], tmp_path: Path) -> None:
    config = config_of(*case)
    agent = agent_of(config)
    before, weights = played(agent), agent.acting_weights()
    save_agent(tmp_path / "agent", weights, config, FACTS, {})
    exported = agent_from_checkpoint(load_checkpoint(tmp_path / "agent"), tmp_path, CPU)
    for name, tensor in agent.networks.state_dict().items():
        if name not in weights:
            tensor.fill_(torch.nan)
    for other in (exported, agent):
        for one, same in zip(before, played(other), strict=True):
            np.testing.assert_array_equal(one, same)


def test_the_beliefs_that_m_is_drawn_among_go_with_them(tmp_path: Path) -> None:
    config = with_values(config_of("features", "slac", "infer"), {"task.prior_beliefs": 4})
    agent = agent_of(config)
    alone = played(agent)
    agent.networks["task_prior"].take_in(torch.tensor([[30.0, 0.0], [0.0, 30.0]]))
    before = played(agent)
    assert any((one != other).any() for one, other in zip(alone, before, strict=True))
    save_agent(tmp_path / "agent", agent.acting_weights(), config, FACTS, {})
    exported = agent_from_checkpoint(load_checkpoint(tmp_path / "agent"), tmp_path, CPU)
    for one, same in zip(before, played(exported), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_each_is_needed(case: tuple[str, str, str]) -> None:
    agent = agent_of(config_of(*case))
    weights = agent.acting_weights()
    assert len(weights) > 10
    for tensor in weights.values():
        kept = tensor.clone()
        tensor.fill_(torch.nan)
        with pytest.raises(MetaslacError, match="is not finite"):
            played(agent)
        tensor.copy_(kept)
    played(agent)


def test_one_that_is_missing_or_too_many_is_refused(tmp_path: Path) -> None:
    config = config_of("features", "slac", "infer")
    agent = agent_of(config)
    weights = agent.acting_weights()
    first = min(weights)
    fewer = {name: tensor for name, tensor in weights.items() if name != first}
    for number, wrong in enumerate((fewer, agent.networks.state_dict())):
        save_agent(tmp_path / str(number), wrong, config, FACTS, {})
        with pytest.raises(MetaslacError, match="weights do not fit their configuration"):
            agent_from_checkpoint(load_checkpoint(tmp_path / str(number)), tmp_path, CPU)
