"""What posterior sampling can earn at best on sparse_point_robot: a searcher that knows all but the goal.

    python benchmarks/search.py

It holds the exact posterior over goals on the half circle: of where it saw no reward, no goal; where it saw
one, its amount tells the distance. It draws a goal from the posterior, once an episode or every so many
decisions, and goes there as fast as can be. What agents learn is to be measured by this, and not by the known
goal alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

import numpy as np
from numpy.typing import NDArray

from metaslac.envs.families.point_robot import NEAR_ENOUGH

STEPS, REACH = 20, 0.1  # of an episode, and of a step on each axis
EPISODES = 5
GOALS = 100  # trials, each with its own
EVERY = (0, 10, 5, 2, 1)  # decisions after which a goal is drawn anew; 0 is once an episode
PLACES = 400  # of the posterior, on the half circle
SEES = 0.005  # how exactly a reward tells the distance

Array = NDArray[np.float64]


def on_half_circle(angles: Array) -> Array:
    """Places (n, 2) at angles (n,)."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def trial(goal: Array, every: int, rng: np.random.Generator, places: Array) -> list[float]:
    """The returns of the episodes of a trial."""
    possible = np.ones(len(places), dtype=bool)
    returns = []
    for _ in range(EPISODES):
        position, total = np.zeros(2), 0.0
        for step in range(STEPS):
            if step == 0 or (every and step % every == 0):
                towards = places[rng.choice(np.flatnonzero(possible))]
            position = position + np.clip(towards - position, -REACH, REACH)
            distance = float(np.linalg.norm(goal - position))
            near = np.linalg.norm(places - position, axis=1)
            if distance <= NEAR_ENOUGH:
                total += 1 - distance
                possible &= np.abs(near - distance) <= SEES
            else:
                possible &= near > NEAR_ENOUGH
            if not possible.any():  # the goal lies between two places
                possible = near == near[np.argmin(np.linalg.norm(places - goal, axis=1))]
        returns.append(total)
    return returns


def table() -> str:
    """Mean returns, for every way to draw."""
    places = on_half_circle(np.linspace(0, np.pi, PLACES))
    goals = on_half_circle(np.random.default_rng(0).uniform(0, np.pi, GOALS))
    lines = [
        "| a goal is drawn | " + " | ".join(f"episode {n + 1}" for n in range(EPISODES)) + " |",
        "| --- " * (EPISODES + 1) + "|",
    ]
    for every in EVERY:
        rng = np.random.default_rng(1)
        means = np.mean([trial(goal, every, rng, places) for goal in goals], axis=0)
        drawn = (
            f"every {every} decisions" if every > 1 else ("at every decision", "once an episode")[not every]
        )
        lines.append(f"| {drawn} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
