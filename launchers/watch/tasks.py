"""Which tasks a person may choose for an agent to be watched on: a goal in the picture, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import blamed_on

if TYPE_CHECKING:
    from metaslac.envs.family import Family
    from metaslac.envs.pixels.camera import Camera

Params = tuple[float, ...]

MOST_SLIDERS = 4  # a task of more parameters is chosen from the list
HALVINGS = 12


class Slider(NamedTuple):
    """A parameter that can be chosen, and its ends."""

    name: str
    low: float
    high: float


class TaskChoice:
    """The tasks of a family, as a person chooses among them.

    Args:
        family: whose.
        name: that it goes by.

    Attributes:
        has_marks: whether something of its tasks is drawn for people.

    Raises FamilyError for an overlay that cannot be drawn.
    """

    def __init__(self, family: Family, name: str) -> None:
        from metaslac.envs.overlay import Goal
        from metaslac.envs.worlds.viewer import overlay_of

        self.family, self._name = family, name
        self._listed: NDArray[np.float64] = np.array([task.params for task in family.tasks])
        self._held_out = [task.params for task in family.test_tasks]
        task = family.test_tasks[0]
        marks = overlay_of(family, task).marks
        self.has_marks = bool(marks)
        self._height: float | None = None
        if len(marks) == 1 and isinstance(marks[0], Goal) and marks[0].target == task.params:
            self._height = marks[0].height

    @property
    def has_goals(self) -> bool:
        """Whether its tasks are places to be at, which can be clicked."""
        return self._height is not None

    @property
    def sliders(self) -> list[Slider]:
        """Its parameters between their ends in the lists; none where there are too many."""
        names = self.family.param_names
        if not 0 < len(names) <= MOST_SLIDERS:
            return []
        ends = self._listed.min(axis=0).tolist(), self._listed.max(axis=0).tolist()
        return [Slider(*each) for each in zip(names, *ends, strict=True)]

    @property
    def first(self) -> Params:
        """The first held-out task's."""
        return self._held_out[0]

    def after(self, params: Params) -> Params:
        """Those of the held-out task after one; after any other, the first one's."""
        place = self._held_out.index(params) + 1 if params in self._held_out else 0
        return self._held_out[place % len(self._held_out)]

    def clicked(self, camera: Camera, place: Sequence[float]) -> Params:
        """Of a goal at a place (2,) in the picture, from 0 to 1 rightwards and downwards, or near it.

        Raises MetaslacError where there is none.
        """
        if self._height is None:
            raise MetaslacError(f"{self.family.name} has no goals that could be clicked")
        (goal,) = camera.on_plane(np.array([place]), self._height)
        if not np.isfinite(goal).all():
            raise MetaslacError("there is no ground to be seen at that place")
        return self.nearest(goal[:2])

    def nearest(self, wanted: Sequence[float] | NDArray[np.float64]) -> Params:
        """Parameters (P,) as wanted if a task may have them, or the nearest on the ways there from others."""
        asked = np.asarray(wanted, dtype=float)
        if self._may_have(asked):
            return tuple(asked.tolist())
        spans = np.ptp(self._listed, axis=0)
        ends = np.stack([self._towards(asked, start) for start in self._listed])
        distances = np.linalg.norm((ends - asked) / np.where(spans > 0, spans, 1.0), axis=1)
        return tuple(ends[distances.argmin()].tolist())

    def _towards(self, asked: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
        """The last that a task may have on the way from a listed one's to those that none may, by halving."""
        inside, outside = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if self._may_have(start + middle * (asked - start)):
                inside = middle
            else:
                outside = middle
        return start + inside * (asked - start)

    def _may_have(self, params: NDArray[np.float64]) -> bool:
        from metaslac.envs import FamilyError

        try:
            with blamed_on(self._name):
                self.family.with_own_task(params.tolist())
        except FamilyError:
            return False
        return True
