"""PEARL on states: one update against the formulas of its code, written plainly, on the same numbers.

Critics have target critics where that code has a value network; all else of the critic's step is its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from fakes import tiny_config
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from metaslac.config.presets import resolve
from metaslac.config.state_presets import PEARL
from metaslac.config.text import with_values
from metaslac.learning.batch import Batch
from metaslac.learning.learner import Learner
from metaslac.networks.blocks import Gaussian
from metaslac.replay.experience import Context, Windows

TASKS, DECISIONS, TRANSITIONS, STATE, ACTIONS, SIZE = 3, 7, 9, 4, 2, 5
LAMBDA, GAMMA, SCALE = 0.1, 0.99, 5.0
SMALL = {
    "task.size": SIZE,
    "task.kl_weight": LAMBDA * TASKS / 2,
    "task.context_segments": TRANSITIONS,
    "task.context_min": TRANSITIONS,
    "task.context_max": TRANSITIONS,
    "train.tasks_per_update": TASKS,
    "train.windows": DECISIONS,
    "train.model_windows": 1,
    "actor_critic.hidden_size": 16,
}


class Recorded:
    """A source of chance that remembers the normal numbers it gave."""

    def __init__(self, learner: Learner) -> None:
        self.given: list[Tensor] = []
        normal = learner.chance.normal

        def remembered(*shape: int) -> Tensor:
            self.given.append(normal(*shape).double())
            return self.given[-1]

        learner.chance.normal = remembered


def layered(network: nn.Sequential, x: Tensor) -> Tensor:
    """A ReLU network by its weights alone."""
    weights = [part for part in network if isinstance(part, nn.Linear)]
    for number, part in enumerate(weights):
        x = x @ part.weight.T + part.bias
        if number + 1 < len(weights):
            x = x.clamp_min(0)
    return x


def batch(generator: torch.Generator) -> Batch:
    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    flags = torch.ones(TASKS, DECISIONS, 2, dtype=torch.bool)
    windows = Windows(
        None,
        numbers(TASKS, DECISIONS, 1, ACTIONS).tanh(),
        numbers(TASKS, DECISIONS, 1),
        flags,
        flags,
        torch.rand(TASKS, DECISIONS, generator=generator) < 0.3,
        numbers(TASKS, DECISIONS, 2, STATE),
    )
    context = Context(
        None,
        numbers(TASKS, TRANSITIONS, 1, ACTIONS).tanh(),
        numbers(TASKS, TRANSITIONS, 1),
        torch.ones(TASKS, TRANSITIONS, 1, dtype=torch.bool),
        torch.full((TASKS,), TRANSITIONS),
        numbers(TASKS, TRANSITIONS, 2, STATE),
    )
    return Batch(windows, context, torch.zeros(TASKS, 1, dtype=torch.float64))


def pearl_learner(sees_next: bool) -> tuple[Learner, Batch, Recorded]:
    settings = {**PEARL, **SMALL, "task.next_observation": sees_next}
    config = with_values(tiny_config(), settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        learner = Learner(config, ACTIONS, 1, torch.device("cpu"), generator, STATE)
    learner.networks.double()
    learner.networks.encoder.forward = lambda states: states
    return learner, batch(torch.Generator().manual_seed(2)), Recorded(learner)


def plain_belief(encoder: nn.Sequential, context: Context, sees_next: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance of the product of Gaussians over a task's transitions; no prior is a factor."""
    assert context.f is not None
    s, s_next = context.f[:, :, 0], context.f[:, :, 1]
    inputs = torch.cat((s, context.a[:, :, 0], context.r, *[s_next] * sees_next), -1)
    mu, raw = layered(encoder, inputs).split(SIZE, -1)
    s2 = F.softplus(raw).clamp_min(1e-7)
    variance = 1 / (1 / s2).sum(1)
    return variance * (mu / s2).sum(1), variance


