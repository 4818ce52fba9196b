"""Actors that clone what was played, beside their critics or without; and an actor without a spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import changed, make_agent, make_batch, make_learner, snapshot, tiny_config
from torch import Tensor
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from metaslac.acting.rollout import rng_of
from metaslac.config.sections import Config
from metaslac.config.text import with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.learning.batch import Decisions
from metaslac.learning.learner import Learner
from metaslac.learning.objectives import cloning, soft_bellman, soft_policy
from metaslac.networks.actor_critic import CLOSEST, log_density
from metaslac.networks.blocks import Gaussian

FROM_PIXELS = {
    "model.elbo_weight": 0.0,
    "actor_critic.critic_input": "features",
    "train.encoder_from_critic": True,
    "train.pretrain_updates": 0,
}
LATENT = {"actor_critic.actor_input": "latent"}


def config_of(inference: str = "oracle", gradient: str = "both", **settings: Any) -> Config:
    config = with_values(tiny_config(inference=inference, gradient=gradient), settings)
    validate(config)
    return config


def seen_of(learner: Learner) -> tuple[Decisions, Tensor]:
    """Decisions of a batch, their m and nothing with a gradient."""
    batch = make_batch(learner.config)
    f = learner.networks.encoder(batch.windows.frames).detach()
    with torch.no_grad():
        m = learner.task.draw(None, batch.params)
    seen = learner._see(f, batch.windows, m)
    return seen.decisions(), seen.m


def density(policy: Gaussian) -> TransformedDistribution:
    return TransformedDistribution(Normal(*policy), [TanhTransform()])


def test_the_density_of_a_stored_action_is_that_of_a_transformed_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(500, 3, dtype=torch.float64, generator=generator)
    std = torch.rand(500, 3, dtype=torch.float64, generator=generator) + 0.1
    a = 2 * torch.rand(500, 3, dtype=torch.float64, generator=generator) - 1
    a = a.clamp(CLOSEST - 1, 1 - CLOSEST)
    policy = Gaussian(mean, std)
    torch.testing.assert_close(log_density(policy, a), density(policy).log_prob(a).sum(-1))


def test_actions_on_the_border_count_as_near_it_and_have_a_gradient_that_is_finite() -> None:
    mean = torch.zeros(4, 1, requires_grad=True)
    at = torch.tensor([[1.0], [1 - CLOSEST], [-1.0], [CLOSEST - 1]])
    told = log_density(Gaussian(mean, torch.full((4, 1), 0.05)), at)
    assert told[0] == told[1] and told[2] == told[3] and told.isfinite().all()
    (gradient,) = torch.autograd.grad(told.sum(), mean)
    assert gradient.isfinite().all() and (gradient[:2] > 0).all() and (gradient[2:] < 0).all()


@pytest.mark.parametrize("settings", [{}, LATENT])
@pytest.mark.parametrize("imagined", [False, True])
def test_the_actor_s_loss_with_cloning_is_that_of_a_loop(settings: dict[str, Any], imagined: bool) -> None:
    """Entropy and value over the mean size of values, and -log pi of the actions that were really played."""
    learner = make_learner(config_of(**settings, **{"actor_critic.cloning_weight": 0.7}))
    networks, (decisions, m) = learner.networks, seen_of(learner)
    count = len(m)
    real = torch.arange(count) % 3 > 0
    if imagined:
        decisions = decisions._replace(real=real)
    noise = torch.randn(count, 1, generator=torch.Generator().manual_seed(1))
    (loss, parts), _ = soft_policy(networks, learner.config.actor_critic, decisions, m, noise)
    judged, values, cloned = [], [], []
    for i in range(count):
        f, a, z = decisions.f[i : i + 1, :-1], decisions.a[i : i + 1, :-1], decisions.z[i : i + 1]
        policy = networks.actor(f, a, m[i : i + 1], z)
        u = policy.mean + policy.std * noise[i]
        log_pi = (Normal(*policy).log_prob(u) - (1 - u.tanh() ** 2).log()).sum()
        value = networks.critic(z, u.tanh(), m[i : i + 1]).min()
        judged.append(0.1 * log_pi - value)
        values.append(float(value.detach()))
        if not imagined or real[i]:
            cloned.append(-density(policy).log_prob(decisions.a[i, -1].clamp(-0.999, 0.999)).sum())
    surprise = torch.stack(cloned).mean()
    expected = torch.stack(judged).mean() / np.abs(values).mean() + 0.7 * surprise
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts["actor/cloning"], surprise.detach(), rtol=1e-4, atol=1e-5)
    parameters = list(networks.actor.parameters())
    mine, its = (torch.autograd.grad(value, parameters) for value in (loss, expected))
    torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("inference", "gradient", "maker"),
    [
        ("infer", "critic", {"context_encoder"}),
        ("infer", "both", {"context_encoder"}),
        ("oracle", "critic", {"task_params"}),
        ("blind", "both", set()),
    ],
)
@pytest.mark.parametrize("settings", [FROM_PIXELS, LATENT, {"train.extra_steps": 2}])
def test_cloning_alone_trains_the_actor_what_it_sees_and_m_but_no_critics(
    settings: dict[str, Any], inference: str, gradient: str, maker: set[str]
) -> None:
    learner = make_learner(config_of(inference, gradient, **settings, **{"train.cloning": True}))
    before = snapshot(learner)
    metrics = learner.update(make_batch(learner.config))
    model = set() if settings is FROM_PIXELS else {"latent_model"}
    assert changed(learner, before) == {"actor", "encoder"} | model | maker
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())
    assert "actor/loss" in metrics and not [name for name in metrics if "critic" in name or "alpha" in name]
    assert not {"critic", "alpha"} & learner.optimizers.keys()


@pytest.mark.parametrize("gradient", ["critic", "model"])
def test_m_is_trained_by_what_is_cloned_only_if_the_actor_critic_part_is_to(gradient: str) -> None:
    settings = {"train.cloning": True, "train.predict_with_critics": False, "train.model_windows": 1}
    config = with_values(config_of("infer", gradient, **settings), {"task.kl_weight": 0.0})
    learner = make_learner(config)
    for name in learner.optimizers:
        learner.optimizers[name].param_groups[0]["lr"] = 0.0
    seen = {}
    step = learner._descent.step

    def watched(whose: str, loss: Tensor, *names: str) -> None:
        seen[whose] = names
        step(whose, loss, *names)

    learner._descent.step = watched
    learner.update(make_batch(config))
    assert ("context" in seen["actor"]) == (gradient == "critic")
    gradients = [parameter.grad for parameter in learner.networks.context_encoder.parameters()]
    if gradient == "critic":
        assert any(value is not None and value.any() for value in gradients)


def test_cloning_from_pixels_finds_the_actions_that_frames_ask_for() -> None:
    """Actions that the frame tells: the actor comes to make them, and its encoder to see them."""
    settings = {**FROM_PIXELS, "train.cloning": True, "train.lr_model": 3e-3, "train.lr_actor": 3e-3}
    learner = make_learner(config_of("blind", **settings))
    batch = make_batch(learner.config)
    windows = batch.windows
    bright = windows.frames[..., 0].float().mean(-2)  # (K, W, T, width): the column where the point is
    place = bright.argmax(-1).float() / 32 - 0.5
    a = windows.a.clone()
    a[:, :, -1, 0] = place[:, :, -2]
    batch = batch._replace(windows=windows._replace(a=a))
    losses = [float(learner.update(batch)["actor/loss"]) for _ in range(150)]
    assert losses[-1] < losses[0] - 1  # nats: a spread of less than a third


def test_an_actor_without_a_spread_is_judged_by_its_mean_without_an_entropy() -> None:
    """Loss of critics and of the actor against a loop: clipped double Q of tanh(mean), and nothing more."""
    learner = make_learner(config_of(**{"actor_critic.deterministic": True}))
    networks, config, (decisions, m) = learner.networks, learner.config.actor_critic, seen_of(learner)
    noise = torch.randn(len(m), 1)
    errors, values = [], []
    with torch.no_grad():
        for i in range(len(m)):
            one = slice(i, i + 1)
            a = networks.actor(decisions.f[one, 1:], decisions.a[one, 1:], m[one]).mean.tanh()
            following = networks.target_critic(decisions.z_next[one], a, m[one]).min()
            target = 5 * decisions.r[i] + 0.99 * following * ~decisions.terminated[i]
            q = networks.critic(decisions.z[one], decisions.a[one, -1], m[one])
            errors.append((q - target).square().sum() / 2)
            a = networks.actor(decisions.f[one, :-1], decisions.a[one, :-1], m[one]).mean.tanh()
            values.append(networks.critic(decisions.z[one], a, m[one]).min())
    critics = soft_bellman(networks, config, decisions, m, noise)
    (actor, parts), _ = soft_policy(networks, config, decisions, m, noise)
    torch.testing.assert_close(critics.value, torch.stack(errors).mean())
    torch.testing.assert_close(actor, -torch.stack(values).mean())
    assert parts.keys() == {"actor/loss"}


def test_its_temperature_is_not_learned_and_its_noise_is_clipped() -> None:
    config = config_of(**{"actor_critic.deterministic": True, "actor_critic.action_noise": 0.5})
    learner = make_learner(config)
    before = snapshot(learner)
    metrics = learner.update(make_batch(config))
    assert "log_alpha" not in changed(learner, before) and "actor/alpha" not in metrics
    agent = make_agent(with_values(config, {"task.inference": "blind"}))
    agent.begin_task(200)
    rngs = [rng_of(3, i) for i in range(200)]
    agent.begin_episode(np.zeros((200, 32, 32, 3), np.uint8), rngs)
    greedy, played = agent.act(deterministic=True), agent.act()
    noise = np.stack([rng_of(3, i).standard_normal(1, dtype=np.float32) for i in range(200)])
    np.testing.assert_allclose(played, np.clip(greedy + 0.5 * noise, -1, 1), rtol=1e-5, atol=1e-6)
    assert (np.abs(played) == 1).any() and len(set(greedy[:, 0].tolist())) == 1


@pytest.mark.parametrize("cloning_setting", [{"train.cloning": True}, {"actor_critic.cloning_weight": 1.0}])
def test_without_a_spread_there_is_nothing_to_clone_by(cloning_setting: dict[str, Any]) -> None:
    with pytest.raises(MetaslacError, match=r"^[a-z_.]+ needs actor_critic\.deterministic=false: .*log pi$"):
        config_of(**cloning_setting, **{"actor_critic.deterministic": True})


def test_what_is_cloned_alone_is_the_mean_of_minus_log_pi() -> None:
    learner = make_learner(config_of(**{"train.cloning": True}))
    decisions, m = seen_of(learner)
    policy = learner.networks.actor(decisions.f[:, :-1], decisions.a[:, :-1], m)
    expected = -density(policy).log_prob(decisions.a[:, -1].clamp(-0.999, 0.999)).mean()
    torch.testing.assert_close(cloning(learner.networks, decisions, m).value, expected, rtol=1e-4, atol=1e-5)
