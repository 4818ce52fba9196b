"""What people, and no agent, are shown of a task, as plain data: marks in the world, scales, facts.

A family says it in `overlay`; where things are in a picture is worlds/viewer.py's, drawing is not done here.
"""

from dataclasses import dataclass

Place = tuple[float, float]  # x, y of the world


@dataclass(frozen=True)
class Goal:
    """A place to be at, in a horizontal plane."""

    place: Place  # m
    height: float = 0.0  # of the plane, m
    radius: float = 0.0  # how near counts as there, m; 0 where nearer is always better

    @property
    def target(self) -> tuple[float, ...]:
        """The numbers that the task decides."""
        return self.place


@dataclass(frozen=True)
class Heading:
    """A direction to go in, drawn as an arrow from the geom that the overlay follows."""

    direction: Place  # a unit vector
    length: float = 1.0  # of the arrow, m

    @property
    def target(self) -> tuple[float, ...]:
        """The numbers that the task decides."""
        return self.direction


@dataclass(frozen=True)
class Gauge:
    """A velocity to have: that of the geom that the overlay follows."""

    name: str
    wanted: float
    low: float  # ends of the scale
    high: float
    along: tuple[float, float, float]  # the unit vector along which it is measured
    unit: str = "m/s"

    @property
    def target(self) -> tuple[float, ...]:
        """The numbers that the task decides."""
        return (self.wanted,)


Mark = Goal | Heading | Gauge


@dataclass(frozen=True)
class Overlay:
    """What people are shown of one task.

    All tasks of a family have marks of the same kinds in the same order; facts may be others in each.
    """

    marks: tuple[Mark, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()  # names and what is to be said of them
    follows: str = ""  # name of the geom that headings start from and gauges measure
    trail: bool = False  # whether its path is drawn

    @property
    def target(self) -> tuple[float, ...]:
        """The targets of all marks, one after the other."""
        return tuple(value for mark in self.marks for value in mark.target)
