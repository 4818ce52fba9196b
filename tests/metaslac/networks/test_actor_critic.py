"""The squashed Gaussian against torch.distributions, and the twin critics."""

from dataclasses import replace

import torch
from fakes import tiny_config
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from metaslac.config.sections import ActorCriticConfig
from metaslac.networks.actor_critic import LOG_STD_RANGE, Actor, TwinCritic, squash
from metaslac.networks.blocks import Gaussian
from metaslac.networks.meta_slac import MetaSLAC


def test_log_probability_is_that_of_a_transformed_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(500, 3, dtype=torch.float64, generator=generator)
    std = torch.rand(500, 3, dtype=torch.float64, generator=generator) + 0.1
    noise = torch.randn(500, 3, dtype=torch.float64, generator=generator)
    action, log_prob = squash(Gaussian(mean, std), noise)
    base = TransformedDistribution(Normal(mean, std), [TanhTransform(cache_size=1)])
    u = mean + std * noise
    expected = base.log_prob(base.transforms[0](u))
    torch.testing.assert_close(action, u.tanh())
    torch.testing.assert_close(log_prob, expected.sum(-1))


def test_log_probability_does_not_saturate_far_out() -> None:
    distribution = Gaussian(torch.full((1, 1), 30.0), torch.ones(1, 1))
    _, log_prob = squash(distribution, torch.zeros(1, 1))
    # log N(0; 0, 1) - 2 (log 2 - 30) exactly, as softplus(-60) vanishes
    torch.testing.assert_close(log_prob, torch.tensor([-0.9189385 - 2 * (0.6931472 - 30)]))


def test_density_integrates_to_one() -> None:
    u = torch.linspace(-9, 9, 200_001, dtype=torch.float64)[:, None]
    mean, std = torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    action, log_prob = squash(Gaussian(mean.expand_as(u), std.expand_as(u)), (u - mean) / std)
    total = torch.trapezoid(log_prob.exp(), action[:, 0])
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64), atol=1e-6, rtol=0.0)


def test_actor_bounds_its_standard_deviation() -> None:
    actor = Actor(
        window=2, feature_size=3, action_size=1, task_size=1, config=ActorCriticConfig(hidden_size=4)
    )
    f = torch.full((1, 2, 3), 1e6)
    policy = actor(f, torch.zeros(1, 1, 1), torch.zeros(1, 1))
    low, high = (torch.tensor(bound).exp() for bound in LOG_STD_RANGE)
    assert (policy.std >= low * 0.999).all() and (policy.std <= high * 1.001).all()


def test_the_two_critics_are_independent() -> None:
    critic = TwinCritic(3, action_size=1, task_size=2, config=ActorCriticConfig(hidden_size=8))
    q = critic(torch.randn(5, 3), torch.randn(5, 1), torch.randn(5, 2))
    assert q.shape == (2, 5) and not torch.isclose(q[0], q[1]).all()
    q[0].sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in critic.q2.parameters())


def test_independent_is_the_sum_over_dimensions() -> None:
    distribution = Gaussian(torch.randn(4, 3), torch.rand(4, 3) + 0.1)
    value = torch.randn(4, 3)
    expected = -Independent(Normal(*distribution), 1).log_prob(value)
    torch.testing.assert_close(distribution.negative_log_likelihood(value).sum(-1), expected)


def test_critics_with_and_without_layer_normalisation() -> None:
    z, a, m = torch.randn(5, 3), torch.randn(5, 1), torch.randn(5, 2)
    for layer_norm in (True, False):
        critic = TwinCritic(3, 1, 2, ActorCriticConfig(hidden_size=8, layer_norm=layer_norm))
        x = torch.cat((z, a, m), -1)
        linear = [layer for layer in critic.q1 if isinstance(layer, torch.nn.Linear)]
        assert len(linear) == 3
        for layer in linear[:-1]:
            x = x @ layer.weight.T + layer.bias
            if layer_norm:
                x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            x = x.clamp_min(0)
        expected = (x @ linear[-1].weight.T + linear[-1].bias).squeeze(-1)
        torch.testing.assert_close(critic(z, a, m)[0], expected)


def test_the_setting_reaches_both_critics() -> None:
    for layer_norm in (True, False):
        config = tiny_config()
        config = replace(config, actor_critic=replace(config.actor_critic, layer_norm=layer_norm))
        networks = MetaSLAC(config, 1, 1)
        for critic in (networks.critic, networks.target_critic):
            assert any(isinstance(module, torch.nn.LayerNorm) for module in critic.modules()) is layer_norm
