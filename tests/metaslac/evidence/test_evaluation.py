"""IQM against scipy, the bootstrap against an exact enumeration and its nominal coverage."""

import itertools

import numpy as np
import pytest
from scipy.stats import trim_mean

from metaslac.evidence.evaluation import (
    bootstrap,
    bootstrap_interval,
    difference,
    gap_closed,
    gap_in_words,
    iqm,
    summarise,
)


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


@pytest.mark.parametrize("other", [(1, 6, 3, 2), (1, 4, 3, 1), (1, 4, 3, 3)])
def test_returns_of_other_tasks_or_episodes_are_not_compared(other: tuple[int, ...]) -> None:
    one, two = np.zeros((2, 4, 5, 2)), np.zeros(other)
    for first, second in ((one, two), (two, one)):
        with pytest.raises(ValueError, match="must be of the same tasks and episodes"):
            difference(first, second, resamples=10)


# rliable 1.2.0 (arch 7.2.0, numpy 2.4.6, pandas 2): library.get_interval_estimates(..., method="percentile",
# task_bootstrap=True, reps=50_000, random_state=RandomState(0)) of metrics.aggregate_iqm and _mean of
# default_rng(7).normal(size=(5, 12)) + linspace(-2, 3, 12), five runs of twelve tasks.
RLIABLE = {
    "iqm": (0.13850582, -0.87250690, 1.40048106),
    "mean": (0.29065301, -0.62272019, 1.25456372),
}


def test_point_estimates_and_intervals_are_those_of_rliable() -> None:
    """Its runs are our trials: independent repetitions on each task, drawn task by task."""
    scores = np.random.default_rng(7).normal(size=(5, 12)) + np.linspace(-2, 3, 12)
    returns = scores.T[None, :, :, None]
    for name, statistic in (("iqm", iqm), ("mean", lambda values: values.mean(0))):
        value, low, high = RLIABLE[name]
        found = bootstrap([returns], lambda groups, of=statistic: of(groups[0]), resamples=20_000)
        np.testing.assert_allclose(statistic(scores.reshape(-1, 1)), value, rtol=1e-6)
        np.testing.assert_allclose(np.array(found).ravel(), (low, high), atol=0.03)


def three_agents(runs: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns of infer, blind and oracle on 30 tasks that differ by far more than the agents do."""
    rng = np.random.default_rng(0)
    tasks = 10 * rng.normal(size=(1, 30, 1, 1))
    noise = 0.5 * rng.normal(size=(3, runs, 30, 5, 2))
    levels = (np.array([-10.0, -7.0]), np.array([-10.0, -10.0]), np.array([-6.0, -6.0]))
    return tuple(tasks + level + part for level, part in zip(levels, noise, strict=True))  # type: ignore


def test_gap_closed_is_where_between_blind_and_oracle() -> None:
    infer, blind, oracle = three_agents()
    first, last = gap_closed(infer, blind, oracle)
    means = [returns[..., 1].mean() for returns in (infer, blind, oracle)]
    assert last.value == pytest.approx((means[0] - means[1]) / (means[2] - means[1]))
    assert first.value == pytest.approx(0.0, abs=0.1) and last.value == pytest.approx(0.75, abs=0.05)
    assert last.low < last.value < last.high
    # The tasks are shared, so what they differ by cancels: intervals are far narrower than the returns'.
    assert last.high - last.low < 0.2
    assert gap_closed(blind, blind, oracle)[1].value == pytest.approx(0)
    assert gap_closed(oracle, blind, oracle)[1].value == pytest.approx(1)


def test_the_difference_to_blind_has_an_interval_that_can_exclude_zero() -> None:
    infer, blind, _ = three_agents()
    first, last = difference(infer, blind)
    assert first.low < 0 < first.high
    assert 2.5 < last.low < last.value < last.high < 3.5
    alone = difference(infer[0], blind[0])
    np.testing.assert_allclose(alone[1].value, (infer[0] - blind[0])[..., 1].mean())


def test_runs_are_drawn_independently_in_each_group() -> None:
    """Two runs of each, one of them 4 better: four differences, as likely as one another."""
    infer = np.array([0.0, 4.0])[:, None, None, None] * np.ones((2, 3, 2, 1))
    (result,) = difference(infer, infer, resamples=4_000)
    assert (result.value, result.low, result.high) == (0, -4, 4)


def test_no_gap_at_all_is_no_number() -> None:
    blind = np.ones((1, 3, 2, 1))
    (result,) = gap_closed(blind, blind, blind, resamples=10)
    assert np.isnan([result.value, result.low, result.high]).all() and result.undefined == 1


def test_where_some_resamples_have_no_gap_the_interval_is_that_of_the_others() -> None:
    """Two tasks, one without a gap: a quarter of the resamples are of that alone."""
    blind = np.zeros((1, 2, 1, 1))
    oracle, infer = (np.array(level).reshape(1, 2, 1, 1) for level in ([0.0, 4.0], [-1.0, 3.0]))
    (row,) = gap_closed(infer, blind, oracle, resamples=4_000)
    # both tasks: (3 - 1) / 4, half of the time; the second alone: 3 / 4, a quarter
    assert (row.value, row.low, row.high) == (0.5, 0.5, 0.75)
    assert row.undefined == pytest.approx(0.25, abs=0.03)
    value, interval = gap_in_words(row)
    assert value == "0.50"
    assert interval == f"0.50 to 0.75; undefined in {100 * row.undefined:.2g} % of resamples"


def test_a_missing_return_is_not_taken_for_a_missing_gap() -> None:
    infer, blind, oracle = three_agents()
    infer[0, 3, 1, 0] = np.nan
    missing, other = gap_closed(infer, blind, oracle, resamples=200)
    assert np.isnan([missing.value, missing.low, missing.high, missing.undefined]).all()
    assert gap_in_words(missing) == ("nan", "nan to nan")
    assert other.undefined == 0 and gap_in_words(other) == (
        f"{other.value:.2f}",
        f"{other.low:.2f} to {other.high:.2f}",
    )


def test_an_oracle_that_is_no_better_than_blind_leaves_no_gap_to_close() -> None:
    """Else an agent below both would seem to close it."""
    infer, blind, oracle = (np.full((1, 3, 2, 1), value) for value in (-13.0, -10.0, -14.0))
    (result,) = gap_closed(infer, blind, oracle, resamples=10)
    assert np.isnan(result.value)
    assert gap_in_words(result) == ("undefined: oracle is not above blind", "")
