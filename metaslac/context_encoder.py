"""Task inference: transitions to Gaussian factors, and the belief that is their product.

PEARL's q(m | c) (Rakelly et al. 2019, section 4), kept in natural parameters so that it filters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.networks import Gaussian, gaussian_kl, mlp

VARIANCE_FLOOR = 1e-7


class TaskBelief(NamedTuple):
    """A product of Gaussian factors over m in natural parameters; adding a factor is adding to both.

    precision (B, M) = sum 1 / s2_n and shift (B, M) = sum mu_n / s2_n. Precision zero is the empty
    product, which stands for the prior N(0, I).
    """

    precision: Tensor
    shift: Tensor

    @classmethod
    def prior(cls, batch: int, size: int, prior_factor: bool, device: torch.device) -> TaskBelief:
        """The belief of no context; with `prior_factor`, N(0, I) stays a factor of what follows."""
        precision = torch.full((batch, size), float(prior_factor), device=device)
        return cls(precision, torch.zeros_like(precision))

    def update(self, mu: Tensor, s2: Tensor, weight: Tensor | None = None) -> TaskBelief:
        """The belief after more factors, mu and s2 (B, N, M); weight (B, N) zero leaves a factor out."""
        precision = 1 / s2
        if weight is not None:
            precision = precision * weight[..., None]
        return TaskBelief(self.precision + precision.sum(1), self.shift + (mu * precision).sum(1))

    @property
    def gaussian(self) -> Gaussian:
        """The belief as mean and standard deviation, (B, M)."""
        empty = self.precision == 0
        precision = self.precision.masked_fill(empty, 1.0)
        return Gaussian(self.shift / precision, precision.rsqrt())

    def sample(self, noise: Tensor) -> Tensor:
        """One reparameterised m per row from standard normal noise (B, M)."""
        return self.gaussian.sample(noise)

    def kl_to_prior(self) -> Tensor:
        """KL(belief || N(0, I)), summed over dimensions: (B,)."""
        q = self.gaussian
        return gaussian_kl(q, Gaussian(torch.zeros_like(q.mean), torch.ones_like(q.std)))


class ContextEncoder(nn.Module):
    """One transition (f_t, a_t, r_t, f_{t+1}) to one Gaussian factor over m."""

    def __init__(self, feature_size: int, action_size: int, task_size: int, hidden_size: int) -> None:
        super().__init__()
        inputs = 2 * feature_size + action_size + 1
        self.network = mlp((inputs, hidden_size, hidden_size, hidden_size, 2 * task_size), nn.ReLU)

    def forward(self, f: Tensor, a: Tensor, r: Tensor, f_next: Tensor) -> tuple[Tensor, Tensor]:
        """mu_n and s2_n, both (..., M), of transitions f, f_next (..., F), a (..., A), r (...)."""
        mu, raw = self.network(torch.cat((f, a, r[..., None], f_next), -1)).chunk(2, -1)
        return mu, F.softplus(raw).clamp_min(VARIANCE_FLOOR)
