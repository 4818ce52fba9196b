"""The image encoder, on one picture or a stack of them, and the decoder."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.networks.blocks import LEAK, conv_depths, glorot_, glorot_of_4x4_, kernels

CONTRAST = 4.0  # by which differences of pictures are enlarged


class ImageEncoder(nn.Module):
    """Frames to features: stride-2 convolutions down to 4 x 4, then one linear layer.

    For 64 x 64, base depth 32 and one picture this is SLAC's compressor; its last 4 x 4 "valid" convolution
    is the same arithmetic as the linear layer here, and starts alike with `convolution_init`. Leaky ReLU
    after every layer, the last included, unless features are normalised (Ba et al. 2016): then that is last.

    Of a stack of k > 1 pictures, what convolutions take is the newest, centred, and the differences from one
    to the next: motion is a few pixels that change, and hardly seen beside those that do not.
    """

    def __init__(
        self,
        image_size: int,
        base_depth: int,
        feature_size: int,
        frames: int = 1,
        norm: bool = False,
        convolution_init: bool = False,
    ) -> None:
        super().__init__()
        self.frames, self.norm = frames, norm
        depths = conv_depths(image_size, base_depth)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2)
            for inputs, outputs, kernel in zip(
                (3 * frames, *depths[:-1]), depths, kernels(depths), strict=True
            )
        )
        self.linear = nn.Linear(16 * depths[-1], feature_size)
        self.apply(glorot_)
        if convolution_init:
            glorot_of_4x4_(self.linear, depths[-1], feature_size)

    def forward(self, frames: Tensor) -> Tensor:
        """Features (..., F) of pictures uint8 (..., H, W, 3) or stacks (..., k, H, W, 3), oldest first."""
        x = pixels(frames, self.linear.weight.dtype)
        if self.frames > 1:
            x = motion(x)
        shape = x.shape[:-3]
        x = x.flatten(0, -4).permute(0, 3, 1, 2)  # (N, channels, H, W), channels last in memory
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), LEAK, inplace=True)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 4 * 4 * C)
        f: Tensor = self.linear(x)
        f = F.layer_norm(f, f.shape[-1:]) if self.norm else F.leaky_relu(f, LEAK)
        return f.view(*shape, f.shape[-1])


class ImageDecoder(nn.Module):
    """Latents to the mean of p(x_t | z_t): the mirror image of ImageEncoder."""

    def __init__(
        self, image_size: int, base_depth: int, latent_size: int, convolution_init: bool = False
    ) -> None:
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
        if convolution_init:
            glorot_of_4x4_(self.linear, latent_size, depths[-1])

    def forward(self, z: Tensor) -> Tensor:
        """Pixel means (..., H, W, 3) for latents (..., Z)."""
        x: Tensor = F.leaky_relu(self.linear(z.flatten(0, -2)), LEAK)
        x = x.view(x.shape[0], 4, 4, -1).permute(0, 3, 1, 2)  # (N, C, 4, 4)
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), LEAK, inplace=True)
        means: Tensor = x.permute(0, 2, 3, 1).unflatten(0, z.shape[:-1])
        return means


def pixels(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 frames as floats in [0, 1]."""
    return frames.to(dtype).div_(255)


def motion(x: Tensor) -> Tensor:
    """Channels of stacks of pictures (..., k, H, W, 3) in [0, 1]: (..., H, W, 3 k).

    Differences from each to the next, oldest first, enlarged as they are small, and the newest, centred.
    """
    channels = [CONTRAST * (later - earlier) for earlier, later in pairwise(x.unbind(-4))]
    return torch.cat((*channels, x[..., -1, :, :, :] - 0.5), -1)
