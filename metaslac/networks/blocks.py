"""Building blocks: multilayer perceptron, Gaussian head, the shapes of convolutions, standardisation.

What they are combined into lives in the other files of this room.
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


def of_one_number(p: Gaussian, std: float) -> Gaussian:
    """A Gaussian (..., 1) as one (...), of a fixed standard deviation; of its own where that is 0."""
    mean, own = p.mean.squeeze(-1), p.std.squeeze(-1)
    return Gaussian(mean, torch.full_like(own, std) if std else own)


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


def glorot_of_4x4_(layer: nn.Linear, inputs: int, outputs: int) -> None:
    """Glorot-uniform weights of a 4 x 4 convolution of so many channels, for a layer that amounts to it."""
    bound = math.sqrt(6 / (16 * (inputs + outputs)))
    nn.init.uniform_(layer.weight, -bound, bound)


class Standardise(nn.Module):
    """Entries less their mean, over their standard deviation, both of all that was taken in so far.

    They are a checkpoint's: merged exactly, batch by batch (Chan et al. 1983), so that what was taken in
    together or one after the other makes no difference but rounding.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))  # of deviations, summed

    def forget(self) -> None:
        """Go back to nothing taken in."""
        for part in (self.count, self.mean, self.squares):
            part.zero_()

    @torch.no_grad()
    def take_in(self, values: Tensor) -> None:
        """More values, (..., size)."""
        self.merge(*moments(values))

    @torch.no_grad()
    def merge(self, n: float, mean: Tensor, squares: Tensor) -> None:
        """More values, by their moments."""
        total, apart = self.count + n, mean - self.mean
        self.squares += squares + apart.square() * self.count * n / total
        self.mean += apart * n / total
        self.count.copy_(total)

    def forward(self, values: Tensor) -> Tensor:
        """Values (..., size) standardised; as they are before anything was taken in."""
        std = (self.squares / self.count.clamp_min(1)).sqrt()
        std = torch.where(std > 1e-6, std, torch.ones_like(std))  # nothing is made of what never differs
        return (values - self.mean.to(values)) / std.to(values)


@torch.no_grad()
def moments(values: Tensor) -> tuple[float, Tensor, Tensor]:
    """How many values (..., size) there are, their mean and their squared deviations from it, summed."""
    values = values.flatten(0, -2).double()
    mean = values.mean(0)
    return len(values), mean, (values - mean).square().sum(0)
