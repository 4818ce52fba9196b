"""The product of Gaussians: closed form, order and batching, filtering, and the prior."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metaslac.context_encoder import ContextEncoder, TaskBelief

CPU = torch.device("cpu")


def factors(count: int, tasks: int = 3, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    mu = torch.randn(tasks, count, size, dtype=torch.float64, generator=generator)
    return mu, torch.rand(tasks, count, size, dtype=torch.float64, generator=generator) + 0.05


def belief_of(mu: torch.Tensor, s2: torch.Tensor, prior_factor: bool) -> TaskBelief:
    return TaskBelief.prior(mu.shape[0], mu.shape[2], prior_factor, CPU).update(mu, s2)


@pytest.mark.parametrize("prior_factor", [False, True])
def test_product_equals_the_normalised_product_of_densities(prior_factor: bool) -> None:
    """Brute force: multiply the densities on a grid and take the moments."""
    mu, s2 = factors(5, tasks=1, size=1)
    grid = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    log_density = Normal(mu[0], s2[0].sqrt()).log_prob(grid).sum(0)
    if prior_factor:
        log_density = log_density + Normal(0.0, 1.0).log_prob(grid)
    density = (log_density - log_density.max()).exp()
    density = density / density.sum()
    mean = (density * grid).sum()
    std = (density * (grid - mean) ** 2).sum().sqrt()
    belief = belief_of(mu, s2, prior_factor).gaussian
    torch.testing.assert_close(belief.mean[0, 0].double(), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(belief.std[0, 0].double(), std, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prior_factor", [False, True])
def test_order_batching_and_filtering_do_not_matter(prior_factor: bool) -> None:
    mu, s2 = factors(12)
    whole = belief_of(mu, s2, prior_factor)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = belief_of(mu[:, order], s2[:, order], prior_factor)
    one_by_one = TaskBelief.prior(3, 4, prior_factor, CPU)
    for n in range(12):
        one_by_one = one_by_one.update(mu[:, n : n + 1], s2[:, n : n + 1])
    alone = [belief_of(mu[i : i + 1], s2[i : i + 1], prior_factor) for i in range(3)]
    together = TaskBelief(*(torch.cat(parts) for parts in zip(*alone, strict=True)))
    weight = torch.zeros(3, 12)
    weight[:, :7] = 1
    halves = TaskBelief.prior(3, 4, prior_factor, CPU).update(mu, s2, weight).update(mu, s2, 1 - weight)
    for other in (shuffled, one_by_one, together, halves):
        torch.testing.assert_close(other.gaussian.mean, whole.gaussian.mean)
        torch.testing.assert_close(other.gaussian.std, whole.gaussian.std)


@pytest.mark.parametrize("prior_factor", [False, True])
def test_no_context_is_the_standard_normal_prior(prior_factor: bool) -> None:
    belief = TaskBelief.prior(2, 4, prior_factor, CPU)
    assert torch.equal(belief.gaussian.mean, torch.zeros(2, 4))
    assert torch.equal(belief.gaussian.std, torch.ones(2, 4))
    noise = torch.randn(2, 4)
    assert torch.equal(belief.sample(noise), noise)
    nothing = belief.update(*(part[:2].float() for part in factors(6)), weight=torch.zeros(2, 6))
    assert torch.equal(nothing.sample(noise), noise)


def test_kl_is_that_of_torch_distributions() -> None:
    belief = belief_of(*factors(3), prior_factor=True)
    expected = kl_divergence(Normal(*belief.gaussian), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(belief.kl_to_prior(), expected)


def test_samples_are_distributed_as_the_belief() -> None:
    belief = belief_of(*factors(3, tasks=1, size=2), prior_factor=False)
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(1))
    samples = TaskBelief(*(part.expand(200_000, 2) for part in belief)).sample(noise)
    torch.testing.assert_close(samples.mean(0), belief.gaussian.mean[0], atol=0.01, rtol=0.0)
    torch.testing.assert_close(samples.std(0), belief.gaussian.std[0], atol=0.01, rtol=0.0)


def test_a_factor_sees_its_own_transition_only() -> None:
    encoder = ContextEncoder(feature_size=6, action_size=2, task_size=3, hidden_size=8)
    f, a, r, f_next = torch.randn(2, 5, 6), torch.randn(2, 5, 2), torch.randn(2, 5), torch.randn(2, 5, 6)
    mu, s2 = encoder(f, a, r, f_next)
    assert mu.shape == s2.shape == (2, 5, 3) and (s2 > 0).all()
    changed, _ = encoder(f, a, r + torch.eye(5)[2], f_next)
    differs = (changed != mu).any(-1)
    assert differs[:, 2].all() and not differs[:, [0, 1, 3, 4]].any()
