"""The product of Gaussians: closed form, order and batching, filtering, and the prior."""

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from metaslac.networks.context_encoder import ContextEncoder, Factors, TaskBelief

CPU = torch.device("cpu")


def factors(count: int, tasks: int = 3, size: int = 4, rank: int = 2) -> Factors:
    """Random ones, which do not know of one another's directions."""
    generator = torch.Generator().manual_seed(count)
    directions = torch.randn(tasks, count, rank, size, dtype=torch.float64, generator=generator)
    return Factors(directions, torch.randn(tasks, count, rank, dtype=torch.float64, generator=generator))


def diagonal_factors(mu: torch.Tensor, s2: torch.Tensor) -> Factors:
    """N(mu, s2) in each dimension, as observations of one dimension each."""
    return Factors(torch.diag_embed(s2.rsqrt()), mu * s2.rsqrt())


def belief_of(observed: Factors, prior_factor: bool = True) -> TaskBelief:
    tasks, size = observed.directions.shape[0], observed.directions.shape[-1]
    return TaskBelief.prior(tasks, size, prior_factor, CPU).update(observed)


def test_product_equals_the_normalised_product_of_densities() -> None:
    """Brute force in two dimensions: multiply the densities on a grid and take the moments."""
    observed = factors(2, tasks=1, size=2, rank=1)
    axis = torch.linspace(-6, 6, 1_201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_density = Normal(0.0, 1.0).log_prob(grid).sum(1)  # the prior
    for direction, value in zip(observed.directions[0, :, 0], observed.values[0, :, 0], strict=True):
        log_density = log_density + Normal(value, 1.0).log_prob(grid @ direction)
    density = (log_density - log_density.max()).exp()
    density = density / density.sum()
    mean = density @ grid
    covariance = (grid - mean).T @ (density[:, None] * (grid - mean))
    belief = belief_of(observed)
    torch.testing.assert_close(belief.gaussian.mean[0].double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        belief.gaussian.std[0].double(), covariance.diagonal().sqrt(), rtol=1e-5, atol=1e-5
    )
    assert covariance[0, 1].abs() > 0.05  # there is something for the next line to see
    torch.testing.assert_close(belief.precision[0].inverse(), covariance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior_factor", [False, True])
def test_diagonal_factors_give_pearls_product(prior_factor: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(3, 5, 4, dtype=torch.float64, generator=generator)
    s2 = torch.rand(3, 5, 4, dtype=torch.float64, generator=generator) + 0.05
    precision = (1 / s2).sum(1) + float(prior_factor)
    belief = belief_of(diagonal_factors(mu, s2), prior_factor).gaussian
    torch.testing.assert_close(belief.mean, ((mu / s2).sum(1) / precision).float())
    torch.testing.assert_close(belief.std, precision.rsqrt().float())


def test_transitions_that_each_know_the_distance_to_a_goal_find_the_goal() -> None:
    """What no product of diagonal factors can do: each rules out one direction, together they are exact."""
    generator = torch.Generator().manual_seed(0)
    goal = torch.tensor([0.3, -0.7], dtype=torch.float64)
    places = torch.rand(1, 30, 2, dtype=torch.float64, generator=generator) * 2 - 1
    distance = (places - goal).square().sum(-1)
    # |x|^2 - d^2 = 2 x.g - |g|^2, linear in m = (g, |g|^2)
    directions = torch.cat((2 * places, -torch.ones(1, 30, 1, dtype=torch.float64)), -1)
    values = places.square().sum(-1) - distance
    belief = belief_of(Factors(1e3 * directions[:, :, None], 1e3 * values[:, :, None]))
    torch.testing.assert_close(belief.gaussian.mean[0, :2].double(), goal, rtol=1e-4, atol=1e-4)


def test_order_batching_and_filtering_do_not_matter() -> None:
    observed = factors(12)
    directions, values = observed
    whole = belief_of(observed)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = belief_of(Factors(directions[:, order], values[:, order]))
    one_by_one = TaskBelief.prior(3, 4, True, CPU)
    for n in range(12):
        one_by_one = one_by_one.update(Factors(directions[:, n : n + 1], values[:, n : n + 1]))
    alone = [belief_of(Factors(directions[i : i + 1], values[i : i + 1])) for i in range(3)]
    together = TaskBelief(*(torch.cat(parts) for parts in zip(*alone, strict=True)))
    weight = torch.zeros(3, 12)
    weight[:, :7] = 1
    halves = TaskBelief.prior(3, 4, True, CPU).update(observed, weight).update(observed, 1 - weight)
    for other in (shuffled, one_by_one, together, halves):
        torch.testing.assert_close(other.precision, whole.precision)
        torch.testing.assert_close(other.gaussian.mean, whole.gaussian.mean)
        torch.testing.assert_close(other.gaussian.std, whole.gaussian.std)


@pytest.mark.parametrize("prior_factor", [False, True])
def test_no_context_is_the_standard_normal_prior(prior_factor: bool) -> None:
    belief = TaskBelief.prior(2, 4, prior_factor, CPU)
    assert torch.equal(belief.gaussian.mean, torch.zeros(2, 4))
    assert torch.equal(belief.gaussian.std, torch.ones(2, 4))
    assert torch.equal(belief.kl_to_prior(), torch.zeros(2))
    noise = torch.randn(2, 4)
    assert torch.equal(belief.sample(noise), noise)
    nothing = belief.update(Factors(*(part[:2] for part in factors(6))), weight=torch.zeros(2, 6))
    assert torch.equal(nothing.sample(noise), noise)


def test_one_row_without_context_leaves_the_others_theirs() -> None:
    generator = torch.Generator().manual_seed(0)
    s2 = torch.rand(2, 5, 4, dtype=torch.float64, generator=generator) + 0.05
    observed = diagonal_factors(torch.ones(2, 5, 4, dtype=torch.float64), s2)
    weight = torch.tensor([[1.0] * 5, [0.0] * 5])
    belief = TaskBelief.prior(2, 4, False, CPU).update(observed, weight).gaussian
    torch.testing.assert_close(belief.std[0], (1 / s2[0]).sum(0).rsqrt().float())
    assert torch.equal(belief.std[1], torch.ones(4)) and torch.equal(belief.mean[1], torch.zeros(4))


def as_distribution(belief: TaskBelief) -> MultivariateNormal:
    mean = torch.linalg.solve(belief.precision, belief.shift[..., None])[..., 0]
    return MultivariateNormal(mean, precision_matrix=belief.precision)


def test_kl_is_that_of_torch_distributions() -> None:
    belief = belief_of(factors(3))
    prior = MultivariateNormal(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    expected = kl_divergence(as_distribution(belief), prior)
    torch.testing.assert_close(belief.kl_to_prior(), expected.float())


def test_samples_are_distributed_as_the_belief() -> None:
    belief = belief_of(factors(3, tasks=1, size=2, rank=1))
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(1))
    samples = TaskBelief(belief.precision.expand(200_000, 2, 2), belief.shift.expand(200_000, 2)).sample(
        noise
    )
    expected = as_distribution(belief)
    torch.testing.assert_close(samples.mean(0), expected.mean[0].float(), atol=0.01, rtol=0.0)
    torch.testing.assert_close(samples.T.cov(), expected.covariance_matrix[0].float(), atol=0.01, rtol=0.0)


def test_samples_and_kl_have_the_gradient_of_their_formulas() -> None:
    """Against torch.distributions in double precision, with the same noise."""
    given = factors(3, tasks=2, size=2, rank=1)
    noise = torch.randn(2, 2, generator=torch.Generator().manual_seed(1))
    gradients = []
    for ours in (True, False):
        directions, values = (part.clone().requires_grad_() for part in given)
        belief = belief_of(Factors(directions, values))
        if ours:
            m, kl = belief.sample(noise), belief.kl_to_prior()
        else:
            distribution = as_distribution(belief)
            factor = torch.linalg.cholesky(belief.precision)
            m = distribution.mean + torch.linalg.solve(factor.mT, noise.double()[..., None])[..., 0]
            prior = MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
            kl = kl_divergence(distribution, prior)
        outcome = (m * torch.tensor([1.0, -2.0])).sum() + 3 * kl.sum()
        gradients.append(torch.autograd.grad(outcome, (directions, values)))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e3, 1e5])
def test_long_trials_with_large_factors_stay_exact(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    m = torch.randn(1, 5, dtype=torch.float64, generator=generator)
    directions = size * torch.randn(1, 2_000, 2, 5, dtype=torch.float64, generator=generator)
    belief = belief_of(Factors(directions, directions @ m[0])).gaussian
    torch.testing.assert_close(belief.mean, m.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1e6, 1e8, 1e15, 1e37])
def test_evidence_that_is_too_large_for_its_directions_leaves_the_others_theirs(size: float) -> None:
    """Of five directions two are told of, far too surely: those are known and the rest is the prior's."""
    generator = torch.Generator().manual_seed(0)
    m = torch.tensor([0.5, -1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    directions = torch.zeros(1, 300, 2, 5, dtype=torch.float64)
    directions[..., :2] = torch.randn(1, 300, 2, 2, dtype=torch.float64, generator=generator)
    turned = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator)).Q
    observed = Factors((size * directions @ turned).float(), (size * (directions @ m)).float())
    belief = belief_of(observed)
    torch.testing.assert_close(turned @ belief.gaussian.mean[0].double(), m, rtol=1e-3, atol=1e-3)
    covariance = turned @ belief.precision[0].inverse() @ turned.T
    torch.testing.assert_close(
        covariance, torch.diag(torch.tensor([0.0, 0, 1, 1, 1])).double(), atol=1e-4, rtol=0
    )
    for values in (belief.sample(torch.ones(1, 5)), belief.kl_to_prior()):
        assert values.isfinite().all()


@pytest.mark.parametrize("value", [1e9, 1e30])
def test_what_an_observation_says_is_bounded_too(value: float) -> None:
    directions = torch.tensor([[[[1.0, 0.0]]]])
    belief = belief_of(Factors(directions, torch.full((1, 1, 1), value)))
    assert 1e4 < belief.gaussian.mean[0, 0] < 1e5  # half of ten deviations at the finest there are


def test_a_precision_lost_in_rounding_is_not_a_number() -> None:
    """Which losses and actions notice; a partial factorisation would look like a belief."""
    bad = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    belief = TaskBelief(bad, torch.ones(2, 2, dtype=torch.float64))
    for values in (*belief.gaussian, belief.sample(torch.zeros(2, 2)), belief.kl_to_prior()[:, None]):
        assert values[0].isnan().all() and values[1].isfinite().all()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_factor_sees_its_own_transition_only(rank: int) -> None:
    encoder = ContextEncoder(feature_size=6, action_size=2, task_size=3, hidden_size=32, rank=rank)
    f, a, r, f_next = torch.randn(2, 5, 6), torch.randn(2, 5, 2), torch.randn(2, 5), torch.randn(2, 5, 6)
    observed = encoder(f, a, r, f_next)
    shape = (2, 5, rank or 3)
    assert observed.directions.shape == (*shape, 3) and observed.values.shape == shape
    changed = encoder(f, a, r + torch.eye(5)[2], f_next)
    differs = (changed.values != observed.values).any(-1)
    assert differs[:, 2].all() and not differs[:, [0, 1, 3, 4]].any()
    precision = TaskBelief.prior(2, 3, True, CPU).update(observed).precision
    assert (torch.linalg.eigvalsh(precision) > 1 - 1e-9).all()


def test_factors_of_rank_zero_are_diagonal() -> None:
    encoder = ContextEncoder(feature_size=6, action_size=2, task_size=3, hidden_size=32, rank=0)
    f, a, r = torch.randn(2, 5, 6), torch.randn(2, 5, 2), torch.randn(2, 5)
    mu, raw = encoder.network(torch.cat((f, a, r[..., None], f), -1)).chunk(2, -1)
    precision = 1 + (1 / torch.nn.functional.softplus(raw)).sum(1)
    belief = belief_of(encoder(f, a, r, f)).gaussian
    mean = (mu / torch.nn.functional.softplus(raw)).sum(1) / precision
    torch.testing.assert_close(belief.mean, mean)
    torch.testing.assert_close(belief.std, precision.rsqrt())
