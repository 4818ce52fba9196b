"""Building blocks: multilayer perceptron, Gaussian head, image encoder and decoder.

What they are combined into lives in latent_model.py, context_encoder.py and actor_critic.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2
STD_FLOOR = 1e-5


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and standard deviation, any shape."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterised sample that standard normal `noise` of the same shape gives."""
        return self.mean + self.std * noise

    def negative_log_likelihood(self, value: Tensor) -> Tensor:
        """-log N(value; mean, std^2), element by element."""
        return 0.5 * ((value - self.mean) / self.std) ** 2 + self.std.log() + 0.5 * math.log(2 * math.pi)


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p), summed over the last dimension."""
    ratio = (q.std / p.std) ** 2
    return 0.5 * (ratio + ((q.mean - p.mean) / p.std) ** 2 - 1 - ratio.log()).sum(-1)


def mlp(sizes: Sequence[int], activation: type[nn.Module], layer_norm: bool = False) -> nn.Sequential:
    """Linear layers of the given sizes with the activation between them, none after the last.

    With `layer_norm`, what goes into an activation is normalised first.
    """
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        if index:
            layers += [nn.LayerNorm(inputs), activation()] if layer_norm else [activation()]
        with warnings.catch_warnings():  # a layer without outputs, as for a task variable of size 0, is meant
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            layers.append(nn.Linear(inputs, outputs))
    network = nn.Sequential(*layers)
    network.apply(glorot_)
    return network


class LeakyReLU(nn.LeakyReLU):
    """SLAC's activation: slope 0.2 below zero."""

    def __init__(self) -> None:
        super().__init__(LEAK)


class GaussianHead(nn.Module):
    """An MLP with two hidden layers to a diagonal Gaussian, std = softplus(raw) + 1e-5 (SLAC)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, std_floor: float = STD_FLOOR) -> None:
        super().__init__()
        self.std_floor = std_floor
        self.network = mlp((inputs, hidden, hidden, 2 * outputs), LeakyReLU)

    def forward(self, *inputs: Tensor) -> Gaussian:
        """The Gaussian given the inputs, concatenated along their last dimension."""
        mean, raw = self.network(torch.cat(inputs, -1)).chunk(2, -1)
        return Gaussian(mean, F.softplus(raw) + self.std_floor)


class ImageEncoder(nn.Module):
    """Frames to features: stride-2 convolutions down to 4 x 4, then one linear layer.

    For 64 x 64 and base depth 32 this is SLAC's compressor; its last 4 x 4 "valid" convolution is
    the same arithmetic as the linear layer here. Leaky ReLU after every layer, the last included.
    """

    def __init__(self, image_size: int, base_depth: int, feature_size: int) -> None:
        super().__init__()
        depths = conv_depths(image_size, base_depth)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2)
            for inputs, outputs, kernel in zip((3, *depths[:-1]), depths, kernels(depths), strict=True)
        )
        self.linear = nn.Linear(16 * depths[-1], feature_size)
        self.apply(glorot_)

    def forward(self, frames: Tensor) -> Tensor:
        """Features (..., F) of frames uint8 (..., H, W, 3)."""
        x = pixels(frames, self.linear.weight.dtype).flatten(0, -4)
        x = x.permute(0, 3, 1, 2)  # (N, 3, H, W), channels last in memory
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), LEAK, inplace=True)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 4 * 4 * C)
        f: Tensor = F.leaky_relu(self.linear(x), LEAK)
        return f.view(*frames.shape[:-3], f.shape[-1])


class ImageDecoder(nn.Module):
    """Latents to the mean of p(x_t | z_t): the mirror image of ImageEncoder."""

    def __init__(self, image_size: int, base_depth: int, latent_size: int) -> None:
        super().__init__()
        depths = conv_depths(image_size, base_depth)
        self.linear = nn.Linear(latent_size, 16 * depths[-1])
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, output_padding=1)
            for inputs, outputs, kernel in zip(
                depths[::-1], (*depths[-2::-1], 3), kernels(depths)[::-1], strict=True
            )
        )
        self.apply(glorot_)

    def forward(self, z: Tensor) -> Tensor:
        """Pixel means (..., H, W, 3) for latents (..., Z)."""
        x: Tensor = F.leaky_relu(self.linear(z.flatten(0, -2)), LEAK)
        x = x.view(x.shape[0], 4, 4, -1).permute(0, 3, 1, 2)  # (N, C, 4, 4)
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), LEAK, inplace=True)
        return x.permute(0, 2, 3, 1).unflatten(0, z.shape[:-1])  # type: ignore[no-any-return]


def pixels(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 frames as floats in [0, 1]."""
    return frames.to(dtype).div_(255)


def conv_depths(image_size: int, base_depth: int) -> tuple[int, ...]:
    """Output channels of the stride-2 convolutions that take an image down to 4 x 4."""
    return tuple(base_depth * 2**level for level in range((image_size // 4).bit_length() - 1))


def kernels(depths: Sequence[int]) -> tuple[int, ...]:
    """SLAC's kernel sizes: 5 next to the pixels, 3 elsewhere."""
    return (5, *(3 for _ in depths[1:]))


def glorot_(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, as in SLAC."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
