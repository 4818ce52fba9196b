"""What a tracker is: somebody else's place for the numbers, settings and pictures of a run.

Which there are and what happens where one fails is in trackers.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (H, W, 3)


MOST_SAID = 240  # characters of an error


class TrackerFault(Exception):
    """A tracker cannot be reached, or refuses; why, in words."""


class About(NamedTuple):
    """The run that is told of."""

    directory: Path
    settings: Mapping[str, Mapping[str, Any]]  # section -> field -> value
    quiet: bool = False  # nothing on the screen

    @property
    def name(self) -> str:
        """As its directory is called."""
        return self.directory.resolve().name

    @property
    def family(self) -> str:
        """Runs of one family are one group."""
        return str(self.settings["family"]["name"])

    def flat(self) -> dict[str, Any]:
        """section.field -> value."""
        return {f"{name}.{key}": value for name, part in self.settings.items() for key, value in part.items()}


class Tracker(Protocol):
    """One run in a tracker, open from its settings to `close`. Every method may raise TrackerFault."""

    @property
    def id(self) -> str:
        """What the tracker knows the run by, to go on with it; empty where it needs none."""
        ...

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        """Numbers after an update; those of pre-training are at updates up to 0."""
        ...

    def picture(self, name: str, picture: Picture, update: int) -> None:
        """A picture after an update."""
        ...

    def result(self, values: Mapping[str, float]) -> None:
        """The last evaluation of a run that is finished."""
        ...

    def close(self, finished: bool) -> None:
        """Nothing more comes, of this process; whether the run is finished."""
        ...


@contextmanager
def translated(*kinds: type[Exception]) -> Iterator[None]:
    """As decorator of a tracker's methods: errors of these kinds are a TrackerFault."""
    try:
        yield
    except kinds as error:
        raise TrackerFault(shorten(str(error), MOST_SAID) or type(error).__name__) from error
