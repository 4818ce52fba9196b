"""Observations of more than one picture: those of the last control steps, each drawn once.

When a control step is made, and what ends an episode, is the business of vector_env.py.
"""

import numpy as np

from metaslac.envs.arrays import Flags, Frames, Ids
from metaslac.envs.worlds.protocol import Painter


class FrameStack:
    """The last k pictures of every world, oldest first; at the start of an episode its first one k times.

    A decision brings min(k, action_repeat) new ones. In place of a control step that was not made, or that
    failed, the picture before it is repeated, so the older ones are always those of the observation before.

    Args:
        observations: uint8 (num_worlds, k, H, W, 3), which is written into.
        action_repeat: control steps of a decision.
        painter: draws the worlds.
    """

    def __init__(self, observations: Frames, action_repeat: int, painter: Painter) -> None:
        self._observations = observations
        self._places = observations.shape[1]
        self._moved = np.minimum(np.arange(self._places) + action_repeat, self._places - 1)
        self._painter = painter

    def begin(self, worlds: Ids) -> None:
        """An episode begins in these worlds: its first picture stands in every place."""
        self._draw(worlds, 0)

    def advance(self, worlds: Ids) -> None:
        """A decision begins in these worlds: room for its pictures, filled with the last one for now."""
        self._observations[worlds] = self._observations[worlds][:, self._moved]

    def add(self, worlds: Ids, ended: Flags, to_come: int) -> None:
        """Draw these worlds (N,) after a control step, where the picture is needed.

        Args:
            worlds: that have made the step.
            ended: (N,), which have no further one in this episode.
            to_come: control steps of the decision that are to follow in the others.
        """
        if to_come >= self._places:
            worlds = worlds[ended]
        self._draw(worlds, max(0, self._places - 1 - to_come))

    def _draw(self, worlds: Ids, place: int) -> None:
        """Draw into this place and all that follow."""
        if len(worlds):
            self._painter.draw(worlds, self._observations[:, place])
            self._observations[worlds, place + 1 :] = self._observations[worlds, place][:, None]
