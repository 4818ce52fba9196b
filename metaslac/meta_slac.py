"""All networks of the method, built from a configuration: what a checkpoint saves and an agent acts with.

How they learn is in learner.py.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from metaslac.actor_critic import Actor, TwinCritic
from metaslac.config import Config
from metaslac.context_encoder import ContextEncoder
from metaslac.latent_model import LatentModel
from metaslac.networks import ImageEncoder


class MetaSLAC(nn.Module):
    """Every network of the method, in one module, so that they are saved and counted together."""

    def __init__(self, config: Config, action_size: int, num_params: int) -> None:
        super().__init__()
        model, size, image_size = config.model, task_size(config, num_params), config.family.image_size
        hidden = config.actor_critic.hidden_size
        self.encoder = ImageEncoder(image_size, model.base_depth, model.feature_size)
        self.latent_model = LatentModel(model, image_size, action_size, size)
        self.context_encoder = ContextEncoder(model.feature_size, action_size, size, config.task.hidden_size)
        self.actor = Actor(model.window, model.feature_size, action_size, size, hidden)
        self.critic = TwinCritic(self.latent_model.latent_size, action_size, size, hidden)
        self.target_critic = TwinCritic(self.latent_model.latent_size, action_size, size, hidden)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(config.actor_critic.alpha_init)))


def task_size(config: Config, num_params: int) -> int:
    """Size of m: the oracle's is the number of true parameters."""
    return num_params if config.task.inference == "oracle" else config.task.size
