"""All networks of the method, built from a configuration: what a checkpoint saves and an agent acts with.

How they learn is in learning/.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from metaslac.config.sections import Config
from metaslac.networks.actor_critic import Actor, Sight, TwinCritic
from metaslac.networks.blocks import Standardise, mlp
from metaslac.networks.context_encoder import ContextEncoder
from metaslac.networks.feature_heads import FeatureReward, InverseModel, LastAction, NextFeature
from metaslac.networks.images import ImageEncoder
from metaslac.networks.latent_models.make import make_latent_model
from metaslac.networks.states import StateEncoder
from metaslac.networks.task_prior import ContextReward, TaskPrior


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
        if not params.numel():  # tasks that nothing tells apart; torch warns that they have no spread
            return
        differs = params.amax(0) > params.amin(0)  # a mean is rounded, and so is the deviation from it
        std = params.std(0, correction=0)
        self.mean.copy_(torch.where(differs, params.mean(0), params[0]))
        self.std.copy_(torch.where(differs, std, torch.ones_like(std)))

    def forward(self, params: Tensor) -> Tensor:
        """m (..., M) of true parameters (..., P)."""
        m: Tensor = self.network((params - self.mean) / self.std)
        return m


class MetaSLAC(nn.Module):
    """Every network of the method, in one module, so that they are saved and counted together."""

    def __init__(self, config: Config, action_size: int, num_params: int, state_size: int = 0) -> None:
        super().__init__()
        model, actor_critic, family = config.model, config.actor_critic, config.family
        size, hidden = config.task.size, model.hidden_size
        f_size = feature_size(config, state_size)
        self.encoder: ImageEncoder | StateEncoder
        if config.on_states:
            self.encoder = StateEncoder(state_size)
        else:
            self.encoder = ImageEncoder(
                family.image_size,
                model.base_depth,
                f_size,
                family.frames,
                model.feature_norm,
                model.convolution_init,
            )
        self.latent_model = make_latent_model(model, family.image_size, action_size, size)
        latent_size = 0 if self.latent_model is None else self.latent_model.latent_size
        self.inverse_model = InverseModel(f_size, action_size, hidden) if model.inverse_weight else None
        self.last_action = LastAction(f_size, action_size, hidden) if model.last_action_weight else None
        self.next_feature = NextFeature(f_size, action_size, hidden) if model.contrast_weight else None
        self.feature_reward = (
            FeatureReward(f_size, action_size, size, model, actor_critic.task_scale)
            if model.feature_reward_weight
            else None
        )
        self.context_encoder = ContextEncoder(
            f_size,
            action_size,
            size,
            config.task.hidden_size,
            config.task.factor_rank,
            config.task.next_observation,
        )
        self.task_prior = make_task_prior(config, f_size, action_size) if config.learns_prior else None
        self.task_params = TaskParams(num_params, config.task.hidden_size, size)
        self.actor = Actor(model.window, f_size, action_size, size, actor_critic, latent_size)
        self.sight = Sight(actor_critic, model.window, f_size, action_size, latent_size, state_size)
        self.critic = TwinCritic(self.sight.size, action_size, size, actor_critic)
        self.target_critic = TwinCritic(self.sight.size, action_size, size, actor_critic)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(actor_critic.alpha_init)))

    @property
    def sees_latents(self) -> bool:
        """Whether actor or critics do."""
        return self.actor.of_latent or self.sight.of_latent

    def model_parameters(self) -> list[nn.Parameter]:
        """The weights that learn from images: encoder, latent model and heads on features."""
        parts = (
            self.encoder,
            self.latent_model,
            self.inverse_model,
            self.last_action,
            self.next_feature,
            self.feature_reward,
        )
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    def standardised(self) -> list[Standardise]:
        """All that inputs of actor and critics are standardised by."""
        parts = self.actor.standardise, self.sight.standardise, self.sight.standardise_state
        return [part for part in parts if part is not None]

    def task_parameters(self, inference: str) -> list[nn.Parameter]:
        """The weights that make m: the oracle's, or those of inference."""
        if inference == "oracle":
            return list(self.task_params.parameters())
        parts = self.context_encoder, self.task_prior
        return [parameter for part in parts if part is not None for parameter in part.parameters()]


def make_task_prior(config: Config, feature_size: int, action_size: int) -> TaskPrior:
    """What m is drawn among while acting, weighed by rewards if these are told."""
    task = config.task
    sizes = feature_size, action_size, task.size, task.hidden_size
    return TaskPrior(
        task.prior_beliefs, task.size, ContextReward(*sizes, task.reward_std) if task.reward_std else None
    )


def feature_size(config: Config, state_size: int) -> int:
    """Size of what actor, critics and context encoder see of a moment: an image feature, or the state."""
    return state_size if config.on_states else config.model.feature_size
