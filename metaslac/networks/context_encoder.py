"""Task inference: transitions to Gaussian factors, and the belief that is their product.

PEARL's q(m | c) (Rakelly et al. 2019, section 4) kept in natural parameters, so that it filters, with factors
that need not be diagonal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.networks.blocks import Gaussian, mlp

VARIANCE_FLOOR = 1e-7
# What one observation can say at most: m within that variance, and as far out as ten deviations of the prior.
LONGEST = VARIANCE_FLOOR**-0.5
LARGEST_VALUE = 10 * LONGEST


class Factors(NamedTuple):
    """Gaussian factors over m, each as R observations of it: y = U m + N(0, I).

    Of a factor, the precision is U^T U and the shift, precision times mean, U^T y. With R below M it tells
    nothing of some directions of m, which is what one transition of a task does: its reward rules out a
    surface of task variables, not a box of them.
    """

    directions: Tensor  # U (..., R, M)
    values: Tensor  # y (..., R)

    def bounded(self) -> Factors:
        """The same in double precision, but for observations that say more than any could.

        Those, of transitions unlike all in training, say what they say less surely. Or a few of them would
        take all digits of a precision, and the belief of other directions were lost in rounding.
        """
        directions, values = self.directions.double(), self.values.double()
        excess = (directions.norm(dim=-1) / LONGEST).clamp_min(1.0)
        values = (values / excess).clamp(-LARGEST_VALUE, LARGEST_VALUE)
        return Factors(directions / excess[..., None], values)


class TaskBelief(NamedTuple):
    """A product of Gaussian factors over m in natural parameters; adding a factor is adding to both.

    precision (B, M, M) = sum U_n^T U_n and shift (B, M) = sum U_n^T y_n, in double precision, for long
    trials add up. Precision zero is the empty product, which stands for the prior N(0, I).
    """

    precision: Tensor
    shift: Tensor

    @classmethod
    def prior(cls, batch: int, size: int, prior_factor: bool, device: torch.device) -> TaskBelief:
        """The belief of no context; with `prior_factor`, N(0, I) stays a factor of what follows."""
        eye = torch.eye(size, dtype=torch.float64, device=device)
        precision = float(prior_factor) * eye.expand(batch, size, size)
        return cls(precision, torch.zeros(batch, size, dtype=torch.float64, device=device))

    def update(self, factors: Factors, weight: Tensor | None = None) -> TaskBelief:
        """The belief after more factors, N of each row; weight (B, N) zero leaves a factor out.

        None counts for more than `Factors.bounded` lets it.
        """
        directions, values = factors.bounded()  # (B, N, R, M), (B, N, R)
        weighted = directions if weight is None else directions * weight[..., None, None]
        precision = weighted.flatten(1, 2).mT @ directions.flatten(1, 2)
        shift = (weighted * values[..., None]).sum((1, 2))
        return TaskBelief(self.precision + precision, self.shift + shift)

    def evidence(self, prior_factor: bool) -> TaskBelief:
        """The product of what was observed alone, without the factor N(0, I) of `prior`."""
        batch, size = self.shift.shape
        prior = TaskBelief.prior(batch, size, prior_factor, self.shift.device)
        return TaskBelief(self.precision - prior.precision, self.shift)

    @property
    def gaussian(self) -> Gaussian:
        """The belief's mean and standard deviation in each dimension, (B, M)."""
        root = self._root()
        return Gaussian(self._mean(root).float(), root.square().sum(-2).sqrt().float())

    def sample(self, noise: Tensor) -> Tensor:
        """One reparameterised m per row from standard normal noise (B, M)."""
        root = self._root()
        spread = (root.mT @ noise.double()[..., None])[..., 0]
        return (self._mean(root) + spread).float()

    def kl_to_prior(self) -> Tensor:
        """KL(belief || N(0, I)): (B,)."""
        root = self._root()
        log_det = -2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # of the precision
        trace = root.square().sum((-2, -1))  # of the covariance
        squared = self._mean(root).square().sum(-1)
        return (0.5 * (trace + squared + log_det - self.shift.shape[-1])).float()

    def _root(self) -> Tensor:
        """W (B, M, M), lower triangular, with covariance W^T W; not a number where there is none.

        Nothing here waits for the device or raises for a precision that is lost in rounding.
        """
        empty = (self.precision == 0).all(-1).all(-1)[:, None, None]
        eye = torch.eye(self.shift.shape[-1], dtype=torch.float64, device=self.shift.device)
        factor, failed = torch.linalg.cholesky_ex(torch.where(empty, eye, self.precision))
        root: Tensor = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        return torch.where(failed[:, None, None] == 0, root, torch.nan)

    def _mean(self, root: Tensor) -> Tensor:
        return (root.mT @ (root @ self.shift[..., None]))[..., 0]


class ContextEncoder(nn.Module):
    """One transition (f_t, a_t, r_t, f_{t+1}) to one Gaussian factor over m, of `rank` observations.

    Rank 0 is PEARL's factor: an independent Gaussian in each dimension, N(mu, s2) with s2 = softplus(raw).
    Without `sees_next`, f_{t+1} is not looked at.
    """

    def __init__(
        self,
        feature_size: int,
        action_size: int,
        task_size: int,
        hidden_size: int,
        rank: int,
        sees_next: bool = True,
    ) -> None:
        super().__init__()
        self.task_size, self.rank, self.sees_next = task_size, rank, sees_next
        inputs = (1 + sees_next) * feature_size + action_size + 1
        outputs = rank * (task_size + 1) if rank else 2 * task_size
        self.network = mlp((inputs, hidden_size, hidden_size, hidden_size, outputs), nn.ReLU)

    def forward(self, f: Tensor, a: Tensor, r: Tensor, f_next: Tensor) -> Factors:
        """The factors of transitions f, f_next (..., F), a (..., A), r (...)."""
        seen = f, a, r[..., None], *(f_next,) * self.sees_next
        output: Tensor = self.network(torch.cat(seen, -1))
        if not self.rank:
            mu, raw = output.chunk(2, -1)
            inverse_s = F.softplus(raw).clamp_min(VARIANCE_FLOOR).rsqrt()
            return Factors(torch.diag_embed(inverse_s), mu * inverse_s)
        directions, values = output.split((self.rank * self.task_size, self.rank), -1)
        return Factors(directions.unflatten(-1, (self.rank, self.task_size)), values)
