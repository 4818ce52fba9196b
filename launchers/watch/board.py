"""Where the thread that plays and those that talk to browsers meet: wishes one way, what is shown the other.

All that lies here is immutable and replaced as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metaslac.launchers.watch.orders import Wishes

if TYPE_CHECKING:
    from metaslac.envs.pixels.camera import Camera


class Ended(NamedTuple):
    """An episode of the trial that is over."""

    acts: str  # in words, what m it acted on
    episode_return: float


@dataclass(frozen=True)
class Shown:
    """What is shown of a trial at one moment."""

    trial: int
    params: tuple[float, ...]
    episode: int  # from 0
    step: int
    over: bool  # whether it was the episode's last
    acts: str  # in words, what m is acted on
    return_so_far: float
    ended: tuple[Ended, ...]  # the trial's last episodes before this one; with it, when it is over
    mean: tuple[float, ...]  # of the belief about m, (M,)
    std: tuple[float, ...]
    m: tuple[float, ...]  # acted on
    picture: str  # for people, as a data URI
    seen: str  # the agent's newest, likewise; empty where it sees none
    camera: Camera | None  # None of worlds that are not MuJoCo's


class Notice(NamedTuple):
    """All that lies on the board; `number` grows with every change."""

    number: int
    wishes: Wishes
    shown: Shown | None
    watchers: int = 0  # who look at it


class Board:
    """Safe to use from any thread."""

    def __init__(self, wishes: Wishes) -> None:
        self._notice = Notice(0, wishes, None)
        self._changed = threading.Condition()
        self._closed = False

    @property
    def notice(self) -> Notice:
        """What lies there now."""
        with self._changed:
            return self._notice

    @property
    def closed(self) -> bool:
        """Whether nothing will be shown any more."""
        with self._changed:
            return self._closed

    def ask(self, change: Callable[[Notice], Wishes]) -> None:
        """Replace the wishes by what is made of them; what `change` raises changes nothing."""
        with self._changed:
            self._put(self._notice._replace(wishes=change(self._notice)))

    def publish(self, shown: Shown) -> None:
        """Show something else."""
        with self._changed:
            self._put(self._notice._replace(shown=shown))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, somebody looks at it."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def wait(self, number: int, seconds: float) -> Notice:
        """What lies there as soon as it is newer than that number, or else after so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._notice.number > number, seconds)
            return self._notice

    def close(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _count(self, more: int) -> None:
        with self._changed:
            self._put(self._notice._replace(watchers=self._notice.watchers + more))

    def _put(self, notice: Notice) -> None:
        self._notice = notice._replace(number=notice.number + 1)
        self._changed.notify_all()
