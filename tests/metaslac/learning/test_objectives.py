"""Each loss against a plain loop over windows, with every random number fixed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import changed, make_batch, make_learner, snapshot, tiny_config
from torch import Tensor

from metaslac.config.text import with_values
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.replay.experience import Windows


@pytest.mark.parametrize("actor_input", ["features", "latent"])
@pytest.mark.parametrize("extra_steps", [0, 1])
@pytest.mark.parametrize("terminates", [False, True])
def test_the_critic_loss_is_the_soft_bellman_error_and_only_true_ends_cut_it(
    terminates: bool, extra_steps: int, actor_input: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One actor-critic step with every random number fixed, against a loop over windows; an extra one too."""
    config = with_values(tiny_config(inference="oracle"), {"actor_critic.actor_input": actor_input})
    config = replace(config, train=replace(config.train, steps_per_batch=1, extra_steps=extra_steps))
    config = replace(config, actor_critic=replace(config.actor_critic, tau=1e-12))  # targets stay
    learner = make_learner(config)
    networks = learner.networks
    batch = make_batch(config, terminates)
    assert batch.windows.terminated.any() == terminates
    with torch.no_grad():  # so that taking the wrong one shows
        for parameter in networks.target_critic.parameters():
            parameter.mul_(1.5)
    monkeypatch.setattr(learner.chance, "normal", lambda *shape: torch.zeros(shape))
    for name in learner.optimizers:
        learner.optimizers[name].param_groups[0]["lr"] = 0.0
    expected = []
    with torch.no_grad():
        for k in range(3):
            for w in range(config.train.windows):
                window = one_window(batch.windows, k, w)
                f, m = networks.encoder(window.frames), networks.task_params(batch.params[k][None])
                z = networks.latent_model.infer(f, window.a, m, window.restart, torch.zeros(1, 4, 7)).z
                seen = (z[:, -1],) if actor_input == "latent" else (f[:, 1:], window.a[:, 1:])
                mean, std = policy(networks, m, *seen)
                log_pi = -0.5 * np.log(2 * np.pi) - std.log() - (1 - mean.tanh() ** 2).log()
                q = networks.target_critic(z[:, -1], mean.tanh(), m).min()
                value = q - 0.1 * log_pi.sum()
                target = 5 * window.r[0, -1] + 0.99 * (0 if window.terminated[0] else 1) * value
                expected.append((networks.critic(z[:, -2], window.a[:, -1], m) - target) ** 2 / 2)
    metrics = learner.update(batch)
    torch.testing.assert_close(
        metrics["critic/loss"], torch.stack(expected).mean(0).sum(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("pretrains", [False, True])
def test_an_inverse_model_is_part_of_the_model_loss(pretrains: bool) -> None:
    config = tiny_config()
    config = replace(config, model=replace(config.model, inverse_weight=7.0))
    learner, batch = make_learner(config), make_batch(config)
    before = snapshot(learner)
    metrics = (learner.pretrain if pretrains else learner.update)(batch)
    assert changed(learner, before) >= {"encoder", "latent_model", "inverse_model"}
    parts = {name: float(metrics[f"model/{name}"]) for name in ("image", "reward", "kl", "inverse")}
    assert parts["inverse"] > 0
    total = parts["image"] + parts["reward"] + parts["kl"] + 7 * parts["inverse"]
    assert float(metrics["model/loss"]) == pytest.approx(total, rel=1e-5)
    assert "model/inverse" not in make_learner(tiny_config()).update(batch)


@pytest.mark.parametrize("actor_input", ["features", "latent"])
def test_the_actor_descends_entropy_and_minimal_value_of_the_updated_critics(
    actor_input: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradient against that of a plain loop over windows, with every random number fixed."""
    config = with_values(tiny_config(inference="oracle"), {"actor_critic.actor_input": actor_input})
    config = replace(config, train=replace(config.train, steps_per_batch=1))
    learner = make_learner(config)
    networks, batch = learner.networks, make_batch(config)
    monkeypatch.setattr(learner.chance, "normal", lambda *shape: torch.full(shape, 0.5))
    for name in ("model", "context", "actor", "alpha"):
        learner.optimizers[name].param_groups[0]["lr"] = 0.0
    learner.update(batch)
    gradients = [
        parameter.grad.clone() for parameter in networks.actor.parameters() if parameter.grad is not None
    ]

    losses = []
    for k in range(3):
        for w in range(config.train.windows):
            window = one_window(batch.windows, k, w)
            f, m = networks.encoder(window.frames).detach(), networks.task_params(batch.params[k][None])
            with torch.no_grad():
                z = networks.latent_model.infer(f, window.a, m, window.restart, torch.full((1, 4, 7), 0.5)).z
            seen = (z[:, -2],) if actor_input == "latent" else (f[:, :-1], window.a[:, :-1])
            mean, std = policy(networks, m, *seen)
            u = mean + 0.5 * std
            log_pi = torch.distributions.Normal(mean, std).log_prob(u) - (1 - u.tanh() ** 2).log()
            losses.append(0.1 * log_pi.sum() - networks.critic(z[:, -2], u.tanh(), m).min())
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(networks.actor.parameters()))
    torch.testing.assert_close(gradients, list(expected), rtol=1e-3, atol=1e-5)


def test_the_target_follows_the_critic_by_tau() -> None:
    config = tiny_config()
    config = replace(config, train=replace(config.train, steps_per_batch=1))
    learner = make_learner(config)
    old = [p.clone() for p in learner.networks.target_critic.parameters()]
    learner.update(make_batch(config))
    new = zip(
        old, learner.networks.critic.parameters(), learner.networks.target_critic.parameters(), strict=True
    )
    for before, critic, target in new:
        torch.testing.assert_close(target, before + 0.005 * (critic - before))


@pytest.mark.parametrize(("target", "rises"), [(-1.0, True), (-9.0, False)])
def test_the_temperature_rises_when_the_entropy_is_below_its_target(target: float, rises: bool) -> None:
    learner = make_learner(with_values(tiny_config(), {"actor_critic.target_entropy": target}))
    with torch.no_grad():
        learner.networks.actor.network[-1].weight.zero_()
        learner.networks.actor.network[-1].bias.copy_(torch.tensor([0.0, -8.0]))
    learner.update(make_batch(learner.config))  # entropy of about 0.5 log(2 pi e) - 8 = -6.6
    assert (learner.networks.log_alpha > np.log(0.1)) == rises


def policy(networks: MetaSLAC, m: Tensor, *seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation before the tanh, of what the actor is to see."""
    mean, log_std = networks.actor.network(torch.cat([*(x.flatten(1) for x in seen), m], -1)).chunk(2, -1)
    return mean, log_std.clamp(-20, 2).exp()


def one_window(windows: Windows, k: int, w: int) -> Windows:
    """A batch of a single window."""
    return Windows(*(None if part is None else part[k, w][None] for part in windows))
