"""Sequential models of two latent layers: SLAC, and the same with deltas in place of Gaussians.

What is carried from step to step is z2; both of its conditionals are the same modules in prior and posterior,
so that only z1 has a KL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from metaslac.config.sections import ModelConfig
from metaslac.networks.blocks import Gaussian, GaussianHead
from metaslac.networks.latent_models.base import LatentModel, Posterior
from metaslac.networks.latent_models.conditionals import (
    DeltaHead,
    Distribution,
    at,
    choose,
    prior_over_time,
    stacked,
)


class SLAC(LatentModel):
    """SLAC's own factorisation (Lee et al. 2019, section 5); every conditional is a Gaussian.

    p(z1_1) = N(0, I), p(z2_1 | z1_1), p(z1_{t+1} | z2_t, a_t, m), p(z2_{t+1} | z1_{t+1}, z2_t, a_t, m);
    q(z1_1 | f_1), q(z1_{t+1} | f_{t+1}, z2_t, a_t, m).
    """

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        z1, z2, hidden, step = config.z1_size, config.z2_size, config.hidden_size, action_size + task_size
        super().__init__(config, image_size, (z1, z2), (z1, z2))
        self.z1_first_posterior = GaussianHead(config.feature_size, hidden, z1)
        self.z1_posterior = GaussianHead(config.feature_size + z2 + step, hidden, z1)
        self.z1_prior = GaussianHead(z2 + step, hidden, z1)
        self.z2_first = GaussianHead(z1, hidden, z2)
        self.z2_next = GaussianHead(z1 + z2 + step, hidden, z2)
        self.end_with_reward(step)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel: a filter."""
        return filtered(self, f, a, m, restart, noise)

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """p(z1_t | z2_{t-1}, a_{t-1}, m); N(0, I) at restarts."""
        return prior_over_time(self.z1_prior, posterior.layers[1], a, m, restart)

    def advance(self, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """As of LatentModel."""
        return advanced(self, z, a, m, noise)


class PartiallyStochastic(LatentModel):
    """SLAC with deltas for both conditionals of z2, near to PlaNet (Lee et al. 2019, the ablations)."""

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        z1, z2, hidden, step = config.z1_size, config.z2_size, config.hidden_size, action_size + task_size
        super().__init__(config, image_size, (z1, z2), (z1, 0))
        self.z1_first_posterior = GaussianHead(config.feature_size, hidden, z1)
        self.z1_posterior = GaussianHead(config.feature_size + z2 + step, hidden, z1)
        self.z1_prior = GaussianHead(z2 + step, hidden, z1)
        self.z2_first = DeltaHead(z1, hidden, z2)
        self.z2_next = DeltaHead(z1 + z2 + step, hidden, z2)
        self.end_with_reward(step)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel: a filter."""
        return filtered(self, f, a, m, restart, noise)

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """p(z1_t | z2_{t-1}, a_{t-1}, m); N(0, I) at restarts."""
        return prior_over_time(self.z1_prior, posterior.layers[1], a, m, restart)

    def advance(self, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """As of LatentModel."""
        return advanced(self, z, a, m, noise)


class Deterministic(LatentModel):
    """SLAC with deltas for all but p(z1_{t+1} | z2_t, a_t, m) = N(mean, I) (Lee et al. 2019, ablations).

    Its "KL" is -log p(z1): half the squared error of the next z1 and a constant. That unit of spread weighs
    the error and is no noise: nothing is sampled, and a roll-out takes the mean. No step that starts afresh
    has a "KL", as no step before it predicts it.
    """

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        z1, z2, hidden, step = config.z1_size, config.z2_size, config.hidden_size, action_size + task_size
        super().__init__(config, image_size, (z1, z2), (0, 0))
        self.z1_first_posterior = DeltaHead(config.feature_size, hidden, z1)
        self.z1_posterior = DeltaHead(config.feature_size + z2 + step, hidden, z1)
        self.z1_prior = DeltaHead(z2 + step, hidden, z1)
        self.z2_first = DeltaHead(z1, hidden, z2)
        self.z2_next = DeltaHead(z1 + z2 + step, hidden, z2)
        self.end_with_reward(step)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel: a filter; noise (B, T, 0)."""
        return filtered(self, f, a, m, restart, noise)

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """p(z1_t | z2_{t-1}, a_{t-1}, m), of standard deviation 1; N(0, I) at restarts."""
        return prior_over_time(self._around_mean, posterior.layers[1], a, m, restart)

    def advance(self, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """The mean of LatentModel's; noise (B, 0)."""
        return advanced(self, z, a, m, noise)

    def kl(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Tensor:
        """-log N(z1_t; prior mean, I), (B, T); 0 at restarts."""
        later = super().kl(posterior, a, m, restart)[:, 1:].masked_fill(restart[:, 1:], 0.0)
        return torch.cat((torch.zeros_like(later[:, :1]), later), 1)

    def _around_mean(self, *inputs: Tensor) -> Gaussian:
        mean = self.z1_prior(*inputs).mean
        return Gaussian(mean, torch.ones_like(mean))


class TwoLayers(Protocol):
    """The conditionals of z1 and z2, whichever distributions they give."""

    sizes: tuple[int, ...]
    noise_sizes: tuple[int, ...]

    @property
    def z1_first_posterior(self) -> Callable[..., Distribution]: ...
    @property
    def z1_posterior(self) -> Callable[..., Distribution]: ...
    @property
    def z1_prior(self) -> Callable[..., Distribution]: ...
    @property
    def z2_first(self) -> Callable[..., Distribution]: ...
    @property
    def z2_next(self) -> Callable[..., Distribution]: ...


def filtered(model: TwoLayers, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
    """Both layers, step by step: LatentModel.infer of any such model."""
    noise1, noise2 = noise.split(model.noise_sizes, -1)
    first = model.z1_first_posterior(f)
    z1: list[Tensor] = []
    z2: list[Tensor] = []
    qs: list[Distribution] = []
    for t in range(f.shape[1]):
        q = at(first, t)
        if t:
            again = restart[:, t, None]
            q = choose(again, q, model.z1_posterior(f[:, t], z2[-1], a[:, t - 1], m))
        z1.append(q.sample(noise1[:, t]))
        p = model.z2_first(z1[-1])
        if t:
            p = choose(again, p, model.z2_next(z1[-1], z2[-1], a[:, t - 1], m))
        z2.append(p.sample(noise2[:, t]))
        qs.append(q)
    return Posterior((torch.stack(z1, 1), torch.stack(z2, 1)), stacked(qs))


def advanced(model: TwoLayers, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
    """LatentModel.advance of any such model."""
    noise1, noise2 = noise.split(model.noise_sizes, -1)
    z2 = z[:, model.sizes[0] :]
    z1 = model.z1_prior(z2, a, m).sample(noise1)
    return torch.cat((z1, model.z2_next(z1, z2, a, m).sample(noise2)), -1)
