"""Frames to features in the precision of the run, with and without gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from metaslac.learning.precision import Precision
from metaslac.networks.images import ImageEncoder
from metaslac.networks.states import StateEncoder


class Encoding:
    """The image encoder as an update uses it; features are float32 in any case."""

    def __init__(self, encoder: ImageEncoder | StateEncoder, precision: Precision) -> None:
        self.precision = precision
        self._encoder = encoder

    def trained(self, frames: Tensor) -> Tensor:
        """Features (..., F) of frames uint8 (..., H, W, 3), or of stacks of them, with gradient."""
        with self.precision.cast_trained():
            f: Tensor = self._encoder(frames)
        return f.float()

    @torch.no_grad()
    def fixed(self, frames: Tensor) -> Tensor:
        """The same without gradient."""
        with self.precision.cast_fixed():
            f: Tensor = self._encoder(frames)
        return f.float()
