"""A sequential model of one latent layer, SLAC's "simple filtering".

Those without a sequence are in vae.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from metaslac.config.sections import ModelConfig
from metaslac.networks.blocks import Gaussian, GaussianHead
from metaslac.networks.latent_models.base import LatentModel, Posterior
from metaslac.networks.latent_models.conditionals import Distribution, at, choose, prior_over_time, stacked
from metaslac.networks.latent_models.ensemble import drawn_head, every_head


class Filtering(LatentModel):
    """z_t in one piece, of `model.z2_size` numbers (Lee et al. 2019, the ablations); all of it has a KL.

    p(z_1) = N(0, I), p(z_{t+1} | z_t, a_t, m); q(z_1 | f_1), q(z_{t+1} | f_{t+1}, z_t, a_t, m).
    """

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        size, hidden, step = config.z2_size, config.hidden_size, action_size + task_size
        super().__init__(config, image_size, (size,), (size,))
        self.z_first_posterior = GaussianHead(config.feature_size, hidden, size)
        self.z_posterior = GaussianHead(config.feature_size + size + step, hidden, size)
        self.z_prior = self.prediction_head(size + step, size)
        self.end_with_reward(step)

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """As of LatentModel: a filter."""
        first: Distribution = self.z_first_posterior(f)
        z: list[Tensor] = []
        qs: list[Distribution] = []
        for t in range(f.shape[1]):
            q = at(first, t)
            if t:
                q = choose(restart[:, t, None], q, self.z_posterior(f[:, t], z[-1], a[:, t - 1], m))
            z.append(q.sample(noise[:, t]))
            qs.append(q)
        return Posterior((torch.stack(z, 1),), stacked(qs))

    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """p(z_t | z_{t-1}, a_{t-1}, m); N(0, I) at restarts."""
        predict = partial(drawn_head, self.z_prior, posterior.heads)
        return prior_over_time(predict, posterior.layers[0], a, m, restart)

    def predict(self, z: Tensor, a: Tensor, m: Tensor) -> Distribution:
        """p_k(z_{t+1} | z_t, a_t, m)."""
        return every_head(self.z_prior, z, a, m)

    def complete(self, first: Tensor, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """The layer, which is the only one."""
        return first
