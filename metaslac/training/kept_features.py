"""Features kept in the replay once the encoder is at rest, and what inputs are standardised by.

Features are made of whole episodes, each alone, when it is stored: so made again, they are the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from metaslac.learning.learner import Learner
from metaslac.networks.blocks import Standardise, moments
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.ranks.sharding import WHOLE, Shard
from metaslac.replay.experience import FEATURE_TYPE, Experience

Moments = tuple[float, Tensor, Tensor]  # how many values, their mean, their squared deviations
Taken = tuple[int, list[Moments]]  # of an episode: what it is sorted by, and what each standard takes in


class KeptFeatures:
    """Makes what a replay keeps of the features of its frames.

    Args:
        learner: whose encoder makes them, and whose networks standardise by them.
        replay: that keeps them.
        shard: whose tasks it has; None is all of them.
    """

    def __init__(self, learner: Learner, replay: Experience, shard: Shard | None = None) -> None:
        self._learner = learner
        self._replay = replay
        self._shard = shard or WHOLE
        self._waiting: list[Taken] = []  # moments of what was added, until the ranks have told each other
        self._before: Tensor | None = None  # features of before a pause
        self._makes = learner.config.train.freeze_encoder

    def begin(self, afresh: bool = False) -> float:
        """From now on keep features of all that is stored, and take it in; called when pre-training is over.

        Statistics that a checkpoint brought back are taken as they are, unless all is to be made `afresh`.
        Gives how far features moved since they were kept last, where they were: the root of their mean
        squared change over their variance; not a number where they were not.
        """
        replay, networks = self._replay, self._learner.networks
        if afresh:
            for part in networks.standardised():
                part.forget()
        before, self._before = self._before, None
        if self._makes:
            size = self._learner.config.model.feature_size
            replay.features = torch.zeros(len(replay.frames), size, dtype=FEATURE_TYPE, device=replay.device)
        fresh = [part for part in networks.standardised() if not part.count]
        taken = [(task, self._take(place, count, fresh)) for task, place, count in replay.episodes()]
        self._merge(fresh, taken)
        replay.on_add, replay.on_settle = self._added, self._settle
        return drift(before, replay, self._shard.ranks)

    def pause(self) -> None:
        """Draw frames again, to train the encoder."""
        self._before, self._replay.features = self._replay.features, None

    def _added(self, place: int, count: int) -> None:
        """An episode was stored; those of a rank stay in their order, sorted as if of its first task."""
        self._waiting.append((0, self._take(place, count, self._learner.networks.standardised())))

    def _settle(self) -> None:
        """Take in what was added on any rank."""
        waiting, self._waiting = self._waiting, []
        self._merge(self._learner.networks.standardised(), waiting)

    def _merge(self, standards: list[Standardise], taken: list[Taken]) -> None:
        """Take in moments of episodes of all ranks, in one order on all of them."""
        if not standards:
            return
        ranks = self._shard.ranks
        if ranks.size > 1:
            sizes = [len(standard.mean) for standard in standards]
            own = [flat(self._shard.indices[task], parts) for task, parts in taken]
            told = ranks.gather(torch.stack(own).cpu().numpy().tobytes() if own else b"")
            rows = np.frombuffer(b"".join(told), dtype=np.float64).reshape(
                -1, 1 + sum(1 + 2 * size for size in sizes)
            )
            device = standards[0].mean.device
            taken = [unflat(torch.tensor(row, device=device), sizes) for row in rows]
            taken.sort(key=lambda entry: entry[0])
        for _, parts in taken:
            for standard, part in zip(standards, parts, strict=True):
                standard.merge(*part)

    def _take(self, place: int, count: int, standards: list[Standardise]) -> list[Moments]:
        """Keep features of an episode; gives the moments of what each of these takes in of it."""
        replay, networks = self._replay, self._learner.networks
        there = slice(place, place + count)
        f: Tensor | None = None
        if self._makes or set(standards) - {networks.sight.standardise_state}:
            f = self._learner.encode.fixed(replay.episode_frames(place, count))
        if self._makes and replay.features is not None and f is not None:
            replay.features[there] = f.to(FEATURE_TYPE)
        found = []
        for standard in standards:
            values = replay.states[there] if standard is networks.sight.standardise_state else f
            assert values is not None
            found.append(moments(values))
        return found


def flat(task: int, parts: list[Moments]) -> Tensor:
    """The moments of an episode and the number of a task as one row of numbers."""
    numbers = [torch.cat((mean.new_tensor([n]), mean, squares)) for n, mean, squares in parts]
    return torch.cat([numbers[0].new_tensor([task]), *numbers])


def unflat(row: Tensor, sizes: list[int]) -> Taken:
    """The inverse of `flat`, for standards of these sizes."""
    parts = row[1:].split([1 + 2 * size for size in sizes])
    return int(row[0]), [
        (float(part[0]), part[1 : 1 + size], part[1 + size :])
        for part, size in zip(parts, sizes, strict=True)
    ]


def drift(before: Tensor | None, replay: Experience, ranks: Ranks = ALONE) -> float:
    """Root of the mean squared change of a replay's features over their variance, on one task after another.

    Of all ranks' tasks. Not a number without features of before.
    """
    if before is None or replay.features is None:
        return math.nan
    change = spread = 0.0
    for _, place, count in replay.episodes():
        there = slice(place, place + count)
        old, new = before[there].double(), replay.features[there].double()
        change += float((new - old).square().sum())
        spread += float((old - old.mean(0)).square().sum())
    told = ranks.tell([change, spread])
    change, spread = sum(part[0] for part in told), sum(part[1] for part in told)
    return math.sqrt(change / spread) if spread else math.nan
