"""A trial as people see it: its pictures with marks on them, and a few words above each.

Pictures come from filming.py and marks from marks.py; files are written in video.py and picture.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaslac.launchers.media.filming import Take
from metaslac.launchers.media.lettering import Words, write
from metaslac.launchers.media.marks import NOW, Marked, draw_marks, legend
from metaslac.launchers.media.video import Frames

if TYPE_CHECKING:
    from PIL.Image import Image

    from metaslac.evidence.probe import StepProbes

LETTERS = 11.5  # height, in a film of 256 pixels
DIM = (175, 175, 175)
PANEL = 64  # height of the words above a picture of 256 pixels; codecs want multiples of 16


@dataclass(frozen=True)
class Film:
    """The film of one trial.

    Args:
        take: what was filmed.
        returns: of each episode.
        beliefs: mean of m before the first step of the trial and after each, (number of steps + 1, M).
        width: likewise its standard deviation averaged over m's dimensions; None for agents that infer
            nothing.
        acts: in words, what m is acted on in each episode; () for agents that infer nothing.
        probes: what beliefs are read with, if they can be.
    """

    take: Take
    returns: Sequence[float]
    beliefs: NDArray[np.float32]
    width: NDArray[np.float32] | None = None
    acts: Sequence[str] = ()
    probes: StepProbes | None = None

    @property
    def lengths(self) -> list[int]:
        """Pictures of each episode."""
        return [len(moments) for moments in self.take.episodes]

    def tile(self, episode: int, step: int) -> Frames:
        """A picture of the film, words above it: (size + size / 4, size, 3)."""
        still = self.still(episode, step)
        size = len(still)
        scale, panel = size / 256, -(-size * PANEL // 256 // 16) * 16
        above = _blank(panel, size)
        for row, line in enumerate(self._words(episode, step)):
            write(above, (6 * scale, (5 + 19 * row) * panel / PANEL), line, LETTERS * scale)
        return np.concatenate([np.asarray(above, dtype=np.uint8), still])

    def still(self, episode: int, step: int) -> Frames:
        """A picture with its marks, (size, size, 3)."""
        step = min(step, len(self.take.episodes[episode]) - 1)
        seen = self._before[episode] + step
        belief = None
        if self.probes is not None:
            belief = self.probes.read(self.beliefs[seen].astype(np.float64), seen)
        return drawn(self.take, episode, step, belief)

    def heading(self, episode: int, width: int) -> Frames:
        """Words above a row of stills of an episode."""
        image = _blank(24, width)
        words: list[tuple[str, tuple[int, ...]]] = [
            (f"episode {episode + 1}   return {self.returns[episode]:.1f}", NOW)
        ]
        if episode == 0:
            words += [(self.take.called, NOW), *self._legend]
        write(image, (4, 4), words, 13)
        return np.asarray(image, dtype=np.uint8)

    def _words(self, episode: int, step: int) -> list[Words]:
        moments = self.take.episodes[episode]
        step = min(step, len(moments) - 1)
        where = f"{self.take.called}   episode {episode + 1} of {len(self.lengths)}"
        acts = [(f"acts on {self.acts[episode]}", DIM)] if self.acts else []
        last: Words = self._legend
        if self.width is not None and not self.take.overlay.marks:
            width = self.width[self._before[episode] + step]
            last = [(f"width of the belief {width:.2f}, at first 1", DIM)]
        return [
            [(where, NOW), (f"step {step}", DIM)],
            [(f"return so far {moments[step].return_so_far:.1f}", NOW), *acts],
            last,
        ]

    @cached_property
    def _legend(self) -> Words:
        return legend(self.take.overlay, self.probes is not None)

    @cached_property
    def _before(self) -> list[int]:
        """Steps of the trial before each episode."""
        steps = [length - 1 for length in self.lengths]
        return [sum(steps[:episode]) for episode in range(len(steps))]


def drawn(
    take: Take, episode: int, step: int, belief: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> Frames:
    """A picture of a take with its marks, (size, size, 3); `belief` as of Marked."""
    moments = take.episodes[episode][: step + 1]
    path = [moment.view.place for moment in moments if moment.view.place is not None]
    velocity = (path[-1] - path[-2]) / take.seconds if len(path) > 1 else None
    return draw_marks(moments[-1].picture, Marked(take.overlay, moments[-1].view, path, velocity, belief))


def _blank(height: int, width: int) -> Image:
    from PIL import Image

    return Image.new("RGB", (width, height))
