"""Features kept in the replay once the encoder is at rest, and what inputs are standardised by.

Features are made of whole episodes, each alone, when it is stored: so made again, they are the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metaslac.learning.learner import Learner
from metaslac.networks.blocks import Standardise
from metaslac.replay.experience import FEATURE_TYPE, Experience


class KeptFeatures:
    """Makes what a replay keeps of the features of its frames.

    Args:
        learner: whose encoder makes them, and whose networks standardise by them.
        replay: that keeps them.
    """

    def __init__(self, learner: Learner, replay: Experience) -> None:
        self._learner = learner
        self._replay = replay
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
        for _, place, count in replay.episodes():
            self._take(place, count, fresh)
        replay.on_add = self._added
        return drift(before, replay)

    def pause(self) -> None:
        """Draw frames again, to train the encoder."""
        self._before, self._replay.features = self._replay.features, None

    def _added(self, place: int, count: int) -> None:
        self._take(place, count, self._learner.networks.standardised())

    def _take(self, place: int, count: int, standards: list[Standardise]) -> None:
        replay, networks = self._replay, self._learner.networks
        there = slice(place, place + count)
        f: Tensor | None = None
        if self._makes or set(standards) - {networks.sight.standardise_state}:
            f = self._learner.encode.fixed(replay.episode_frames(place, count))
        if self._makes and replay.features is not None and f is not None:
            replay.features[there] = f.to(FEATURE_TYPE)
        for standard in standards:
            values = replay.states[there] if standard is networks.sight.standardise_state else f
            assert values is not None
            standard.take_in(values)


def drift(before: Tensor | None, replay: Experience) -> float:
    """Root of the mean squared change of a replay's features over their variance, on one task after another.

    Not a number without features of before.
    """
    if before is None or replay.features is None:
        return math.nan
    change = spread = 0.0
    for _, place, count in replay.episodes():
        there = slice(place, place + count)
        old, new = before[there].double(), replay.features[there].double()
        change += float((new - old).square().sum())
        spread += float((old - old.mean(0)).square().sum())
    return math.sqrt(change / spread) if spread else math.nan
