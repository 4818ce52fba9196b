"""The actor on the history of features and the twin critics on latents, both conditioned on m.

Their losses are in learning/; the history that the actor sees is built here, for acting and training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.networks.blocks import Gaussian, mlp

LOG_STD_RANGE = (-20.0, 2.0)


class Actor(nn.Module):
    """pi(a_t | f_{t-L+1..t}, a_{t-L+1..t-1}, m), a tanh-squashed Gaussian on [-1, 1]^A."""

    def __init__(self, window: int, feature_size: int, action_size: int, task_size: int, hidden: int) -> None:
        super().__init__()
        inputs = window * feature_size + (window - 1) * action_size + task_size
        self.network = mlp((inputs, hidden, hidden, 2 * action_size), nn.ReLU)

    def forward(self, f: Tensor, a: Tensor, m: Tensor) -> Gaussian:
        """The Gaussian before the tanh, (B, A); f (B, L, F) and a (B, L-1, A) in order of time, m (B, M)."""
        history = torch.cat((f.flatten(1), a.flatten(1), m), -1)
        mean, log_std = self.network(history).chunk(2, -1)
        return Gaussian(mean, log_std.clamp(*LOG_STD_RANGE).exp())


def squash(distribution: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A tanh-squashed sample (B, A) and its log-probability (B,), from standard normal noise (B, A).

    log(1 - tanh(u)^2) in the form 2 (log 2 - u - softplus(-2u)), which does not saturate.
    """
    u = distribution.sample(noise)
    log_derivative = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return u.tanh(), -(distribution.negative_log_likelihood(u) + log_derivative).sum(-1)


class TwinCritic(nn.Module):
    """Q1 and Q2 of (z_t, a_t, m).

    With layer normalisation (Ball et al. 2023), values cannot grow without bound outside the data.
    Without it, which is SLAC's and PEARL's way, they can fall everywhere at once, and the actor flees to
    where they have not fallen yet.
    """

    def __init__(
        self, latent_size: int, action_size: int, task_size: int, hidden: int, layer_norm: bool = True
    ) -> None:
        super().__init__()
        sizes = (latent_size + action_size + task_size, hidden, hidden, 1)
        self.q1 = mlp(sizes, nn.ReLU, layer_norm)
        self.q2 = mlp(sizes, nn.ReLU, layer_norm)

    def forward(self, z: Tensor, a: Tensor, m: Tensor) -> Tensor:
        """Both values, (2, B); z (B, Z), a (B, A), m (B, M)."""
        x = torch.cat((z, a, m), -1)
        return torch.stack((self.q1(x).squeeze(-1), self.q2(x).squeeze(-1)))


class History:
    """The last L features and L-1 actions of every slot, padded as in training windows.

    Before an episode's first frame stand that frame's feature and zero actions.
    """

    def __init__(self, window: int, action_size: int) -> None:
        self.window = window
        self.action_size = action_size

    def begin(self, f: Tensor) -> None:
        """Start an episode on every slot with the features (N, F) of its first frames."""
        self.f = f[:, None].repeat(1, self.window, 1)
        self.a = f.new_zeros(f.shape[0], self.window - 1, self.action_size)

    def append(self, a: Tensor, f_next: Tensor) -> None:
        """Move on by one step: the action taken (N, A) and the feature it led to (N, F)."""
        self.a = torch.cat((self.a, a[:, None]), 1)[:, 1:]
        self.f = torch.cat((self.f[:, 1:], f_next[:, None]), 1)
