"""What every latent model is, whatever its kind, and the loss that they share.

Which conditionals there are, and on what, is in the files of the kinds; the image encoder is shared with the
actor and lives outside.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaslac.config.sections import ModelConfig
from metaslac.networks.blocks import Gaussian, GaussianHead, of_one_number
from metaslac.networks.images import ImageDecoder, pixels
from metaslac.networks.latent_models.conditionals import Distribution, divergence
from metaslac.networks.latent_models.ensemble import GaussianHeads, of_head

Metrics = dict[str, Tensor]


class Posterior(NamedTuple):
    """Samples of the posterior, and the distributions that the first layer was drawn from."""

    layers: tuple[Tensor, ...]  # (B, T, size of the layer) each
    q: Distribution  # (B, T, size of the first layer)
    heads: Tensor | None = None  # (T-1,) which of an ensemble's heads predicts each step after the first

    @property
    def z(self) -> Tensor:
        """All layers, (B, T, Z)."""
        return torch.cat(self.layers, -1)


class LatentModel(nn.Module, ABC):
    """p(x_{1:T}, r_{1:T-1}, z_{1:T} | a_{1:T-1}, m) and q(z_{1:T} | f_{1:T}, a_{1:T-1}, m), of some kind.

    Every conditional with an action also takes m, and no other: with `task_size` 0 a kind is what SLAC
    (Lee et al. 2019) was compared with, or SLAC itself. A kind makes its conditionals after the decoder
    that is made here, and calls `end_with_reward` last: weights are drawn in that order, and optimisers
    of saved runs know parameters by it.

    Args:
        config: of the model.
        image_size: height and width of the frames.
        sizes: of the layers of z_t, which make up Z together.
        noise_sizes: how much noise each layer's sample takes; 0 for a layer that is a delta.
    """

    reward: GaussianHead

    def __init__(
        self, config: ModelConfig, image_size: int, sizes: Sequence[int], noise_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.config = config
        self.sizes, self.noise_sizes = tuple(sizes), tuple(noise_sizes)
        self.decoder = ImageDecoder(image_size, config.base_depth, self.latent_size, config.convolution_init)

    def prediction_head(self, inputs: int, outputs: int) -> GaussianHead | GaussianHeads:
        """A head for p of the next first layer, or as many as the configuration says."""
        config = self.config
        sizes = inputs, config.hidden_size, outputs
        if config.heads == 1:
            return GaussianHead(*sizes, config.prior_std_min)
        return GaussianHeads(config.heads, *sizes, config.prior_std_min)

    def end_with_reward(self, step: int) -> None:
        """Make p(r_t | z_t, a_t, z_{t+1}, m), where a_t and m have `step` numbers together."""
        config = self.config
        inputs = 2 * self.latent_size + step
        self.reward = GaussianHead(inputs, config.hidden_size, 1, config.reward_std_min)

    @property
    def latent_size(self) -> int:
        """Size Z of z_t, all layers."""
        return sum(self.sizes)

    @property
    def noise_size(self) -> int:
        """How much standard normal noise a sample of z_t takes."""
        return sum(self.noise_sizes)

    @abstractmethod
    def infer(self, f: Tensor, a: Tensor, m: Tensor, restart: Tensor, noise: Tensor) -> Posterior:
        """Features to latents, one reparameterised sample a step.

        f (B, T, F); a (B, T-1, A), where a[:, t] leads from frame t to t+1; m (B, M); restart (B, T)
        bool, true where a step starts afresh (position 0 always does); noise (B, T, noise_size).
        """

    @abstractmethod
    def prior(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Gaussian:
        """p of the first layer at every step (B, T, size), given the samples of the step before.

        With several heads it is at each step that of the one which the posterior names.
        """

    @abstractmethod
    def predict(self, z: Tensor, a: Tensor, m: Tensor) -> Distribution:
        """p_k of the next first layer by each of K heads, (K, B, size); z (B, Z), a (B, A), m (B, M)."""

    @abstractmethod
    def complete(self, first: Tensor, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """z_{t+1} (B, Z) of its first layer (B, size): further layers are sampled with the rest of the noise.

        z, a and m as of `predict`; noise (B, noise_size less what the first layer takes).
        """

    def advance(self, z: Tensor, a: Tensor, m: Tensor, noise: Tensor, head: Tensor | None = None) -> Tensor:
        """A sample of p(z_{t+1} | z_t, a_t, m), (B, Z).

        z (B, Z); a (B, A); m (B, M); noise (B, noise_size); head (), which one of several predicts: the
        first if none is said.
        """
        noise1, others = noise.tensor_split((self.noise_sizes[0],), -1)
        first = of_head(self.predict(z, a, m), head).sample(noise1)
        return self.complete(first, z, a, m, others)

    def kl(self, posterior: Posterior, a: Tensor, m: Tensor, restart: Tensor) -> Tensor:
        """KL(q || p) of the first layer, in nats: (B, T). Of further layers q and p are the same."""
        return divergence(posterior.q, self.prior(posterior, a, m, restart))

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
        kl = self.kl(posterior, a, m, restart)
        reward = self.predict_reward(posterior.z, a, m).negative_log_likelihood(r)
        kl, reward = (kl * valid).sum(1).mean(), (reward * valid[:, :-1]).sum(1).mean()
        return self.config.reward_weight * reward + kl, {"reward": reward.detach(), "kl": kl.detach()}

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
        return of_one_number(p, self.config.reward_std)
