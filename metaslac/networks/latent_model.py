"""SLAC's two-layer latent variable model, its transitions conditioned on the task variable m.

Filtering posterior, prior and model loss; the image encoder is shared with the actor and lives outside.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaslac.config.sections import ModelConfig
from metaslac.networks.blocks import Gaussian, GaussianHead, gaussian_kl
from metaslac.networks.images import ImageDecoder, pixels

Metrics = dict[str, Tensor]


class Posterior(NamedTuple):
    """Samples of the filtering posterior and the z1 distributions they came from."""

    z1: Tensor  # (B, T, Z1)
    z2: Tensor  # (B, T, Z2)
    q_z1: Gaussian  # (B, T, Z1)

    @property
    def z(self) -> Tensor:
        """Both layers, (B, T, Z1 + Z2)."""
        return torch.cat((self.z1, self.z2), -1)


class LatentModel(nn.Module):
    """p(x_{1:T}, r_{1:T-1}, z_{1:T} | a_{1:T-1}, m) and q(z_{1:T} | f_{1:T}, a_{1:T-1}, m).

    The factorisation is SLAC's (Lee et al. 2019, section 5); every conditional with an action also
    takes m. Both z2 conditionals are the same modules in prior and posterior, so only z1 has a KL.
    With `task_size` 0 the model is SLAC itself.
    """

    def __init__(self, config: ModelConfig, image_size: int, action_size: int, task_size: int) -> None:
        super().__init__()
        z1, z2, hidden, step = config.z1_size, config.z2_size, config.hidden_size, action_size + task_size
        self.config = config
        self.decoder = ImageDecoder(image_size, config.base_depth, z1 + z2, config.convolution_init)
        self.z1_first_posterior = GaussianHead(config.feature_size, hidden, z1)
        self.z1_posterior = GaussianHead(config.feature_size + z2 + step, hidden, z1)
        self.z1_prior = GaussianHead(z2 + step, hidden, z1)
        self.z2_first = GaussianHead(z1, hidden, z2)
        self.z2_next = GaussianHead(z1 + z2 + step, hidden, z2)
        self.reward = GaussianHead(2 * (z1 + z2) + step, hidden, 1, config.reward_std_min)

    @property
    def latent_size(self) -> int:
        """Size of z_t, both layers."""
        return self.config.z1_size + self.config.z2_size

    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """Filter features into latents, one reparameterised sample a step.

        f (B, T, F); a (B, T-1, A), where a[:, t] leads from frame t to t+1; m (B, M); restart (B, T)
        bool, true where a step starts afresh (position 0 always does); noise (B, T, Z1 + Z2).
        """
        noise1, noise2 = noise.split((self.config.z1_size, self.config.z2_size), -1)
        first = self.z1_first_posterior(f)
        z1: list[Tensor] = []
        z2: list[Tensor] = []
        qs: list[Gaussian] = []
        for t in range(f.shape[1]):
            q = Gaussian(first.mean[:, t], first.std[:, t])
            if t:
                again = restart[:, t, None]
                q = choose(again, q, self.z1_posterior(f[:, t], z2[-1], a[:, t - 1], m))
            z1.append(q.sample(noise1[:, t]))
            p = self.z2_first(z1[-1])
            if t:
                p = choose(again, p, self.z2_next(z1[-1], z2[-1], a[:, t - 1], m))
            z2.append(p.sample(noise2[:, t]))
            qs.append(q)
        means, stds = (torch.stack(parts, 1) for parts in zip(*qs, strict=True))
        return Posterior(torch.stack(z1, 1), torch.stack(z2, 1), Gaussian(means, stds))

    def loss(
        self,
        frames: Tensor,
        a: Tensor,
        r: Tensor,
        m: Tensor,
        posterior: Posterior,
        restart: Tensor,
        valid: Tensor,
        cast_images: AbstractContextManager[None] | None = None,
    ) -> tuple[Tensor, Metrics]:
        """Negative ELBO of windows: summed over pixels, dimensions and time, mean over windows.

        frames uint8 (B, T, H, W, 3); a (B, T-1, A); r (B, T-1); m (B, M); restart and valid (B, T)
        bool. Steps that are not valid (padding before an episode) count for nothing. `cast_images` is
        entered to decode images, such as torch.autocast. Returns the loss and its parts, which are 0-d,
        detached and named like the columns of progress.csv.
        """
        with cast_images or nullcontext():
            image = self.image_loss(frames, posterior.z)
        image = (image * valid).sum(1).mean()
        prediction, parts = self.prediction_loss(a, r, m, posterior, restart, valid)
        return image + prediction, {"image": image.detach(), **parts}

    def prediction_loss(
        self, a: Tensor, r: Tensor, m: Tensor, posterior: Posterior, restart: Tensor, valid: Tensor
    ) -> tuple[Tensor, Metrics]:
        """The part of `loss` that m predicts, rewards and next latents; it needs no pixels and is cheap."""
        kl = gaussian_kl(posterior.q_z1, self.prior(a, m, posterior.z2, restart))
        reward = self.predict_reward(posterior.z, a, m).negative_log_likelihood(r)
        kl, reward = (kl * valid).sum(1).mean(), (reward * valid[:, :-1]).sum(1).mean()
        return self.config.reward_weight * reward + kl, {"reward": reward.detach(), "kl": kl.detach()}

    def prior(self, a: Tensor, m: Tensor, z2: Tensor, restart: Tensor) -> Gaussian:
        """p(z1_t | z2_{t-1}, a_{t-1}, m) at given z2 (B, T, Z2), all steps at once; N(0, I) at restarts."""
        steps = a.shape[1]
        p = self.z1_prior(z2[:, :-1], a, m[:, None].expand(-1, steps, -1))
        again = restart[:, 1:, None]
        mean, std = p.mean.masked_fill(again, 0.0), p.std.masked_fill(again, 1.0)
        first = mean.new_zeros(mean.shape[0], 1, mean.shape[2])
        return Gaussian(torch.cat((first, mean), 1), torch.cat((first + 1, std), 1))

    def image_loss(self, frames: Tensor, z: Tensor) -> Tensor:
        """-log p(x_t | z_t), summed over pixels: (B, T)."""
        variance = self.config.pixel_variance
        error: Tensor = (pixels(frames, z.dtype) - self.decoder(z)).square().sum((-3, -2, -1))
        constant = 0.5 * frames[0, 0].numel() * math.log(2 * math.pi * variance)
        return error / (2 * variance) + constant

    def predict_reward(self, z: Tensor, a: Tensor, m: Tensor) -> Gaussian:
        """p(r_t | z_t, a_t, z_{t+1}, m) for consecutive latents z (B, T, Z): (B, T-1)."""
        steps = a.shape[1]
        p = self.reward(z[:, :-1], a, z[:, 1:], m[:, None].expand(-1, steps, -1))
        mean, std = p.mean.squeeze(-1), p.std.squeeze(-1)
        fixed = self.config.reward_std
        return Gaussian(mean, torch.full_like(std, fixed) if fixed else std)


def choose(condition: Tensor, yes: Gaussian, no: Gaussian) -> Gaussian:
    """Element by element, the first Gaussian where the condition holds and the second elsewhere."""
    return Gaussian(torch.where(condition, yes.mean, no.mean), torch.where(condition, yes.std, no.std))
