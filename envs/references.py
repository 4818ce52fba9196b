"""Returns to read others by: what a policy that is known in every step comes to on average."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """The mean return of an episode over some tasks, under a policy that can be told in words."""

    name: str  # a few words, for a chart: "perfect play"
    value: float
    source: str  # what is played, and how the figure came about
