"""An actor that sees latents: those it acts on are those it learns on, each slot's with noise of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, make_agent, tiny_config
from torch import Tensor

from metaslac.acting.adaptation import adapt
from metaslac.acting.agent import Agent
from metaslac.acting.rollout import rng_of, run_trial
from metaslac.config.sections import LATENT_KINDS, Config
from metaslac.config.text import with_values
from metaslac.networks.latent_models.make import make_latent_model
from metaslac.replay.task_replay import TaskReplay


def config_of(kind: str, actor_input: str = "latent") -> Config:
    return with_values(tiny_config(), {"model.kind": kind, "actor_critic.actor_input": actor_input})


def watched(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """The noise that the agent filters with at every decision, and the latents its actor is shown."""
    noises: list[Tensor] = []
    shown: list[Tensor] = []
    infer, forward = agent._latent_model.infer, agent._actor.forward

    def noted_infer(*given: Tensor) -> Any:
        noises.append(given[-1])
        return infer(*given)

    def noted_forward(f: Tensor, a: Tensor, m: Tensor, z: Tensor) -> Any:
        shown.append(z)
        return forward(f, a, m, z)

    monkeypatch.setattr(agent._latent_model, "infer", noted_infer)
    monkeypatch.setattr(agent._actor, "forward", noted_forward)
    return noises, shown


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_acting_and_training_filter_a_window_to_the_same_latent(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Play an episode, store it, draw windows, and filter them with the noise that acting had there."""
    agent, family = make_agent(config_of(kind)), FakeFamily()
    model = agent._latent_model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    filter_window = model.infer
    noises, shown = watched(agent, monkeypatch)
    [[entry]] = run_trial(family.make_vector_env(1), agent, family.tasks[:1], [[(0, 0)]], 1)
    replay = TaskReplay(1, 1, 1, family.episode_steps, 32, 1, CPU)
    replay.add(0, entry.episode, context=True)
    windows = replay.sample_windows(torch.tensor([0]), 60, 3, torch.Generator().manual_seed(0))
    decided = windows.frames[0, :, -2, 0, 0, 2].long()  # the blue channel counts steps
    assert set(decided.tolist()) == set(range(family.episode_steps))
    noise = torch.stack([torch.cat((noises[t][0], torch.zeros(1, model.noise_size))) for t in decided])
    with torch.no_grad():
        f = agent._encoder(windows.frames[0])
        m = agent.m.expand(60, -1)
        z = filter_window(f, windows.a[0], m, windows.restart[0], noise).z[:, -2]
    torch.testing.assert_close(z, torch.stack([shown[t][0] for t in decided]))
    assert z.std(0).min() > 0


def test_each_slot_draws_from_its_own_generator_and_greedy_ones_filter_without_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of("slac")
    agent, window = make_agent(config), config.model.window
    noises, _ = watched(agent, monkeypatch)
    frames = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    agent.begin_task(2)
    agent.begin_episode(frames, [rng_of(3), rng_of(4)], explore=True)
    agent.act()
    agent.act(deterministic=True)
    expected = []
    for rng in (rng_of(3), rng_of(4)):
        rng.standard_normal(config.task.size, dtype=np.float32)  # m
        expected.append(rng.standard_normal((window, 3 + 4), dtype=np.float32))
    np.testing.assert_array_equal(noises[0], np.stack(expected))
    assert noises[1].shape == noises[0].shape and not noises[1].any()
    assert np.array_equal(agent.act(deterministic=True), agent.act(deterministic=True))


def test_trials_on_latents_do_not_depend_on_how_they_are_spread_over_slots() -> None:
    family, agent = FakeFamily(), make_agent(config_of("filtering"))
    spread = [
        adapt(agent, family.make_vector_env(n), family.test_tasks, episodes=2, trials=2) for n in (1, 4)
    ]
    for one, other in zip(*spread, strict=True):
        np.testing.assert_allclose(one.returns, other.returns, atol=1e-5)


def test_an_agent_has_a_latent_model_only_if_its_actor_sees_one_and_a_copy_has_its_own() -> None:
    assert "latent_model" not in make_agent().networks
    agent = make_agent(config_of("vae"))
    names = {name.removeprefix("latent_model.") for name in agent.networks.state_dict() if "latent" in name}
    model = make_latent_model(agent.config.model, 32, 1, 2)
    assert names == set(model.state_dict())
    before = agent.copy().networks.state_dict()
    with torch.no_grad():
        for parameter in agent.networks["latent_model"].parameters():
            parameter.add_(1)
    for name, weight in agent.networks.state_dict().items():
        moved = name.startswith("latent_model.")
        torch.testing.assert_close(weight, before[name] + moved)