def plain_policy(actor: nn.Sequential, s: Tensor, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_std = layered(actor, torch.cat((s, z), -1)).split(ACTIONS, -1)
    density = Normal(mean, log_std.clamp(-20, 2).exp())
    before = mean + density.stddev * noise
    log_pi = (density.log_prob(before) - torch.log(1 - before.tanh() ** 2)).sum(-1)
    return before.tanh(), log_pi


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    assert all(parameter.grad is not None for parameter in parameters)
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


@pytest.mark.parametrize("sees_next", [False, True])
def test_encoder_and_critics_learn_by_pearls_formulas(
    sees_next: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, drawn, chance = pearl_learner(sees_next)
    networks, windows = learner.networks, drawn.windows
    actor, targets = networks.actor.network, networks.target_critic
    encoder = networks.context_encoder
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    # What beliefs give out is single precision by design; these formulas are compared in double.
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)
    learner.update(drawn)
    found_encoder = gradients(list(encoder.parameters()))
    z_noise, next_noise, _ = chance.given

    networks.load_state_dict(before)
    assert windows.f is not None
    mean, variance = plain_belief(encoder.network, drawn.context, sees_next)
    z = mean + variance.sqrt() * z_noise
    kl = kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum()
    each = z.repeat_interleave(DECISIONS, 0)
    s, s_next = windows.f[:, :, 0].flatten(0, 1), windows.f[:, :, 1].flatten(0, 1)
    a, r, done = windows.a[:, :, 0].flatten(0, 1), windows.r.flatten(), windows.terminated.flatten()
    with torch.no_grad():
        a_next, log_pi = plain_policy(actor, s_next, each, next_noise)
        seen = torch.cat((s_next, a_next, each), -1)
        least = torch.minimum(layered(targets.q1, seen), layered(targets.q2, seen))[:, 0]
        y = SCALE * r + (1 - done.double()) * GAMMA * (least - log_pi)
    seen = torch.cat((s, a, each), -1)
    errors = [layered(q, seen)[:, 0] - y for q in (networks.critic.q1, networks.critic.q2)]
    loss = sum(error.square().mean() for error in errors) + LAMBDA * kl  # summed over tasks
    expected = torch.autograd.grad(loss, list(encoder.parameters()))
    for found, theirs in zip(found_encoder, expected, strict=True):
        torch.testing.assert_close(2 * found, theirs, rtol=1e-6, atol=1e-9)


def test_the_policy_learns_by_pearls_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    """log pi - min Q with a temperature of 1, and a little of its mean squares; z has no gradient."""
    learner, drawn, chance = pearl_learner(False)
    networks, windows = learner.networks, drawn.windows
    actor = list(networks.actor.parameters())
    weights = [parameter.detach().clone() for parameter in actor]
    belief = plain_belief(networks.context_encoder.network, drawn.context, False)
    mean, variance = (part.detach() for part in belief)
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)
    learner.update(drawn)
    found = gradients(actor)
    z_noise, _, noise = chance.given
    assert windows.f is not None
    s = windows.f[:, :, 0].flatten(0, 1)
    z = (mean + variance.sqrt() * z_noise).repeat_interleave(DECISIONS, 0)
    for parameter, value in zip(actor, weights, strict=True):
        parameter.data.copy_(value)
    a, log_pi = plain_policy(networks.actor.network, s, z, noise)
    seen = torch.cat((s, a, z), -1)  # judged by critics that have taken their step
    value = torch.minimum(layered(networks.critic.q1, seen), layered(networks.critic.q2, seen))[:, 0]
    policy = layered(networks.actor.network, torch.cat((s, z), -1))
    means, log_stds = policy.split(ACTIONS, -1)
    loss = (log_pi - value).mean() + 1e-3 * (means.square().mean() + log_stds.square().mean())
    expected = torch.autograd.grad(loss, actor)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    assert networks.log_alpha.item() == 0.0  # the temperature stays 1


def test_the_preset_has_the_numbers_of_pearls_code() -> None:
    config = resolve("pearl", {"family.name": "cheetah_vel"})
    actor_critic, task, train = config.actor_critic, config.task, config.train
    assert (actor_critic.hidden_layers, actor_critic.hidden_size, actor_critic.layer_norm) == (3, 300, False)
    assert (actor_critic.gamma, actor_critic.tau, actor_critic.reward_scale) == (0.99, 0.005, 5.0)
    assert (actor_critic.alpha_init, train.lr_alpha) == (1.0, 0.0)
    assert {train.lr_critic, train.lr_actor, train.lr_context} == {3e-4}
    assert (task.size, task.hidden_size, task.factor_rank, task.prior_factor) == (5, 200, 0, False)
    assert (task.context_segments * task.context_length, task.context_min, task.context_max) == (100,) * 3
    assert (train.tasks_per_update, train.windows, train.steps_per_batch, train.extra_steps) == (
        16,
        256,
        1,
        0,
    )
    assert math.isclose(task.kl_weight, 0.1 * train.tasks_per_update / 2)
    # 2,000 random steps a task; then of five tasks 400 for contexts and 600 more, for 2,000 updates.
    steps = 200
    assert train.initial_episodes * steps == 2_000 and train.tasks_per_visit == 5
    assert train.prior_episodes * steps == 400 and train.posterior_episodes * steps == 600
    assert not train.posterior_context and config.replay.context_episodes * steps == 400
    assert train.updates_per_visit == 2_000
    evaluation = config.evaluation
    assert (evaluation.episodes, evaluation.exploration_episodes) == (3, 2)


def test_gaussians_of_the_preset_are_diagonal() -> None:
    learner, drawn, _ = pearl_learner(False)
    transitions = learner.task.read(drawn.context)
    belief = learner.task.believe(transitions)
    assert belief is not None
    mean, variance = plain_belief(learner.networks.context_encoder.network, drawn.context, False)
    off_diagonal = belief.precision - torch.diag_embed(belief.precision.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() == 0
    assert isinstance(belief.gaussian, Gaussian)
    torch.testing.assert_close(belief.gaussian.mean.double(), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(belief.gaussian.std.double().square(), variance, rtol=1e-6, atol=1e-9)
    kl = kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(belief.kl_to_prior().double(), kl, rtol=1e-6, atol=1e-6)
