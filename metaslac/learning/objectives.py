"""The objectives of the method, each a function from tensors to a loss and its named parts.

Which networks a loss trains, and when, is the learner's business. Parts are 0-d, detached and named like the
columns of progress.csv. A loss may have a gradient with respect to m, if the m it is given has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metaslac.config.sections import ActorCriticConfig
from metaslac.learning.batch import Decisions, Filtered
from metaslac.learning.encoding import Encoding
from metaslac.networks.actor_critic import squash
from metaslac.networks.context_encoder import TaskBelief
from metaslac.networks.inverse_model import InverseModel
from metaslac.networks.latent_model import LatentModel, Metrics
from metaslac.networks.meta_slac import MetaSLAC


class Loss(NamedTuple):
    """What is descended, and what is told of it."""

    value: Tensor  # ()
    parts: Metrics


class Elbo:
    """The negative ELBO of windows: what pixels, rewards and next latents say of the latent model."""

    def __init__(self, model: LatentModel, encode: Encoding) -> None:
        self._model = model
        self._encode = encode  # whose precision images are decoded in as well

    def __call__(self, seen: Filtered) -> Loss:
        """Of B windows whose m may have a gradient; the filter has taken it as given."""
        frames, a, r, restart, valid, _ = seen.windows
        value, parts = self._model.loss(
            frames, a, r, seen.m, seen.posterior, restart, valid, self._encode.precision.cast_trained()
        )
        return Loss(value, {f"model/{name}": part for name, part in parts.items()})


class Inverse:
    """Which action led from one image to the next: it makes features tell how a body is posed."""

    def __init__(self, model: InverseModel, weight: float) -> None:
        self._model = model
        self._weight = weight

    def __call__(self, seen: Filtered) -> Loss:
        """Of the features of B windows."""
        value = self._model.loss(seen.f, seen.windows.a, seen.windows.valid)
        return Loss(self._weight * value, {"model/inverse": value.detach()})


def prediction(networks: MetaSLAC, seen: Filtered) -> Tensor:
    """The part of the negative ELBO that m predicts, rewards and next latents; it needs no pixels."""
    _, a, r, restart, valid, _ = seen.windows
    loss, _ = networks.latent_model.prediction_loss(a, r, seen.m, seen.posterior, restart, valid)
    return loss


def task_kl(belief: TaskBelief) -> Loss:
    """KL(q(m | c) || N(0, I)), mean over tasks (PEARL sums it)."""
    kl = belief.kl_to_prior().mean()
    return Loss(kl, {"task/kl": kl.detach(), "task/std": belief.gaussian.std.detach().mean()})


def soft_bellman(
    networks: MetaSLAC, config: ActorCriticConfig, decisions: Decisions, m: Tensor, noise: Tensor
) -> Loss:
    """0.5 (Q - target)^2, mean over decisions and summed over the critics.

    target = r + gamma (1 - terminated) (min Q'(z', a', m) - alpha log pi(a' | f, a, m)), a' from `noise`
    (B, A). Decisions are of B windows, m is (B, M).
    """
    fixed_m = m.detach()
    f, a, z, z_next, r, terminated = decisions
    with torch.no_grad():
        a_next, log_pi = squash(networks.actor(f[:, 1:], a[:, 1:], fixed_m), noise)
        value = networks.target_critic(z_next, a_next, fixed_m).amin(0)
        value = value - networks.log_alpha.exp() * log_pi
        target = config.reward_scale * r + config.gamma * ~terminated * value
    q = networks.critic(z, a[:, -1], m)
    loss = 0.5 * (q - target).square().mean(1).sum()
    return Loss(loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()})


def soft_policy(networks: MetaSLAC, decisions: Decisions, m: Tensor, noise: Tensor) -> tuple[Loss, Tensor]:
    """alpha log pi - min Q of actions drawn anew at the decisions, and the policy's entropy there, ()."""
    action, log_pi = squash(networks.actor(decisions.f[:, :-1], decisions.a[:, :-1], m), noise)
    value = networks.critic(decisions.z, action, m).amin(0)
    loss = (networks.log_alpha.detach().exp() * log_pi - value).mean()
    entropy = -log_pi.detach().mean()
    return Loss(loss, {"actor/loss": loss.detach(), "actor/entropy": entropy}), entropy


def temperature(log_alpha: Tensor, entropy: Tensor, target: float) -> Tensor:
    """Falls with alpha while the entropy is above its target, and rises with it below (SLAC's form)."""
    return log_alpha * (entropy - target)
