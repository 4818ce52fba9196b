"""Which action led from one image feature to the next: an aid to the encoder, on top of SLAC's model.

A few pixels of a leg hardly count in the likelihood of a whole image, and features learn them late; but they
are what shows an action. Weighted by `model.inverse_weight`, and absent where that is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metaslac.networks.blocks import mlp


class InverseModel(nn.Module):
    """a_t from (f_t, f_{t+1}), as in inverse dynamics (Agrawal et al. 2016)."""

    def __init__(self, feature_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.network = mlp((2 * feature_size, hidden_size, action_size), nn.ReLU)

    def loss(self, f: Tensor, a: Tensor, valid: Tensor) -> Tensor:
        """Squared error summed over dimensions and time, mean over windows.

        f (B, T, F); a (B, T-1, A), where a[:, t] leads from frame t to t+1; valid (B, T) bool, padding
        counts for nothing.
        """
        predicted = self.network(torch.cat((f[:, :-1], f[:, 1:]), -1))
        error: Tensor = (predicted - a).square().sum(-1)
        return (error * valid[:, :-1]).sum(1).mean()
