"""The objectives of the method, each a function from tensors to a loss and its named parts.

Which networks a loss trains, and when, is the learner's business. Parts are 0-d, detached and named like the
columns of progress.csv. A loss may have a gradient with respect to m, if the m it is given has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metaslac.config.sections import ActorCriticConfig, Config, ModelConfig
from metaslac.learning.batch import Decisions, Seen
from metaslac.learning.encoding import Encoding
from metaslac.networks.actor_critic import log_density
from metaslac.networks.blocks import Gaussian
from metaslac.networks.context_encoder import TaskBelief
from metaslac.networks.feature_heads import FeatureReward
from metaslac.networks.latent_models.base import LatentModel, Metrics
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.ranks.sharding import WHOLE, Shard, rows_of_all

SMALLEST = 1e-6  # mean of |Q| that is divided by


class Loss(NamedTuple):
    """What is descended, and what is told of it."""

    value: Tensor  # ()
    parts: Metrics


class Elbo:
    """The negative ELBO of windows: what pixels, rewards and next latents say of the latent model."""

    def __init__(self, model: LatentModel, weight: float, encode: Encoding) -> None:
        self._model = model
        self._weight = weight
        self._encode = encode  # whose precision images are decoded in as well

    def __call__(self, seen: Seen) -> Loss:
        """Of B windows whose m may have a gradient; the filter has taken it as given.

        Of a stack of pictures the newest is what a latent has to show: those before it are the newest of
        frames before, which latents before have to show.
        """
        windows, posterior = seen.windows, seen.posterior
        assert posterior is not None and windows.frames is not None
        frames = windows.frames if windows.frames.dim() == 5 else windows.frames[:, :, -1]
        value, parts = self._model.loss(
            frames,
            windows.a,
            windows.r,
            seen.m,
            posterior,
            windows.restart,
            windows.valid,
            self._encode.precision.cast_trained(),
        )
        return Loss(self._weight * value, {f"model/{name}": part for name, part in parts.items()})


class Head:
    """What features of windows tell of the actions between them, or of what comes next."""

    def __init__(self, name: str, loss: Callable[[Tensor, Tensor, Tensor], Tensor], weight: float) -> None:
        self._name = name
        self._loss = loss
        self._weight = weight

    def __call__(self, seen: Seen) -> Loss:
        """Of the features of B windows."""
        value = self._loss(seen.f, seen.windows.a, seen.windows.valid)
        return Loss(self._weight * value, {f"model/{self._name}": value.detach()})


class RewardFromFeatures:
    """The rewards that features and m tell."""

    def __init__(self, head: FeatureReward, weight: float) -> None:
        self._head = head
        self._weight = weight

    def __call__(self, seen: Seen) -> Loss:
        """Of B windows whose m may have a gradient."""
        windows = seen.windows
        value = self._head.loss(seen.f, windows.a, windows.r, seen.m, windows.valid)
        return Loss(self._weight * value, {"model/feature_reward": value.detach()})


Objective = Callable[[Seen], Loss]


def model_objectives(
    networks: MetaSLAC, config: Config, encode: Encoding, shard: Shard = WHOLE
) -> list[Objective]:
    """All that encoder and latent model learn from, by the weights that are not 0."""
    model = config.model
    objectives: list[Objective] = []
    if networks.latent_model is not None:
        objectives.append(Elbo(networks.latent_model, model.elbo_weight, encode))
    if networks.inverse_model is not None:
        objectives.append(Head("inverse", networks.inverse_model.loss, model.inverse_weight))
    if networks.last_action is not None:
        objectives.append(Head("last_action", networks.last_action.loss, model.last_action_weight))
    if networks.next_feature is not None:
        everyone = partial(rows_of_all, shard, shard.share(config.train.tasks_per_update))
        loss = partial(networks.next_feature.loss, gather=everyone)
        objectives.append(Head("contrast", loss, model.contrast_weight))
    reward = reward_from_features(networks, model)
    return objectives if reward is None else [*objectives, reward]


def reward_from_features(networks: MetaSLAC, config: ModelConfig) -> Objective | None:
    """Rewards told from features and m, if that has a weight."""
    head = networks.feature_reward
    return None if head is None else RewardFromFeatures(head, config.feature_reward_weight)


def prediction(model: LatentModel, seen: Seen) -> Tensor:
    """The part of the weighted negative ELBO that m predicts, rewards and next latents, without pixels."""
    windows, posterior = seen.windows, seen.posterior
    assert posterior is not None
    loss, _ = model.prediction_loss(windows.a, windows.r, seen.m, posterior, windows.restart, windows.valid)
    return model.config.elbo_weight * loss


def task_kl(belief: TaskBelief) -> Loss:
    """KL(q(m | c) || N(0, I)), mean over tasks (PEARL sums it)."""
    kl = belief.kl_to_prior().mean()
    return Loss(kl, {"task/kl": kl.detach(), "task/std": belief.gaussian.std.detach().mean()})


def soft_bellman(
    networks: MetaSLAC, config: ActorCriticConfig, decisions: Decisions, m: Tensor, noise: Tensor
) -> Loss:
    """0.5 (Q - target)^2, mean over decisions and summed over the critics.

    target = r + gamma (1 - terminated) (min Q'(s', a', m) - alpha log pi(a' | o', m)), a' from `noise`
    (B, A), s what critics see, o what the actor does. Decisions are of B windows, m is (B, M).
    """
    fixed_m, d = m.detach(), decisions
    with torch.no_grad():
        policy = networks.actor(d.f[:, 1:], d.a[:, 1:], fixed_m, d.z_next)
        a_next, log_pi = networks.actor.decide(policy, noise)
        seen_next = networks.sight(d.z_next, d.f[:, 1:], d.a[:, 1:], d.state_next)
        value = networks.target_critic(seen_next, a_next, fixed_m).amin(0)
        value = value - networks.log_alpha.exp() * log_pi
        target = config.reward_scale * d.r + config.gamma * ~d.terminated * value
    q = networks.critic(networks.sight(d.z, d.f[:, :-1], d.a[:, :-1], d.state), d.a[:, -1], m)
    loss = 0.5 * (q - target).square().mean(1).sum()
    return Loss(loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()})


def soft_policy(
    networks: MetaSLAC, config: ActorCriticConfig, decisions: Decisions, m: Tensor, noise: Tensor
) -> tuple[Loss, Tensor]:
    """alpha log pi - min Q of actions drawn anew at the decisions, and the policy's entropy there, ().

    With `policy_decay`, the mean squares of the policy's means and log standard deviations are added. With
    `cloning_weight` w, it is all over the mean of |min Q|, as of TD3+BC (Fujimoto & Gu 2021, equation 5), so
    that the balance is that of no reward's scale, and w times -log pi of the actions that were played is
    added. There 1/w is 2.5, and a squared error stands for -log pi; DrQ+BC (Lu et al. 2023) is that from
    pixels.
    """
    f, a = decisions.f[:, :-1], decisions.a[:, :-1]
    policy = networks.actor(f, a, m, decisions.z)
    action, log_pi = networks.actor.decide(policy, noise)
    value = networks.critic(networks.sight(decisions.z, f, a, decisions.state), action, m).amin(0)
    loss = (networks.log_alpha.detach().exp() * log_pi - value).mean()
    entropy = -log_pi.detach().mean()
    parts = {} if config.deterministic else {"actor/entropy": entropy}
    if config.cloning_weight:
        surprise = surprise_of(policy, decisions)
        loss = loss / value.detach().abs().mean().clamp_min(SMALLEST) + config.cloning_weight * surprise
        parts["actor/cloning"] = surprise.detach()
    if config.policy_decay:
        squares = policy.mean.square().mean() + policy.std.log().square().mean()
        loss = loss + config.policy_decay * squares
    return Loss(loss, {"actor/loss": loss.detach(), **parts}), entropy


def surprise_of(policy: Gaussian, decisions: Decisions) -> Tensor:
    """-log pi of the actions that were played, in nats: the mean over decisions that were not imagined."""
    surprise = -log_density(policy, decisions.a[:, -1])
    if decisions.real is None:
        return surprise.mean()
    return (surprise * decisions.real).sum() / decisions.real.sum().clamp_min(1)


def cloning(networks: MetaSLAC, decisions: Decisions, m: Tensor) -> Loss:
    """Behaviour cloning, -log pi of actions that were played given what the actor sees, m (B, M)."""
    policy = networks.actor(decisions.f[:, :-1], decisions.a[:, :-1], m, decisions.z)
    loss = surprise_of(policy, decisions)
    return Loss(loss, {"actor/loss": loss.detach()})


def temperature(log_alpha: Tensor, entropy: Tensor, target: float) -> Tensor:
    """Falls with alpha while the entropy is above its target, and rises with it below (SLAC's form)."""
    return log_alpha * (entropy - target)
