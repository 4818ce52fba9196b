"""Where m is drawn from before much is known: among the beliefs of training tasks, in place of N(0, I).

Those need not fill the prior. Where goals lie on a half circle, beliefs lie on a curve, and an m off that
curve leads to no goal. What training tasks were believed to be, all together, is the aggregated posterior,
which Tomczak and Welling (2018) put in the place of N(0, I), too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metaslac.networks.context_encoder import TaskBelief

LEAST_WIDTH = 1e-3


class TaskPrior(nn.Module):
    """A mixture of K equal Gaussians, one at each mean of the last K beliefs of training tasks.

    Their standard deviation is the median distance from a mean to the nearest other one.
    """

    means: Tensor
    seen: Tensor

    def __init__(self, size: int, task_size: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(size, task_size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # beliefs taken in so far

    @torch.no_grad()
    def take_in(self, means: Tensor) -> None:
        """Put the means (B, M) of newer beliefs in the place of the oldest; B is at most K."""
        places = (self.seen + torch.arange(len(means), device=means.device)) % len(self.means)
        self.means.index_copy_(0, places, means)
        self.seen += len(means)

    def draw(self, evidence: TaskBelief, noise: Tensor) -> Tensor:
        """m (N, M) of the posterior that this mixture and the evidence make; of N(0, I), if it is empty.

        Of each Gaussian of the mixture, the product with the evidence is a Gaussian again, and the integral
        of that product is its weight.

        Args:
            evidence: product of the factors of observations alone, without a prior.
            noise: standard normal, (N, M + 1); the last column chooses among the Gaussians.
        """
        means = self.means[: int(self.seen)].double()
        if not len(means):
            return noise[:, :-1]
        narrow = self._precision(means)
        eye = torch.eye(means.shape[1], dtype=torch.float64, device=means.device)
        root = torch.linalg.cholesky(evidence.precision + narrow * eye)  # (N, M, M)
        shifts = evidence.shift[:, None] + narrow * means  # (N, K, M)
        centres = torch.cholesky_solve(shifts.mT, root).mT
        fits = 0.5 * ((shifts * centres).sum(-1) - narrow * means.square().sum(-1))
        level = torch.special.ndtr(noise[:, -1:].double())
        chosen = (fits.softmax(-1).cumsum(-1) < level).sum(-1).clamp_max(len(means) - 1)
        spread = torch.linalg.solve_triangular(root.mT, noise[:, :-1, None].double(), upper=True)[..., 0]
        m: Tensor = centres[torch.arange(len(noise), device=means.device), chosen] + spread
        return m.float()

    def _precision(self, means: Tensor) -> Tensor:
        """Of each Gaussian, of all in each dimension."""
        if len(means) == 1:
            return means.new_ones(())
        distances = torch.cdist(means, means)
        distances.fill_diagonal_(torch.inf)
        return distances.amin(1).median().clamp_min(LEAST_WIDTH).square().reciprocal()
