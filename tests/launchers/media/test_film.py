"""What is drawn for people: where it is drawn, what it says, and that only it is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from metaslac.envs.family import Task
from metaslac.envs.overlay import Gauge, Goal, Heading, Overlay
from metaslac.envs.pixels.camera import Camera
from metaslac.envs.worlds.viewer import View
from metaslac.evidence.probe import StepProbes
from metaslac.launchers.media.film import Film
from metaslac.launchers.media.filming import Moment, Take, ways_of_acting
from metaslac.launchers.media.marks import BELIEVED, WANTED, Marked, draw_marks, ellipse

SIZE = 256
GREY = 40
# Straight from above, 4 m wide: a metre is 64 pixels.
ABOVE = Camera(
    position=np.array([0.0, 0.0, 3.0]),
    axes=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]),
    middle=np.zeros(2),
    reach=np.full(2, 2.0),
    near=0.01,
    parallel=True,
)
EAST = Gauge("velocity", 1.0, low=0.0, high=2.0, along=(1.0, 0.0, 0.0))


def blank(size: int = SIZE) -> np.ndarray:
    return np.full((size, size, 3), GREY, dtype=np.uint8)


def marked(overlay: Overlay, place: Sequence[float] = (0.0, 0.0, 0.0), **more: object) -> np.ndarray:
    view = View(ABOVE, np.array(place, dtype=float))
    return draw_marks(blank(), Marked(overlay, view, **more))  # type: ignore[arg-type]


def of_colour(picture: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    """Rows and columns (N, 2) of the pixels of a colour."""
    return np.argwhere(np.abs(picture.astype(int) - np.array(colour)[:3]).max(-1) < 12)


def pixel(x: float, y: float) -> np.ndarray:
    return np.array([SIZE / 2 - 64 * y, SIZE / 2 + 64 * x])


def test_a_goal_is_drawn_where_it_is_and_all_else_stays() -> None:
    picture = marked(Overlay((Goal((0.5, -1.0)),)))
    places = of_colour(picture, WANTED)
    np.testing.assert_allclose(places.mean(0) + 0.5, pixel(0.5, -1.0), atol=0.6)
    changed = np.argwhere((picture != GREY).any(-1))
    assert np.abs(changed + 0.5 - pixel(0.5, -1.0)).max() < 8


def test_how_near_is_near_enough_is_a_ring_in_metres() -> None:
    picture = marked(Overlay((Goal((0.0, 0.0), radius=1.0),)))
    away = np.linalg.norm(of_colour(picture, WANTED) + 0.5 - pixel(0.0, 0.0), axis=1)
    assert ((away < 6) | (np.abs(away - 64) < 2)).all() and (away > 60).sum() > 200


@pytest.mark.parametrize(("goal", "side"), [((9.0, 0.3), 1), ((-9.0, 0.0), -1)])
def test_a_goal_out_of_the_picture_is_pointed_at_from_its_edge(goal: tuple[float, float], side: int) -> None:
    places = of_colour(marked(Overlay((Goal(goal),))), WANTED)
    assert len(places) > 20
    columns = side * (places[:, 1] + 0.5 - SIZE / 2)
    assert columns.min() > 80 and columns.max() < SIZE / 2


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, -1.0), (-0.6, 0.8)])
def test_an_arrow_goes_the_right_way_from_where_the_body_is(direction: tuple[float, float]) -> None:
    overlay = Overlay((Heading(direction, length=1.0),), follows="torso")
    places = of_colour(marked(overlay, (0.3, 0.1, 0.0)), WANTED) + 0.5
    along = (places - pixel(0.3, 0.1)) @ (np.array(direction) * (1, -1))[::-1]
    assert -3 < along.min() < 3 and along.max() == pytest.approx(64, abs=3)
    off = np.linalg.norm(
        places - pixel(0.3, 0.1) - along[:, None] * (np.array(direction) * (1, -1))[::-1], axis=1
    )
    assert off.max() < 8


def test_an_ellipse_is_all_that_is_two_deviations_away() -> None:
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    away = ellipse(covariance)
    np.testing.assert_allclose(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away), 4.0)
    assert np.abs(ellipse(np.zeros((2, 2)))).max() == 0


@pytest.mark.parametrize("deviation", [0.1, 0.5])
def test_a_belief_about_a_goal_is_as_wide_as_it_is_said_to_be(deviation: float) -> None:
    belief = np.array([-0.5, 0.25]), deviation**2 * np.eye(2)
    places = of_colour(marked(Overlay((Goal((1.5, 1.5)),)), belief=belief), BELIEVED) + 0.5
    away = np.linalg.norm(places - pixel(-0.5, 0.25), axis=1)
    assert away.max() == pytest.approx(2 * deviation * 64, abs=2.5)
    assert np.abs(away - 2 * deviation * 64).min() < 1 and away.min() < 3  # its rim and its middle


def test_each_mark_has_its_own_part_of_the_belief() -> None:
    overlay = Overlay((EAST, Goal((1.5, 1.5))), follows="torso")
    covariance = np.diag([0.01, 0.04, 0.04])
    places = of_colour(marked(overlay, belief=(np.array([0.5, -1.0, -0.5]), covariance)), BELIEVED)
    lower = places[places[:, 0] > 60] + 0.5  # than the scale
    np.testing.assert_allclose(lower.mean(0), pixel(-1.0, -0.5), atol=2)


def test_a_scale_shows_what_is_wanted_now_and_believed() -> None:
    overlay = Overlay((EAST,), follows="torso")
    belief = np.array([1.5]), np.array([[0.01]])
    picture = marked(overlay, velocity=np.array([0.5, 9.0, 9.0]), belief=belief)
    line = picture[48 - 13 : 48 - 7]
    width = SIZE - 36
    (wanted, believed, now) = (
        np.mean([place[1] for place in of_colour(line, colour)]) + 0.5
        for colour in (WANTED, BELIEVED, (255, 255, 255))
    )
    assert wanted == pytest.approx(18 + width * 0.5, abs=1)
    assert believed == pytest.approx(18 + width * 0.75, abs=1)
    assert now == pytest.approx(18 + width * 0.25, abs=1)


def test_a_path_is_drawn_where_the_family_has_one() -> None:
    path = [np.array([0.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])]
    without, drawn = (marked(Overlay(follows="point", trail=trail), path=path) for trail in (False, True))
    assert (without == GREY).all()
    assert (drawn[SIZE // 2, SIZE // 2 + 10 : SIZE // 2 + 60] > 150).all()


def film(**more: object) -> Film:
    """Two episodes of two steps of a body that goes 0.1 m to the right in each."""
    packed = zlib.compress(blank().tobytes())
    episodes = [
        [
            Moment(packed, SIZE, View(ABOVE, np.array([0.1 * step, 0.0, 0.0])), -1.5 * step)
            for step in range(3)
        ]
        for _ in range(2)
    ]
    take = Take(Task(85, "test", (0.5, -1.0)), Overlay((Goal((0.5, -1.0)),), follows="point"), 0.1, episodes)
    beliefs = np.arange(5, dtype=np.float32)[:, None]
    return replace(Film(take, [-3.0, -3.0], beliefs), **more)  # type: ignore[arg-type]


def test_a_film_reads_each_belief_with_the_probe_of_its_step() -> None:
    weights = np.zeros((5, 2, 2))
    weights[:, 0, 0] = 0.25  # x is a quarter of the belief, which counts the steps of the trial
    covariances = np.stack([np.eye(2) * (0.3 - 0.05 * step) ** 2 for step in range(5)])
    shown = film(probes=StepProbes(weights, covariances))
    for episode, step, seen in ((0, 0, 0), (0, 2, 2), (1, 0, 2), (1, 2, 4), (1, 99, 4)):
        places = of_colour(shown.still(episode, step), BELIEVED) + 0.5
        assert np.abs(places - pixel(0.25 * seen, 0.0)).max() == pytest.approx(
            2 * (0.3 - 0.05 * seen) * 64, abs=2.5
        )
    assert not len(of_colour(film().still(0, 0), BELIEVED))


def test_what_is_acted_on_is_said() -> None:
    assert ways_of_acting(3, 1, 0) == ["a guess", "its belief at step 0", "its belief at step 0"]
    assert ways_of_acting(2, 1, 4) == ["its belief"] * 2
    said = [film(acts=acts).tile(0, 0)[:64].tobytes() for acts in ((), ["a guess"] * 2, ["its belief"] * 2)]
    assert len(set(said)) == 3


@pytest.mark.parametrize(
    ("width", "acts"), [(None, ()), (np.linspace(1, 0, 5, dtype=np.float32), ["a guess", "its belief"])]
)
def test_a_film_has_words_above_that_change_with_what_happens(
    width: np.ndarray | None, acts: Sequence[str]
) -> None:
    shown = film(width=width, acts=acts)
    tiles = [shown.tile(*moment) for moment in ((0, 0), (0, 1), (1, 1))]
    assert {tile.shape for tile in tiles} == {(SIZE + 64, SIZE, 3)}
    above = [tile[:64].tobytes() for tile in tiles]
    assert len(set(above)) == 3
    for tile, moment in zip(tiles, ((0, 0), (0, 1), (1, 1)), strict=True):
        np.testing.assert_array_equal(tile[64:], shown.still(*moment))
    assert shown.lengths == [3, 3] and shown.heading(0, 700).shape[1:] == (700, 3)
