"""What a report films of an agent: samples of m, and what is seen of a whole episode at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metaslac.acting.rollout import rng_of
from metaslac.launchers.api.trained import load_trained
from metaslac.launchers.report.recordings import (
    Sample,
    background_of,
    explore,
    first_action_spread,
    long_exposure,
)


def test_samples_of_m_start_alike_and_go_their_own_way(evaluated_run: Path) -> None:
    trained = load_trained(evaluated_run, None, "cpu", 1)
    samples = explore(trained, trained.family.test_tasks[0], 3, seed=0)
    assert all(np.array_equal(sample.frames[0], samples[0].frames[0]) for sample in samples)
    actions = [sample.first_action for sample in samples]
    assert len({tuple(action) for action in actions}) == 3
    mean = sum(actions) / 3
    deviation = (sum((action - mean) ** 2 for action in actions) / 3) ** 0.5
    assert first_action_spread(samples) == pytest.approx(deviation.mean(), rel=1e-4)
    assert first_action_spread([samples[0]] * 3) < 1e-7


def test_start_and_samples_have_generators_of_their_own(
    evaluated_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[int] = []

    def noted(*key: int) -> np.random.Generator:
        first.append(int(rng_of(*key).integers(2**62)))
        return rng_of(*key)

    monkeypatch.setattr("metaslac.launchers.report.recordings.rng_of", noted)
    trained = load_trained(evaluated_run, None, "cpu", 1)
    explore(trained, trained.family.test_tasks[0], 3, seed=0)
    assert len(set(first)) == len(first) == 4


def test_a_long_exposure_shows_light_and_dark_things_that_moved() -> None:
    frames = np.full((9, 4, 8, 3), 100, dtype=np.uint8)
    frames[:, 2, 5] = 30  # always there
    for t in range(8):
        frames[t, 0, t], frames[t, 3, t] = 255, 0
    background = background_of([frames])
    assert (background[[0, 1, 3]] == 100).all() and (background[2, 5] == 30).all()
    exposed = long_exposure(frames, background)
    assert (exposed[0] == 255).all() and (exposed[3] == 0).all()
    np.testing.assert_array_equal(exposed[1:3], background[1:3])
    assert first_action_spread([Sample(frames, np.array([x, 0.0], np.float32), 0.0) for x in (-1, 1)]) == 0.5
