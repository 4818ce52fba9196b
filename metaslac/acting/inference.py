"""What is known of the tasks that an agent acts on, and the m that is drawn from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaslac.config.sections import TaskConfig
from metaslac.errors import MetaslacError
from metaslac.networks.blocks import Gaussian
from metaslac.networks.context_encoder import ContextEncoder, TaskBelief
from metaslac.networks.task_prior import Hypotheses, TaskPrior

# f (N, C, F), a (N, C, A), r (N, C), f_next (N, C, F) of N slots.
Transitions = tuple[Tensor, Tensor, Tensor, Tensor]


class Drawing(NamedTuple):
    """How m is drawn from the belief while acting."""

    every: int = 0  # decisions after which it is drawn anew; 0 is once an episode, PEARL's posterior sampling
    mean_below: float = 0.0  # mean standard deviation of m under which its mean is taken and not a sample


ONCE = Drawing()


class Known(NamedTuple):
    """What N slots have observed of their tasks tells."""

    belief: TaskBelief
    hypotheses: Hypotheses | None  # None where m is drawn from N(0, I) at first

    def of(self, slot: int) -> Known:
        """That of one slot, N = 1."""
        among = self.hypotheses
        return Known(
            TaskBelief(*(part[slot, None] for part in self.belief)),
            among and among._replace(log_likelihood=among.log_likelihood[slot, None]),
        )


class TaskInference:
    """Filters a belief about the task of each of N slots from transitions, and draws m from it."""

    def __init__(
        self, config: TaskConfig, context_encoder: ContextEncoder, task_prior: TaskPrior | None
    ) -> None:
        self._config = config
        self._context_encoder = context_encoder
        self._task_prior = task_prior  # None if it is N(0, I)

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that the m of a slot is drawn with."""
        return self._config.size + (self._task_prior is not None)

    @property
    def belief(self) -> Gaussian:
        """Mean and standard deviation of m given everything observed since `begin`, (N, M)."""
        return self._known.belief.gaussian

    def begin(self, slots: int, device: torch.device) -> None:
        """Know nothing of so many tasks."""
        prior = TaskBelief.prior(slots, self._config.size, self._config.prior_factor, device)
        among = None if self._task_prior is None else self._task_prior.hypotheses(slots)
        self._known = self._nothing = Known(prior, among)

    def observe(self, transitions: Transitions, active: Tensor | None) -> None:
        """Take in one transition of every slot, C = 1; none where a slot is not `active` (N,).

        Raises MetaslacError, and changes nothing, where the belief would not be finite.
        """
        known = self._after(self._known, transitions, None if active is None else active[:, None])
        largest = float(transitions[2].abs().max())
        check_finite(f"the belief after a reward of {largest:g}", *known.belief.gaussian)
        self._known = known

    def take_in(self, given: Sequence[Sequence[Transitions]]) -> None:
        """Take in the episodes that are given of each slot's task, N = 1 each.

        Raises MetaslacError, and changes nothing, where the belief would not be finite.
        """
        slots = []
        for slot, episodes in enumerate(given):
            known = self._known.of(slot)
            for transitions in episodes:
                known = self._after(known, transitions)
            slots.append(known)
        belief = TaskBelief(*map(torch.cat, zip(*(known.belief for known in slots), strict=True)))
        check_finite("the belief after the episodes given", *belief.gaussian)
        likelihoods = [known.hypotheses.log_likelihood for known in slots if known.hypotheses is not None]
        among = self._known.hypotheses
        self._known = Known(belief, among and among._replace(log_likelihood=torch.cat(likelihoods)))

    def draw(self, noise: Tensor, explore: bool, mean_below: float) -> Tensor:
        """m (N, M) of the belief, or to `explore` of the prior, by standard normal noise (N, `noise_size`).

        On slots where the belief is narrower than `mean_below` it is its mean, unless to `explore`.
        """
        known = self._nothing if explore else self._known
        if self._task_prior is None or known.hypotheses is None:
            m = known.belief.sample(noise)
        else:
            evidence = known.belief.evidence(self._config.prior_factor)
            m = self._task_prior.draw(known.hypotheses, evidence, noise)
        if explore or not mean_below:
            return m
        mean, std = self.belief
        return torch.where(std.mean(1, keepdim=True) < mean_below, mean, m)

    def _after(self, known: Known, transitions: Transitions, weight: Tensor | None = None) -> Known:
        """With what transitions more tell; a weight (N, C) of zero leaves one out."""
        belief = known.belief.update(self._context_encoder(*transitions), weight)
        if self._task_prior is None or known.hypotheses is None:
            return Known(belief, None)
        return Known(belief, self._task_prior.weigh(known.hypotheses, *transitions, weight))


def check_finite(what: str, *values: Tensor) -> None:
    """Raise MetaslacError unless all of it is: what is made of finite numbers need not be."""
    if not torch.stack([value.isfinite().all() for value in values]).all():
        raise MetaslacError(f"{what} is not finite: it is too far from all that this agent was trained on")
