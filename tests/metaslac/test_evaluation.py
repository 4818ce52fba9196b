"""IQM against scipy, the bootstrap against an exact enumeration and its nominal coverage."""

import itertools

import numpy as np
import pytest
from scipy.stats import trim_mean

from metaslac.evaluation import bootstrap_interval, iqm, summarise


@pytest.mark.parametrize("count", [1, 3, 4, 7, 20, 101])
def test_iqm_is_the_quarter_trimmed_mean(count: int) -> None:
    values = np.random.default_rng(count).normal(size=(count, 3))
    np.testing.assert_allclose(iqm(values), trim_mean(values, 0.25, axis=0))


def test_a_missing_return_leaves_no_statistic_of_its_episode() -> None:
    returns = np.random.default_rng(0).normal(size=(3, 4, 2))
    returns[1, 2, 1] = np.nan
    first, second = summarise(returns, resamples=100)
    assert np.isfinite([first.mean, first.iqm, first.low, first.high]).all()
    assert np.isnan([second.mean, second.iqm, second.low, second.high]).all()


def test_bootstrap_resamples_tasks_and_trials() -> None:
    """Two tasks of two trials: every one of the resamples counted, against the drawn interval."""
    returns = np.array([[[0.0], [1.0]], [[10.0], [12.0]]])
    exact = []
    for tasks in itertools.product(range(2), repeat=2):
        for trials in itertools.product(range(2), repeat=4):
            picked = [returns[tasks[i // 2], trials[i], 0] for i in range(4)]
            exact.append(trim_mean(picked, 0.25))
    low, high = bootstrap_interval(returns[None], resamples=20_000)
    expected = np.percentile(exact, (2.5, 97.5))
    np.testing.assert_allclose((low[0], high[0]), expected, atol=0.5)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Task effects dominate: an interval that resampled trials alone would cover far too rarely."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        tasks = rng.normal(size=(20, 1, 1))
        low, high = bootstrap_interval((tasks + 0.1 * rng.normal(size=(20, 3, 1)))[None], resamples=300)
        hits += bool(low[0] <= 0 <= high[0])
    assert 0.88 <= hits / 200 <= 0.99


def test_runs_that_differ_widen_the_interval_of_several() -> None:
    rng = np.random.default_rng(0)
    alike = rng.normal(size=(3, 20, 5, 1))
    differing = alike + np.array([-3.0, 0.0, 3.0])[:, None, None, None]
    widths = []
    for returns in (alike, differing):
        summary = summarise(returns)[0]
        widths.append(summary.high - summary.low)
    assert widths[1] > 3 * widths[0]


def test_summaries_are_per_episode_and_reproducible() -> None:
    returns = np.random.default_rng(0).normal(size=(5, 4, 2)) + np.array([0.0, 10.0])
    first, second = summarise(returns)
    assert (first.episode, second.episode) == (1, 2)
    assert first.low <= first.iqm <= first.high and second.mean > first.mean + 5
    assert summarise(returns) == [first, second]
    np.testing.assert_allclose(second.mean, returns[:, :, 1].mean())
