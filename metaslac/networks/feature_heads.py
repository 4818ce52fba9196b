"""What image features are taught to tell, besides what the latent model asks of them: aids to the encoder.

A few pixels of a leg hardly count in the likelihood of a whole image, and features learn them late; but they
are what shows an action and earns a reward. Each head is there if its weight in `model.*` is not 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.config.sections import ModelConfig
from metaslac.networks.blocks import Gaussian, GaussianHead, mlp, of_one_number

TEMPERATURE = 0.1  # of contrasts between features of unit length


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


class LastAction(nn.Module):
    """a_t from f_{t+1} alone, of which stacked pictures show what it did."""

    def __init__(self, feature_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.network = mlp((feature_size, hidden_size, action_size), nn.ReLU)

    def loss(self, f: Tensor, a: Tensor, valid: Tensor) -> Tensor:
        """As of InverseModel."""
        error: Tensor = (self.network(f[:, 1:]) - a).square().sum(-1)
        return (error * valid[:, :-1]).sum(1).mean()


class NextFeature(nn.Module):
    """Which of a batch's features follows (f_t, a_t): contrastive prediction (van den Oord et al. 2018)."""

    def __init__(self, feature_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.network = mlp((feature_size + action_size, hidden_size, feature_size), nn.ReLU)

    def loss(
        self,
        f: Tensor,
        a: Tensor,
        valid: Tensor,
        gather: Callable[[Tensor], tuple[Tensor, int]] = lambda rows: (rows, 0),
    ) -> Tensor:
        """InfoNCE in nats, mean over the last transitions of windows, told apart from one another.

        As of InverseModel; a window's last transition is never padding. `gather` gives rows of the
        whole batch for those that this process has of it, and where these begin.
        """
        predicted = F.normalize(self.network(torch.cat((f[:, -2], a[:, -1]), -1)), dim=-1)
        following, first = gather(F.normalize(f[:, -1], dim=-1))
        similarity = predicted @ following.T
        return F.cross_entropy(similarity / TEMPERATURE, torch.arange(first, first + len(f), device=f.device))


class FeatureReward(nn.Module):
    """p(r_t | f_t, a_t, f_{t+1}, m), a Gaussian: what m is about, told from features."""

    def __init__(
        self, feature_size: int, action_size: int, task_size: int, config: ModelConfig, task_scale: float
    ) -> None:
        super().__init__()
        self.std = config.reward_std  # 0: learned
        self.task_scale = task_scale
        self.head = GaussianHead(
            2 * feature_size + action_size + task_size, config.hidden_size, 1, config.reward_std_min
        )

    def forward(self, f: Tensor, a: Tensor, m: Tensor) -> Gaussian:
        """Of windows f (B, T, F) and a (B, T-1, A), m (B, M): (B, T-1)."""
        m = self.task_scale * m[:, None].expand(-1, a.shape[1], -1)
        return of_one_number(self.head(f[:, :-1], a, f[:, 1:], m), self.std)

    def loss(self, f: Tensor, a: Tensor, r: Tensor, m: Tensor, valid: Tensor) -> Tensor:
        """-log p(r), summed over time and mean over windows; r (B, T-1), valid (B, T) bool."""
        error: Tensor = self(f, a, m).negative_log_likelihood(r)
        return (error * valid[:, :-1]).sum(1).mean()
