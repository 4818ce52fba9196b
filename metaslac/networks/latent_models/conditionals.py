"""What the conditionals of a latent model give, Gaussians or deltas, and how those of time steps go together.

Gaussians themselves are in blocks.py; which conditionals there are is a kind's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaslac.networks.blocks import Gaussian, LeakyReLU, gaussian_kl, mlp


class Delta(NamedTuple):
    """All probability on one value, any shape."""

    mean: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """That value, whatever the noise."""
        return self.mean


Distribution = Gaussian | Delta


class DeltaHead(nn.Module):
    """An MLP like that of a GaussianHead, to a value that has no spread."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.network = mlp((inputs, hidden, hidden, outputs), LeakyReLU)

    def forward(self, *inputs: Tensor) -> Delta:
        """The value given the inputs, concatenated along their last dimension."""
        return Delta(self.network(torch.cat(inputs, -1)))


def divergence(q: Distribution, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, summed over the last dimension.

    Of a delta it is -log p at its value: what is left without its own entropy, which no weight changes.
    """
    if isinstance(q, Delta):
        return p.negative_log_likelihood(q.mean).sum(-1)
    return gaussian_kl(q, p)


def choose(condition: Tensor, yes: Distribution, no: Distribution) -> Distribution:
    """Element by element, the first distribution where the condition holds and the second elsewhere."""
    return type(yes)(*(torch.where(condition, one, other) for one, other in zip(yes, no, strict=True)))


def at(distributions: Distribution, t: int) -> Distribution:
    """Those of one time step, of all (B, T, size)."""
    return type(distributions)(*(part[:, t] for part in distributions))


def stacked(steps: Sequence[Distribution]) -> Distribution:
    """Distributions (B, size) of T steps as one (B, T, size)."""
    return type(steps[0])(*(torch.stack(parts, 1) for parts in zip(*steps, strict=True)))


def standard_normal(like: Tensor) -> Gaussian:
    """N(0, I), of a tensor's shape."""
    return Gaussian(torch.zeros_like(like), torch.ones_like(like))


def prior_over_time(
    conditional: Callable[..., Distribution], carried: Tensor, a: Tensor, m: Tensor, restart: Tensor
) -> Gaussian:
    """p(. | what is carried over from t-1, a_{t-1}, m), all steps at once (B, T, size); N(0, I) at restarts.

    carried (B, T, C) of every step; a, m and restart as of LatentModel.infer.
    """
    steps = a.shape[1]
    p = conditional(carried[:, :-1], a, m[:, None].expand(-1, steps, -1))
    assert isinstance(p, Gaussian)
    again = restart[:, 1:, None]
    mean, std = p.mean.masked_fill(again, 0.0), p.std.masked_fill(again, 1.0)
    first = mean.new_zeros(mean.shape[0], 1, mean.shape[2])
    return Gaussian(torch.cat((first, mean), 1), torch.cat((first + 1, std), 1))
