"""Marks on a picture for people: goals, directions, paths, scales, and what an agent believes of them.

What there is to mark comes from envs/overlay.py; the words beside a picture are film.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaslac.launchers.media.lettering import Words, write
from metaslac.launchers.media.video import Frames

if TYPE_CHECKING:
    from metaslac.envs.overlay import Gauge, Goal, Heading, Overlay
    from metaslac.envs.worlds.viewer import View

Array = NDArray[np.float64]
Colour = tuple[int, ...]

WANTED: Colour = (70, 240, 120)
BELIEVED: Colour = (255, 110, 235)
NOW: Colour = (255, 255, 255)
EDGE: Colour = (0, 0, 0)

DEVIATIONS = 2.0  # of what is read of a belief: its ellipse, or its bar
FINE = 3  # pixels of the drawing to one of the picture
UNIT = 256  # side of the picture for which sizes below are pixels
LEAST_FOR_WORDS = 160  # pixels of a picture that words are written on
MARGIN = 14.0  # of an arrow to what is out of the picture
BOX, BARE_BOX = 48.0, 20.0  # height of a scale, with words and without
BOLD = 192  # pixels of a picture below which marks get no smaller
GREY: Colour = (190, 190, 190)
TURN = np.linspace(0.0, 2.0 * np.pi, 49)
CIRCLE: Array = np.stack([np.cos(TURN), np.sin(TURN)], axis=1)


class Marked(NamedTuple):
    """What is to be drawn on one picture."""

    overlay: Overlay
    view: View
    path: Sequence[Array] = ()  # places (3,) so far
    velocity: Array | None = None  # (3,) m/s, of the geom that the overlay follows
    belief: tuple[Array, Array] | None = None  # about the overlay's target: mean (D,), covariance (D, D)


def draw_marks(picture: Frames, marked: Marked) -> Frames:
    """A copy of a square picture with its marks."""
    from metaslac.envs.overlay import Gauge, Goal

    pen = _Pen(picture)
    if marked.overlay.trail and len(marked.path) > 1:
        pen.path(marked.view.project(np.array(marked.path)), NOW)
    start, gauges = 0, 0
    for mark in marked.overlay.marks:
        part = slice(start, start + len(mark.target))
        start = part.stop
        belief = None
        if marked.belief is not None:
            mean, covariance = marked.belief
            belief = mean[part], covariance[part, part]
        if isinstance(mark, Goal):
            _goal(pen, mark, marked.view, belief)
        elif isinstance(mark, Gauge):
            _gauge(pen, mark, marked.velocity, belief, gauges)
            gauges += 1
        else:
            _heading(pen, mark, marked.view, belief)
    for row, (name, value) in enumerate(marked.overlay.facts):
        pen.say((6, BOX * gauges + 6 + 14 * row), [(f"{name} {value}", NOW)])
    return pen.finished()


class _Pen:
    """Draws on a picture enlarged, so that what it draws has smooth edges, and writes on it as it is.

    Places on the picture are in pixels of one of 256 x 256.
    """

    def __init__(self, picture: Frames) -> None:
        from PIL import Image, ImageDraw

        self._side = len(picture)
        self._scale = FINE * self._side / UNIT
        self._bold = max(1.0, BOLD / self._side)
        self.has_room = self._side >= LEAST_FOR_WORDS
        fine = self._side * FINE
        self._image = Image.fromarray(picture).resize((fine, fine), Image.Resampling.NEAREST)
        self._draw: Any = ImageDraw.Draw(self._image, "RGBA")  # which blends what is not opaque
        self._words: list[tuple[tuple[float, float], Words]] = []

    def line(self, points: Array, colour: Colour, width: float = 2.0) -> None:
        """Through points (N, 2); where one is not a number there is a gap."""
        gaps = np.flatnonzero(~np.isfinite(points).all(axis=1))
        for piece in np.split(points, gaps):
            seen = piece[np.isfinite(piece).all(axis=1)]
            if len(seen) > 1:
                self._draw.line(self._at(*seen), colour, self._wide(width))

    def path(self, points: Array, colour: Colour) -> None:
        """Likewise, of fractions of the picture, with a dot where it begins."""
        self.line(points * UNIT, (*EDGE, 150), 3.6)
        self.line(points * UNIT, (*colour, 220), 1.8)
        self.dot(points[0] * UNIT, 3.0, colour)

    def area(self, points: Array, colour: Colour) -> None:
        """The inside of points (N, 2), thinly, if all can be seen."""
        if np.isfinite(points).all():
            self._draw.polygon(self._at(*points), (*colour, 45))
        self.line(points, colour)

    def dot(self, centre: Array, radius: float, colour: Colour) -> None:
        """A disc with a dark edge."""
        if np.isfinite(centre).all():
            for reach, paint in ((radius + 1.5, EDGE), (radius, colour)):
                reach *= self._bold
                self._draw.ellipse(self._at(centre - reach, centre + reach), paint)

    def cross(self, centre: Array, colour: Colour) -> None:
        """A small plus."""
        for along in (np.array([5.0, 0.0]), np.array([0.0, 5.0])):
            self.line(np.stack([centre - along, centre + along]), EDGE, 4.5)
        for along in (np.array([4.0, 0.0]), np.array([0.0, 4.0])):
            self.line(np.stack([centre - along, centre + along]), colour, 2.0)

    def arrow(self, start: Array, end: Array, colour: Colour, width: float = 4.0) -> None:
        """From start to end, with a dark edge; a dot where they are the same."""
        along = end - start
        length = float(np.hypot(*along))
        if not np.isfinite(length):
            return
        if length < 1.0:
            self.dot(start, width / 2, colour)
            return
        along = along / length
        head = min(2.5 * width, length)
        side = np.array([-along[1], along[0]]) * head * 0.6
        for wider, paint in ((1.5, EDGE), (0.0, colour)):
            neck, tip = end - along * head, end + along * wider
            self.line(np.stack([start, neck]), paint, width + 2 * wider)
            out = side * (1 + wider / 5)
            self._draw.polygon(self._at(neck + out - along * wider, tip, neck - out - along * wider), paint)

    def box(self, low: Sequence[float], high: Sequence[float], colour: Colour) -> None:
        """A filled rectangle."""
        self._draw.rectangle(self._at(np.array(low), np.array(high)), colour)

    def say(self, place: tuple[float, float], words: Words) -> None:
        """Write on the picture, from the upper left corner of the words on, if there is room."""
        if self.has_room:
            self._words.append((place, words))

    def finished(self) -> Frames:
        """The picture."""
        from PIL import Image

        image = self._image.resize((self._side, self._side), Image.Resampling.BOX)
        scale = self._side / UNIT
        for (left, top), words in self._words:
            write(image, (left * scale, top * scale), words, 10.5 * scale, shadow=True)
        return np.asarray(image, dtype=np.uint8)

    def _at(self, *points: Array) -> list[tuple[float, float]]:
        return [(float(x) * self._scale, float(y) * self._scale) for x, y in points]

    def _wide(self, width: float) -> int:
        return max(1, round(width * self._scale * self._bold))


def _goal(pen: _Pen, goal: Goal, view: View, belief: tuple[Array, Array] | None) -> None:
    def seen(places: Array) -> Array:
        heights = np.full((len(places), 1), goal.height)
        return view.project(np.concatenate([places, heights], axis=1)) * UNIT

    place = np.array(goal.place)
    if belief is not None:
        mean, covariance = belief
        pen.area(seen(mean + ellipse(covariance)), BELIEVED)
        pen.cross(seen(mean[None])[0], BELIEVED)
    if goal.radius:
        pen.line(seen(place + goal.radius * CIRCLE), WANTED)
    (centre,) = seen(place[None])
    if np.isfinite(centre).all() and (centre >= 0).all() and (centre <= UNIT).all():
        pen.dot(centre, 5.0, WANTED)
        return
    way = view.bearing(np.array([*goal.place, goal.height]))
    edge = UNIT / 2 * (1 + way / max(np.abs(way).max(), 1e-9) * (1 - 2 * MARGIN / UNIT))
    pen.arrow(edge - 18 * way, edge + MARGIN / 2 * way, WANTED)


def _heading(pen: _Pen, heading: Heading, view: View, belief: tuple[Array, Array] | None) -> None:
    assert view.place is not None

    def seen(ways: Array) -> Array:
        flat = np.concatenate([heading.length * ways, np.zeros((len(ways), 1))], axis=1)
        return view.project(view.place + flat) * UNIT

    start, end = seen(np.array([(0.0, 0.0), heading.direction]))
    pen.arrow(start, end, WANTED)
    if belief is not None:
        mean, covariance = belief
        pen.area(seen(mean + ellipse(covariance)), BELIEVED)
        pen.arrow(start, seen(mean[None])[0], BELIEVED, 2.5)


def _gauge(
    pen: _Pen, gauge: Gauge, velocity: Array | None, belief: tuple[Array, Array] | None, row: int
) -> None:
    height = BOX if pen.has_room else BARE_BOX
    left, right, top = 18.0, UNIT - 18.0, height * row
    line = top + height - 10.0

    def at(value: float) -> Array:
        share = np.clip((value - gauge.low) / (gauge.high - gauge.low), 0.0, 1.0)
        return np.array([left + share * (right - left), line])

    pen.box((0, top), (UNIT, top + height), (0, 0, 0, 190))
    pen.line(np.array([(left, line), (right, line)]), (150, 150, 150), 1.5)
    for end in (gauge.low, gauge.high):
        pen.line(at(end) + np.array([(0, -3), (0, 3)]), (150, 150, 150), 1.5)
    wanted: list[tuple[str, Colour]] = [(f"wanted {gauge.wanted:.2f}", WANTED)]
    words: list[tuple[str, Colour]] = [(f"{gauge.name}, {gauge.unit}", GREY)]
    if belief is not None:
        mean, spread = float(belief[0][0]), DEVIATIONS * float(np.sqrt(max(belief[1][0, 0], 0.0)))
        ends = np.stack([at(mean - spread), at(mean + spread)])
        pen.line(ends, (*BELIEVED, 150), 7.0)
        pen.line(at(mean) + np.array([(0, -5), (0, 5)]), BELIEVED, 2.5)
        wanted.append((f"believed {mean:.2f} ± {spread:.2f}", BELIEVED))
    pen.dot(at(gauge.wanted), 4.0, WANTED)
    if velocity is not None:
        now = float(velocity @ np.array(gauge.along))
        pen.line(at(now) + np.array([(0, -8), (0, 8)]), NOW, 3.0)
        words.append((f"{now:.2f}", NOW))
    pen.say((6, top + 2), words)
    pen.say((6, top + 15), wanted)


def ellipse(covariance: Array) -> Array:
    """Where a Gaussian (2,) is that many DEVIATIONS from its mean: differences (N, 2) from it."""
    variances, axes = np.linalg.eigh(covariance)
    reach = DEVIATIONS * np.sqrt(np.maximum(variances, 0.0))
    points: Array = CIRCLE * reach @ axes.T
    return points


def legend(overlay: Overlay, believes: bool) -> Words:
    """What the marks on a picture are, each in its colour; a scale says that itself."""
    from metaslac.envs.overlay import Gauge, Goal

    kinds = [type(mark) for mark in overlay.marks]
    words: list[tuple[str, Colour]] = []
    if any(kind is not Gauge for kind in kinds):
        words.append(("hidden goal" if Goal in kinds else "direction", WANTED))
    if believes:
        words.append((f"belief ± {DEVIATIONS:g} sd, by a linear probe", BELIEVED))
    return words
