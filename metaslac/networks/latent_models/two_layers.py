"""Sequential models of two latent layers: SLAC, and the same with deltas in place of Gaussians.

What is carried from step to step is z2; both of its conditionals are the same modules in prior and posterior,
so that only z1 has a KL.
"""

from __future__ import annotations

from functools import partial

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
from metaslac.networks.latent_models.ensemble import Conditional, drawn_head, every_head

Head = type[GaussianHead] | type[DeltaHead]


class TwoLayers(LatentModel):
    """SLAC's factorisation (Lee et al. 2019, section 5), each layer's conditionals of one family.

    p(z1_1) = N(0, I), p(z2_1 | z1_1), p(z1_{t+1} | z2_t, a_t, m), p(z2_{t+1} | z1_{t+1}, z2_t, a_t, m);
    q(z1_1 | f_1), q(z1_{t+1} | f_{t+1}, z2_t, a_t, m). Deltas take no noise.
    """

    z1_head: Head
    z2_head: Head

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        z1, z2, hidden, step = config.z1_size, config.z2_size, config.hidden_size, action_size + task_size
        noisy = self.z1_head is GaussianHead, self.z2_head is GaussianHead
        super().__init__(config, image_size, (z1, z2), (z1 * noisy[0], z2 * noisy[1]))
        self.z1_first_posterior = self.z1_head(config.feature_size, hidden, z1)
        self.z1_posterior = self.z1_head(config.feature_size + z2 + step, hidden, z1)
        self.z1_prior: Conditional
        self.z1_prior = self.prediction_head(z2 + step, z1) if noisy[0] else DeltaHead(z2 + step, hidden, z1)
        self.z2_first = self.z2_head(z1, hidden, z2)
        self.z2_next = self.z2_head(z1 + z2 + step, hidden, z2)
        self.end_with_reward(step)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel: a filter, both layers step by step."""
        noise1, noise2 = noise.split(self.noise_sizes, -1)
        first: Distribution = self.z1_first_posterior(f)
        z1: list[Tensor] = []
        z2: list[Tensor] = []
        qs: list[Distribution] = []
        for t in range(f.shape[1]):
            q = at(first, t)
            if t:
                again = restart[:, t, None]
                q = choose(again, q, self.z1_posterior(f[:, t], z2[-1], a[:, t - 1], m))
            z1.append(q.sample(noise1[:, t]))
            p: Distribution = self.z2_first(z1[-1])
            if t:
                p = choose(again, p, self.z2_next(z1[-1], z2[-1], a[:, t - 1], m))
            z2.append(p.sample(noise2[:, t]))
            qs.append(q)
        return Posterior((torch.stack(z1, 1), torch.stack(z2, 1)), stacked(qs))

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """p(z1_t | z2_{t-1}, a_{t-1}, m); N(0, I) at restarts."""
        predict = partial(self.z1_given_past, posterior.heads)
        return prior_over_time(predict, posterior.layers[1], a, m, restart)

    def z1_given_past(self, heads: Tensor | None, *past: Tensor) -> Distribution:
        """p(z1_{t+1} | z2_t, a_t, m), (B, T, Z1), by the drawn ones of several heads."""
        return drawn_head(self.z1_prior, heads, *past)

    def predict(self, z: Tensor, a: Tensor, m: Tensor) -> Distribution:
        """p_k(z1_{t+1} | z2_t, a_t, m); a delta where nothing is sampled."""
        return every_head(self.z1_prior, z[:, self.sizes[0] :], a, m)

    def complete(self, first: Tensor, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """With a sample of p(z2_{t+1} | z1_{t+1}, z2_t, a_t, m); of a delta its value."""
        second = self.z2_next(first, z[:, self.sizes[0] :], a, m).sample(noise)
        return torch.cat((first, second), -1)


class SLAC(TwoLayers):
    """SLAC itself: every conditional is a Gaussian."""

    z1_head, z2_head = GaussianHead, GaussianHead


class PartiallyStochastic(TwoLayers):
    """Deltas for both conditionals of z2, near to PlaNet (Lee et al. 2019, the ablations)."""

    z1_head, z2_head = GaussianHead, DeltaHead


class Deterministic(TwoLayers):
    """Deltas for all but p(z1_{t+1} | z2_t, a_t, m) = N(mean, I) (Lee et al. 2019, the ablations).

    Its "KL" is -log p(z1): half the squared error of the next z1 and a constant. That unit of spread weighs
    the error and is no noise: nothing is sampled, and a roll-out takes the mean. No step that starts afresh
    has a "KL", as no step before it predicts it.
    """

    z1_head, z2_head = DeltaHead, DeltaHead

    def z1_given_past(self, heads: Tensor | None, *past: Tensor) -> Gaussian:
        """p(z1_{t+1} | z2_t, a_t, m), (B, T, Z1), of standard deviation 1."""
        mean = drawn_head(self.z1_prior, heads, *past).mean
        return Gaussian(mean, torch.ones_like(mean))

    def kl(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Tensor:
        """-log N(z1_t; prior mean, I), (B, T); 0 at restarts."""
        later = super().kl(posterior, a, m, restart)[:, 1:].masked_fill(restart[:, 1:], 0.0)
        return torch.cat((torch.zeros_like(later[:, :1]), later), 1)
