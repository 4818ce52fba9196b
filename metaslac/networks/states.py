"""What stands where the image encoder does, for agents that see the simulator's state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StateEncoder(nn.Module):
    """States are their own features; nothing is learned."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, states: Tensor) -> Tensor:
        """States (..., S) as float32."""
        return states.to(torch.float32)
