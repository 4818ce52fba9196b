"""Where m is drawn from before much is known: among the beliefs of training tasks, in place of N(0, I).

Those need not fill the prior. Where goals lie on a half circle, beliefs lie on a curve, and an m off that
curve leads to no goal. What training tasks were believed to be, all together, is the aggregated posterior,
which Tomczak and Welling (2018) put in the place of N(0, I), too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaslac.networks.blocks import mlp
from metaslac.networks.context_encoder import TaskBelief

LEAST_WIDTH = 1e-3


class ContextReward(nn.Module):
    """p(r_t | f_t, a_t, f_{t+1}, m), a Gaussian of fixed `std`, of the rewards that tasks are inferred from.

    Evidence that says *not there*: a factor, Gaussian in m, can only say where m is (compare the decoder of
    VariBAD, Zintgraf et al. 2020).
    """

    def __init__(self, feature_size: int, action_size: int, task_size: int, hidden: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.network = mlp((2 * feature_size + action_size + task_size, hidden, hidden, 1), nn.ReLU)

    def log_likelihood(self, f: Tensor, a: Tensor, r: Tensor, f_next: Tensor, m: Tensor) -> Tensor:
        """log p(r) but for a constant, (...): f, f_next (..., F), a (..., A), r (...), m (..., M)."""
        mean = self.network(torch.cat((f, a, f_next, m), -1))[..., 0]
        log_p: Tensor = -0.5 * ((r - mean) / self.std).square()
        return log_p


class Hypotheses(NamedTuple):
    """K beliefs of training tasks, any of which the task of each of N slots may be."""

    m: Tensor  # (K, M)
    log_likelihood: Tensor  # (N, K) of all rewards observed since the task began, but for a constant


class TaskPrior(nn.Module):
    """The means of the last K beliefs of training tasks, which m is drawn among.

    Without `reward`, as a mixture of K equal Gaussians, one at each, whose posterior is exact. Their standard
    deviation is the median distance from a mean to the nearest other one. With it, as K points, each as
    likely as the rewards that were observed are by it.
    """

    means: Tensor
    seen: Tensor

    def __init__(self, size: int, task_size: int, reward: ContextReward | None = None) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(size, task_size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # beliefs taken in so far
        self.reward = reward

    @torch.no_grad()
    def take_in(self, means: Tensor) -> None:
        """Put the means (B, M) of newer beliefs in the place of the oldest; B is at most K."""
        places = (self.seen + torch.arange(len(means), device=means.device)) % len(self.means)
        self.means.index_copy_(0, places, means)
        self.seen += len(means)

    def hypotheses(self, slots: int) -> Hypotheses:
        """What the tasks of so many slots may be, with nothing observed yet. Newer beliefs change none."""
        means = self.means[: int(self.seen)].clone()
        return Hypotheses(means, means.new_zeros(slots, len(means)))

    def weigh(
        self,
        hypotheses: Hypotheses,
        f: Tensor,
        a: Tensor,
        r: Tensor,
        f_next: Tensor,
        weight: Tensor | None = None,
    ) -> Hypotheses:
        """The same after C transitions more of every slot, f, f_next (N, C, F), a (N, C, A), r (N, C).

        A weight (N, C) of zero leaves one out. Factors weigh them, and nothing here does, without `reward`.
        """
        if self.reward is None:
            return hypotheses
        count, among = r.shape[1], len(hypotheses.m)
        f, a, f_next = (part[:, :, None].expand(-1, -1, among, -1) for part in (f, a, f_next))
        m = hypotheses.m.expand(len(r), count, -1, -1)
        told = self.reward.log_likelihood(f, a, r[..., None], f_next, m)  # (N, C, K)
        told = told if weight is None else told * weight[..., None]
        return hypotheses._replace(log_likelihood=hypotheses.log_likelihood + told.sum(1))

    def draw(self, hypotheses: Hypotheses, evidence: TaskBelief, noise: Tensor) -> Tensor:
        """m (N, M) of the posterior; of N(0, I), if there are no hypotheses.

        Of each Gaussian of the mixture, the product with the evidence is a Gaussian again, and the integral
        of that product is its weight.

        Args:
            hypotheses: with what rewards say of them, if `reward` is to weigh them.
            evidence: product of the factors of observations alone, without a prior, if they are to.
            noise: standard normal, (N, M + 1); the last column chooses among the hypotheses.
        """
        means = hypotheses.m.double()
        if not len(means):
            return noise[:, :-1]
        if self.reward is not None:
            return hypotheses.m[chosen(hypotheses.log_likelihood, noise[:, -1:])]
        narrow = precision_of(means)
        eye = torch.eye(means.shape[1], dtype=torch.float64, device=means.device)
        root = torch.linalg.cholesky(evidence.precision + narrow * eye)  # (N, M, M)
        shifts = evidence.shift[:, None] + narrow * means  # (N, K, M)
        centres = torch.cholesky_solve(shifts.mT, root).mT
        fits = 0.5 * ((shifts * centres).sum(-1) - narrow * means.square().sum(-1))
        spread = torch.linalg.solve_triangular(root.mT, noise[:, :-1, None].double(), upper=True)[..., 0]
        rows = torch.arange(len(noise), device=means.device)
        m: Tensor = centres[rows, chosen(fits, noise[:, -1:])] + spread
        return m.float()


def chosen(log_weights: Tensor, noise: Tensor) -> Tensor:
    """Which of K is drawn, (N,), by weights (N, K) and a standard normal number each, (N, 1)."""
    level = torch.special.ndtr(noise.double())
    place: Tensor = (log_weights.double().softmax(-1).cumsum(-1) < level).sum(-1)
    return place.clamp_max(log_weights.shape[1] - 1)  # shares may add up to a little below one


def precision_of(means: Tensor) -> Tensor:
    """Of each Gaussian of the mixture, of all in each dimension."""
    if len(means) == 1:
        return means.new_ones(())
    distances = torch.cdist(means, means)
    distances.fill_diagonal_(torch.inf)
    nearest: Tensor = distances.amin(1).median()
    return nearest.clamp_min(LEAST_WIDTH).square().reciprocal()
