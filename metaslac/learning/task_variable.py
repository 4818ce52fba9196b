"""Where the m of an update comes from: inferred from context, told to the oracle, or zero for the blind.

One of the three is chosen when a learner is built; the order of a step knows none of them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from metaslac.config.sections import TaskConfig
from metaslac.learning.batch import Transitions
from metaslac.learning.encoding import Encoding
from metaslac.learning.generators import Chance
from metaslac.learning.objectives import Loss, task_kl
from metaslac.networks.context_encoder import TaskBelief
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.replay.experience import Context


class TaskVariable(Protocol):
    """Three questions that an update asks, in this order."""

    def read(self, context: Context) -> Transitions | None:
        """What there is to infer from; None where nothing is inferred."""

    def believe(self, transitions: Transitions | None) -> TaskBelief | None:
        """A belief of each of K tasks from some of their transitions, anew at every call."""

    def loss(self, belief: TaskBelief | None, transitions: Transitions | None) -> Loss | None:
        """What the belief itself is to be like, beside what is learned with it."""

    def draw(self, belief: TaskBelief | None, params: Tensor) -> Tensor:
        """m (K, M), for a belief and true task parameters (K, P)."""


class Inferred:
    """m ~ q(m | c), reparameterised."""

    def __init__(self, networks: MetaSLAC, config: TaskConfig, encode: Encoding, chance: Chance) -> None:
        self._networks = networks
        self._config = config
        self._encode = encode
        self._chance = chance

    def read(self, context: Context) -> Transitions:
        """The transitions of the context, features without gradient.

        Where acting draws m among beliefs of training tasks, those from all of the context are remembered.
        """
        f = context.f  # (K, S, N + 1, F)
        if f is None:
            assert context.frames is not None
            f = self._encode.fixed(context.frames)
        valid = context.valid if context.repeated is None else context.valid & ~context.repeated
        parts = f[:, :, :-1], context.a, context.r, f[:, :, 1:], valid
        f, a, r, f_next, valid = (part.flatten(1, 2) for part in parts)
        transitions = Transitions(f, a, r, f_next, valid, context.distinct)
        if self._networks.task_prior is not None:
            with torch.no_grad():
                self._networks.task_prior.take_in(self._belief(transitions, valid).gaussian.mean)
        return transitions

    def believe(self, transitions: Transitions | None) -> TaskBelief:
        """q(m | c) of every task, from a random number of its context transitions.

        Never from more than there are different ones: every factor counts as independent evidence, also
        that of a transition drawn again, unless `task.count_once` leaves those out.
        """
        assert transitions is not None
        config, valid, chance = self._config, transitions.valid, self._chance
        most = chance.whole(config.context_min, config.context_max, len(valid), 1)
        most = most.minimum(transitions.distinct[:, None])
        scores = chance.uniform(*valid.shape).masked_fill(~valid, 2.0)
        chosen = (scores.argsort(1).argsort(1) < most) & valid
        return self._belief(transitions, chosen)

    def loss(self, belief: TaskBelief | None, transitions: Transitions | None) -> Loss:
        """kl_weight KL(q(m | c) || N(0, I)), and where rewards weigh hypotheses, -log p(r | m), m ~ q(m | c).

        The latter is the mean over all transitions of the context, also those that q has not seen.
        """
        assert belief is not None and transitions is not None
        value, parts = task_kl(belief)
        value = self._config.kl_weight * value
        prior = self._networks.task_prior
        if prior is None or prior.reward is None:
            return Loss(value, parts)
        valid = transitions.valid
        m = belief.sample(self._chance.normal(*belief.shift.shape))[:, None].expand(-1, valid.shape[1], -1)
        told = prior.reward.log_likelihood(*transitions[:4], m) * valid
        error = -(told.sum(1) / valid.sum(1).clamp_min(1)).mean()
        return Loss(value + error, {**parts, "task/reward": error.detach()})

    def draw(self, belief: TaskBelief | None, params: Tensor) -> Tensor:
        """A sample of the belief."""
        assert belief is not None
        return belief.sample(self._chance.normal(*belief.shift.shape))

    def _belief(self, transitions: Transitions, chosen: Tensor) -> TaskBelief:
        """That of each task from those transitions that are chosen, (K, C)."""
        prior = TaskBelief.prior(len(chosen), self._config.size, self._config.prior_factor, chosen.device)
        return prior.update(self._networks.context_encoder(*transitions[:4]), chosen)


class Told:
    """m made of the true task parameters: the control that knows the task."""

    def __init__(self, networks: MetaSLAC) -> None:
        self._networks = networks

    def read(self, context: Context) -> None:
        """Nothing."""

    def believe(self, transitions: Transitions | None) -> None:
        """Nothing."""

    def loss(self, belief: TaskBelief | None, transitions: Transitions | None) -> None:
        """Nothing."""

    def draw(self, belief: TaskBelief | None, params: Tensor) -> Tensor:
        """What the oracle's network makes of the parameters."""
        m: Tensor = self._networks.task_params(params)
        return m


class Unknown:
    """m = 0: the control that never knows the task."""

    def __init__(self, size: int) -> None:
        self._size = size

    def read(self, context: Context) -> None:
        """Nothing."""

    def believe(self, transitions: Transitions | None) -> None:
        """Nothing."""

    def loss(self, belief: TaskBelief | None, transitions: Transitions | None) -> None:
        """Nothing."""

    def draw(self, belief: TaskBelief | None, params: Tensor) -> Tensor:
        """Zeros."""
        return params.new_zeros(len(params), self._size)


def task_variable(networks: MetaSLAC, config: TaskConfig, encode: Encoding, chance: Chance) -> TaskVariable:
    """That of `task.inference`."""
    if config.inference == "oracle":
        return Told(networks)
    if config.inference == "blind":
        return Unknown(config.size)
    return Inferred(networks, config, encode, chance)


def fixed(belief: TaskBelief | None) -> TaskBelief | None:
    """The belief without gradient."""
    return None if belief is None else TaskBelief(*(part.detach() for part in belief))
