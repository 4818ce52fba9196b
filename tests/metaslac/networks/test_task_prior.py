"""Drawing m among the beliefs of training tasks: the posterior by brute force, and what is remembered."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from metaslac.networks.context_encoder import Factors, TaskBelief
from metaslac.networks.task_prior import ContextReward, TaskPrior

CPU = torch.device("cpu")
DRAWS = 40_000


def prior_of(means: list[list[float]]) -> TaskPrior:
    prior = TaskPrior(len(means), len(means[0]))
    prior.take_in(torch.tensor(means))
    return prior


def nothing(slots: int, size: int) -> TaskBelief:
    return TaskBelief.prior(slots, size, False, CPU)


def noise(size: int, draws: int = DRAWS) -> torch.Tensor:
    return torch.randn(draws, size + 1, generator=torch.Generator().manual_seed(0))


def test_posterior_equals_prior_times_likelihood_on_a_grid() -> None:
    """In one dimension: shares of draws in bins, where the nearest means are 0.5 and 2.5, median 1, apart."""
    prior = prior_of([[-1.5], [-1.0], [0.0], [1.0], [3.5]])
    direction, value = 0.7, 0.9
    observed = Factors(torch.full((1, 1, 1, 1), direction), torch.full((1, 1, 1), value))
    evidence = nothing(1, 1).update(observed)
    repeated = TaskBelief(evidence.precision.expand(DRAWS, 1, 1), evidence.shift.expand(DRAWS, 1))
    drawn = prior.draw(prior.hypotheses(DRAWS), repeated, noise(1))[:, 0].double()
    axis = torch.linspace(-8, 10, 18_001, dtype=torch.float64)
    mixture = MixtureSameFamily(Categorical(torch.ones(5)), Normal(prior.means[:, 0].double(), 1.0))
    density = (mixture.log_prob(axis) + Normal(value, 1.0).log_prob(direction * axis)).exp()
    for low, high in [(-8, -1), (-1, 0), (0, 1), (1, 2), (2, 3), (3, 10)]:
        expected = density[(axis >= low) & (axis < high)].sum() / density.sum()
        share = ((drawn >= low) & (drawn < high)).double().mean()
        assert share == pytest.approx(float(expected), abs=4 * (0.25 / DRAWS) ** 0.5)


def test_correlated_evidence_moves_and_shapes_the_draws() -> None:
    """One mean is a prior N(m, I): the posterior is the product of two Gaussians, in closed form."""
    prior = prior_of([[1.0, -2.0]])
    precision = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
    shift = torch.tensor([0.5, -0.3], dtype=torch.float64)
    covariance = (precision + torch.eye(2)).inverse()
    expected = covariance @ (shift + prior.means[0])
    evidence = TaskBelief(precision.expand(DRAWS, 2, 2), shift.expand(DRAWS, 2))
    drawn = prior.draw(prior.hypotheses(DRAWS), evidence, noise(2)).double()
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.02, rtol=0)


def test_without_evidence_every_belief_is_drawn_alike() -> None:
    means = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]]
    chooses = noise(2) * torch.tensor([0.0, 0.0, 1.0])
    prior = prior_of(means)
    drawn = prior.draw(prior.hypotheses(DRAWS), nothing(DRAWS, 2), chooses)
    shares = [float(((drawn - torch.tensor(mean)).norm(dim=1) < 5).double().mean()) for mean in means]
    assert shares == pytest.approx([0.25] * 4, abs=0.01)


def test_the_oldest_are_forgotten_and_none_is_the_standard_normal() -> None:
    prior = TaskPrior(3, 1)
    given = noise(1, 5)
    torch.testing.assert_close(prior.draw(prior.hypotheses(5), nothing(5, 1), given), given[:, :1])
    for mean in (1.0, 2.0, 3.0, 4.0):
        prior.take_in(torch.tensor([[mean]]))
    assert sorted(prior.means[:, 0].tolist()) == [2.0, 3.0, 4.0]
    prior.take_in(torch.tensor([[5.0], [6.0]]))
    assert sorted(prior.means[:, 0].tolist()) == [4.0, 5.0, 6.0]


def test_places_not_yet_filled_are_never_drawn() -> None:
    prior = TaskPrior(8, 1)
    prior.take_in(torch.tensor([[50.0], [52.0]]))
    assert prior.draw(prior.hypotheses(1_000), nothing(1_000, 1), noise(1, 1_000)).min() > 35


def by_rewards(means: list[list[float]], std: float) -> tuple[TaskPrior, ContextReward]:
    """A prior, and what tells its rewards: a network of 3 + 3 + 1 entries beside m."""
    torch.manual_seed(0)
    reward = ContextReward(3, 1, len(means[0]), 16, std)
    prior = TaskPrior(len(means), len(means[0]), reward)
    prior.take_in(torch.tensor(means))
    return prior, reward


def transitions(slots: int, count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(slots, count, *size, generator=generator) for size in [(3,), (1,), (), (3,)])


def test_hypotheses_are_as_likely_as_all_rewards_are_by_them() -> None:
    """Shares of draws, and Bayes' rule with torch.distributions, one hypothesis and transition at a time."""
    means = [[-1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]
    prior, reward = by_rewards(means, 0.8)
    f, a, r, f_next = transitions(2, 5)
    weight = torch.tensor([[1.0] * 5, [1.0, 0.0, 1.0, 1.0, 0.0]])
    with torch.no_grad():
        weighed = prior.weigh(prior.hypotheses(2), f, a, r, f_next, weight)
        for slot, kept in enumerate(weight.bool()):
            posterior = torch.zeros(3)
            for place, mean in enumerate(means):
                for step in kept.nonzero()[:, 0]:
                    seen = f[slot, step], a[slot, step], f_next[slot, step], torch.tensor(mean)
                    posterior[place] += Normal(reward.network(torch.cat(seen))[0], 0.8).log_prob(
                        r[slot, step]
                    )
            one = weighed._replace(log_likelihood=weighed.log_likelihood[slot].expand(DRAWS, -1))
            drawn = prior.draw(one, nothing(DRAWS, 2), noise(2))
            shares = [float((drawn == torch.tensor(mean)).all(1).double().mean()) for mean in means]
            expected = posterior.softmax(0).tolist()
            assert shares == pytest.approx(expected, abs=0.01) and max(expected) < 0.99


def test_transitions_one_by_one_tell_what_they_tell_together() -> None:
    prior, _ = by_rewards([[-1.0], [0.5], [4.0]], 0.3)
    f, a, r, f_next = transitions(4, 6)
    with torch.no_grad():
        together = prior.weigh(prior.hypotheses(4), f, a, r, f_next)
        apart = prior.hypotheses(4)
        for step in range(6):
            apart = prior.weigh(apart, *(part[:, step, None] for part in (f, a, r, f_next)))
    torch.testing.assert_close(apart.log_likelihood, together.log_likelihood)


def test_hypotheses_stay_when_newer_beliefs_come() -> None:
    prior, _ = by_rewards([[1.0], [2.0]], 0.3)
    begun = prior.hypotheses(1)
    prior.take_in(torch.tensor([[7.0], [8.0]]))
    assert begun.m[:, 0].tolist() == [1.0, 2.0]
    assert prior.hypotheses(1).m[:, 0].tolist() == [7.0, 8.0]
