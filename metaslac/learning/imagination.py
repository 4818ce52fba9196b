"""Decisions that the latent model imagines, and what its heads' disagreement takes from their rewards.

As in LOMPO (Rafailov et al. 2020): roll-outs of a few steps begin at latents that were inferred from frames,
and critics and actor learn from real and imagined decisions together. LOMPO stores imagined ones in a buffer
beside the real ones, filled now and then. Here those of a step are made in that step, from the windows that
it learns from, with model and actor as they are: nothing is ever stale, and nothing has to be filled or
saved. Nothing learns through a roll-out: no gradient goes into one or comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from metaslac.config.imagination import ImaginationConfig
from metaslac.config.sections import Config
from metaslac.learning.batch import Decisions, Seen, each, joined
from metaslac.learning.generators import Chance
from metaslac.networks.blocks import Gaussian
from metaslac.networks.latent_models.base import LatentModel, Metrics
from metaslac.networks.latent_models.ensemble import of_head
from metaslac.networks.meta_slac import MetaSLAC


def log_prob(p: Gaussian, first: Tensor) -> Tensor:
    """Standard deviation over the heads of log p_k of the next first layer (B, size); LOMPO's.

    That of the K numbers themselves, with K below the square root and not K - 1, as there.
    """
    return p.negative_log_likelihood(first).sum(-1).std(0, correction=0)


def max_var(p: Gaussian, first: Tensor) -> Tensor:
    """Norm of a head's standard deviations, of the head where it is largest (MOPO, Yu et al. 2020)."""
    return _norm(p.std).amax(0)


def mean(p: Gaussian, first: Tensor) -> Tensor:
    """How far a head's mean is from the mean of all, on average over the heads."""
    return _norm(p.mean - p.mean.mean(0)).mean(0)


# Each from p_k (K, B, size) of the next first layer by every head, and its sample (B, size), to u (B,).
Penalty = Callable[[Gaussian, Tensor], Tensor]
PENALTIES: Mapping[str, Penalty] = {"log_prob": log_prob, "max_var": max_var, "mean": mean}


class Imagination:
    """Rolls out from what was seen, and mixes what comes of it with what was played.

    Args:
        networks: of a learner, with a latent model of a sequence; actor and critics see latents.
        config: of the run.
        chance: all chance is drawn from it.
    """

    def __init__(self, networks: MetaSLAC, config: Config, chance: Chance) -> None:
        assert networks.latent_model is not None
        self._model: LatentModel = networks.latent_model
        self._actor = networks.actor
        self._config = config.imagination
        self._penalty = PENALTIES.get(config.imagination.penalty)
        self._heads = config.model.heads
        self._chance = chance

    def beside(self, seen: Seen, tasks: int) -> tuple[Decisions, Tensor, Metrics]:
        """The last decisions of windows (K * W,) and beside them, task by task, imagined ones (K * (W + n),).

        Also the m that each is of, (K * (W + n), M): that of its window's task, which has a gradient for
        those that were played alone; and what is told of the roll-outs. As many roll-outs begin as
        imagined decisions are wanted, which are drawn at random from all steps of them.
        """
        real, m = seen.decisions().of_latents(), seen.m.unflatten(0, (tasks, -1))  # (K, W, M)
        count = imagined_beside(m.shape[1], self._config)
        chance, horizon = self._chance, self._config.horizon
        z = self._starts(seen, tasks, count).flatten(0, 1)
        imagined, told = self.roll_out(z, m[:, :1].detach().expand(-1, count, -1).flatten(0, 1))
        order = chance.uniform(tasks, count * horizon).argsort(1)[:, :count]
        row = torch.arange(tasks, device=order.device)[:, None]
        imagined = imagined.by_task(tasks).chosen(row, order)
        real = real._replace(real=torch.ones_like(real.terminated))
        both = joined((real, imagined), tasks)  # (K, W + n)
        m = torch.cat((m, m[:, :1].detach().expand(-1, count, -1)), 1)
        return each(both, lambda part: part.flatten(0, 1)), m.flatten(0, 1), told

    @torch.no_grad()
    def roll_out(self, z: Tensor, m: Tensor) -> tuple[Decisions, Metrics]:
        """What the actor would do from z (B, Z) on with m (B, M), and what would come of it: B * h decisions.

        Those of one start stand together, in order of time. Rewards are the predicted mean less the weighted
        penalty; in the model nothing ever terminates. Of several heads one, drawn for all of a step, says
        what comes next.
        """
        model, chance, horizon = self._model, self._chance, self._config.horizon
        heads = chance.heads(self._heads, horizon)
        to_act = chance.normal(horizon, len(z), self._actor.action_size, axis=1)
        noise, others = chance.normal(horizon, len(z), model.noise_size, axis=1).tensor_split(
            (model.noise_sizes[0],), -1
        )
        steps: list[tuple[Tensor, ...]] = []
        for t in range(horizon):
            a = self._actor.play(self._actor.on_latents(z, m), to_act[t])
            p = model.predict(z, a, m)
            first = of_head(p, None if heads is None else heads[t]).sample(noise[t])
            z_next = model.complete(first, z, a, m, others[t])
            r = model.predict_reward(torch.stack((z, z_next), 1), a[:, None], m).mean[:, 0]
            u = torch.zeros_like(r) if self._penalty is None else self._penalty(_gaussian(p), first)
            steps.append((z, a, z_next, r, u))
            z = z_next
        z, a, z_next, r, u = (torch.stack(parts, 1).flatten(0, 1) for parts in zip(*steps, strict=True))
        never = torch.zeros_like(r, dtype=torch.bool)
        nothing = z.new_zeros(len(z), 0, self._model.config.feature_size)
        penalised = r - self._config.penalty_weight * u
        decisions = Decisions(nothing, a[:, None], z, z_next, penalised, never, None, None, real=never)
        return decisions, {"imagination/reward": r.mean(), "imagination/penalty": u.mean()}

    def _starts(self, seen: Seen, tasks: int, count: int) -> Tensor:
        """Latents of each task's windows, (K, count, Z), drawn from all that are of a frame.

        From frames before an episode, which are copies, no roll-out begins, nor from a window's first frame,
        whose latent knows nothing of what was before it; nor from where an episode has terminated: nothing
        comes after that, and the model does not know. Where there is no other, it is the first of all.
        """
        assert seen.posterior is not None
        windows = seen.windows
        position = torch.arange(windows.valid.shape[1], device=windows.valid.device)
        ended = (position == len(position) - 1) & windows.terminated[:, None]
        there = (windows.valid & (position > 0) & ~ended).unflatten(0, (tasks, -1)).flatten(1)
        until = there.cumsum(1)  # (K, W * T): how many there are up to each
        number = (self._chance.uniform(tasks, count) * until[:, -1:]).long().minimum(until[:, -1:] - 1)
        place = torch.searchsorted(until, number, right=True)
        z = seen.posterior.z.unflatten(0, (tasks, -1)).flatten(1, 2)  # (K, W * T, Z)
        return torch.gather(z, 1, place[..., None].expand(-1, -1, z.shape[-1]))


def imagined_beside(real: int, config: ImaginationConfig) -> int:
    """How many imagined decisions there are beside so many real ones: at least one, if any."""
    return max(1, round(real * config.share / (1 - config.share))) if config.share else 0


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm over the last dimension."""
    return x.square().sum(-1).sqrt()


def _gaussian(p: object) -> Gaussian:
    assert isinstance(p, Gaussian)  # others have one head, and no penalty
    return p
