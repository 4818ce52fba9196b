"""Models whose latents know no time: each is inferred from its own frame alone.

No conditional of latents has an action in it, and so none has m: the task shows in the rewards alone, in
p(r_t | z_t, a_t, z_{t+1}, m). q of one frame does not take m either, as q(z1_1 | f_1) of SLAC does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metaslac.config.sections import ModelConfig
from metaslac.networks.blocks import Gaussian, GaussianHead
from metaslac.networks.latent_models.base import LatentModel, Posterior
from metaslac.networks.latent_models.conditionals import Distribution, standard_normal


class VAE(LatentModel):
    """SLAC's two layers without its sequence (Lee et al. 2019, the ablations).

    p(z1_t) = N(0, I), p(z2_t | z1_t), q(z1_t | f_t): every step as SLAC's first. Of prior and posterior
    z2 has the same conditional, so only z1 has a KL.
    """

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        z1, z2, hidden = config.z1_size, config.z2_size, config.hidden_size
        super().__init__(config, image_size, (z1, z2), (z1, z2))
        self.z1_posterior = GaussianHead(config.feature_size, hidden, z1)
        self.z2_given_z1 = GaussianHead(z1, hidden, z2)
        self.end_with_reward(action_size + task_size)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel, all steps at once; of f and noise alone."""
        noise1, noise2 = noise.split(self.noise_sizes, -1)
        q: Gaussian = self.z1_posterior(f)
        z1 = q.sample(noise1)
        return Posterior((z1, self.z2_given_z1(z1).sample(noise2)), q)

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """N(0, I) at every step."""
        return standard_normal(posterior.layers[0])

    def predict(self, z: Tensor, a: Tensor, m: Tensor) -> Distribution:
        """N(0, I), whatever came before."""
        return standard_normal(z[None, :, : self.sizes[0]])

    def complete(self, first: Tensor, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """With a sample of p(z2 | z1)."""
        return torch.cat((first, self.z2_given_z1(first).sample(noise)), -1)


class SimpleVAE(LatentModel):
    """One layer, of `model.z2_size` numbers: p(z_t) = N(0, I), q(z_t | f_t) (Lee et al. 2019, ablations)."""

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        size = config.z2_size
        super().__init__(config, image_size, (size,), (size,))
        self.z_posterior = GaussianHead(config.feature_size, config.hidden_size, size)
        self.end_with_reward(action_size + task_size)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel, all steps at once; of f and noise alone."""
        q: Gaussian = self.z_posterior(f)
        return Posterior((q.sample(noise),), q)

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """N(0, I) at every step."""
        return standard_normal(posterior.layers[0])

    def predict(self, z: Tensor, a: Tensor, m: Tensor) -> Distribution:
        """N(0, I), whatever came before."""
        return standard_normal(z[None])

    def complete(self, first: Tensor, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """The layer, which is the only one."""
        return first
