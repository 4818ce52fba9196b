"""The best searcher: what it earns where the goal is known, and the table of the docs."""

import numpy as np
import pytest
from helpers.documents import everything
from scripts import load_script

search = load_script("benchmarks/search.py")


@pytest.mark.parametrize("angle", [0.04, 0.7, 1.5, 3.0])
def test_one_that_knows_the_goal_goes_straight_there(angle: float) -> None:
    """Of rewards that are worked out step by step."""
    goal = search.on_half_circle(np.array([angle]))
    steps = np.arange(1, 21)[:, None]
    straight = np.sign(goal) * np.minimum(np.abs(goal), 0.1 * steps)
    distances = np.linalg.norm(goal - straight, axis=1)
    expected = np.where(distances <= 0.2, 1 - distances, 0.0).sum()
    returns = search.trial(goal[0], 0, np.random.default_rng(0), goal)
    assert returns == pytest.approx([expected] * 5)


def test_nothing_is_found_where_the_goal_is_out_of_reach() -> None:
    places = search.on_half_circle(np.linspace(0, np.pi, 50))
    assert search.trial(np.array([0.0, -5.0]), 1, np.random.default_rng(0), places)[0] == 0


def test_the_docs_have_its_table() -> None:
    assert search.table() in everything()
