"""All networks of the method, built from a configuration: what a checkpoint saves and an agent acts with.

How they learn is in learning/.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from metaslac.config.sections import Config
from metaslac.networks.actor_critic import Actor, TwinCritic
from metaslac.networks.blocks import ImageEncoder, mlp
from metaslac.networks.context_encoder import ContextEncoder
from metaslac.networks.inverse_model import InverseModel
from metaslac.networks.latent_model import LatentModel


class TaskParams(nn.Module):
    """What an oracle has for m: a learned function of the true task parameters, in place of a belief.

    It is trained as the context encoder is. Parameters given as they are would be drowned by the many
    numbers of z beside them, and of another width in each family.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_params: int, hidden: int, task_size: int) -> None:
        super().__init__()
        self.network = mlp((num_params, hidden, hidden, task_size), nn.ReLU)
        self.register_buffer("mean", torch.zeros(num_params))
        self.register_buffer("std", torch.ones(num_params))

    def fit(self, params: Tensor) -> None:
        """Standardise by the training tasks' params (N, P); one that never differs is only centred."""
        std = params.std(0, correction=0)
        self.mean.copy_(params.mean(0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, params: Tensor) -> Tensor:
        """m (..., M) of true parameters (..., P)."""
        m: Tensor = self.network((params - self.mean) / self.std)
        return m


class MetaSLAC(nn.Module):
    """Every network of the method, in one module, so that they are saved and counted together."""

    def __init__(self, config: Config, action_size: int, num_params: int) -> None:
        super().__init__()
        model, size, image_size = config.model, config.task.size, config.family.image_size
        hidden = config.actor_critic.hidden_size
        self.encoder = ImageEncoder(image_size, model.base_depth, model.feature_size)
        self.latent_model = LatentModel(model, image_size, action_size, size)
        self.inverse_model = (
            InverseModel(model.feature_size, action_size, model.hidden_size) if model.inverse_weight else None
        )
        self.context_encoder = ContextEncoder(
            model.feature_size, action_size, size, config.task.hidden_size, config.task.factor_rank
        )
        self.task_params = TaskParams(num_params, config.task.hidden_size, size)
        self.actor = Actor(model.window, model.feature_size, action_size, size, hidden)
        critic_sizes = self.latent_model.latent_size, action_size, size, hidden
        self.critic = TwinCritic(*critic_sizes, config.actor_critic.layer_norm)
        self.target_critic = TwinCritic(*critic_sizes, config.actor_critic.layer_norm)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(config.actor_critic.alpha_init)))

    def model_parameters(self) -> list[nn.Parameter]:
        """The weights that learn from images: encoder, latent model and, if there is one, inverse model."""
        parts = self.encoder, self.latent_model, self.inverse_model
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    def task_parameters(self, inference: str) -> list[nn.Parameter]:
        """The weights that make m: the oracle's, or those of inference."""
        maker = self.task_params if inference == "oracle" else self.context_encoder
        return list(maker.parameters())
