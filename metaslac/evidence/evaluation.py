"""Statistics of held-out returns per episode: mean, interquartile mean, what a control leaves to be gained.

All intervals are bootstraps over runs, tasks and trials. What is measured is adaptation.py's trials; nothing
here plays an episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaslac.acting.adaptation import TaskAdaptation

BOOTSTRAP_STREAM = 2
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval
UNDEFINED = "undefined: oracle is not above blind"

Returns = NDArray[np.float64]
Statistic = Callable[[Sequence[Returns]], NDArray[np.float64]]


@dataclass(frozen=True)
class EpisodeSummary:
    """Returns of one episode index over all tasks and trials; the interval is 95 %, of the IQM."""

    episode: int  # 1 is the first
    mean: float
    iqm: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A statistic of the mean returns of one episode index of several agents, with its 95 % interval.

    The interval is that of the resamples that have such a value; `undefined` is the share of the others.
    All are not a number where a return is none.
    """

    episode: int  # 1 is the first
    value: float
    low: float
    high: float
    undefined: float


def returns_array(adaptations: Sequence[TaskAdaptation]) -> Returns:
    """Returns (tasks, trials, episodes) of the trials that `adapt` returns."""
    trials = 1 + max(entry.trial for entry in adaptations)
    returns = np.array([entry.returns for entry in adaptations], dtype=np.float64)
    return returns.reshape(-1, trials, returns.shape[1])


def summarise(returns: Returns, *, seed: int = 0, resamples: int = 2_000) -> list[EpisodeSummary]:
    """One summary per episode index of returns (tasks, trials, episodes), or (runs, tasks, trials, episodes).

    Of one run, the interval says how well this checkpoint adapts to tasks like these; of several,
    how well checkpoints trained like these do.
    """
    returns = _with_runs(returns)
    low, high = bootstrap_interval(returns, seed=seed, resamples=resamples)
    flat = returns.reshape(-1, returns.shape[-1])
    mean, middle = flat.mean(0), iqm(flat)
    return [
        EpisodeSummary(e + 1, float(mean[e]), float(middle[e]), float(low[e]), float(high[e]))
        for e in range(returns.shape[-1])
    ]


def gap_closed(
    infer: Returns, blind: Returns, oracle: Returns, *, seed: int = 0, resamples: int = 2_000
) -> list[Comparison]:
    """(infer - blind) / (oracle - blind) of the mean returns, per episode: 0 is like blind, 1 like an oracle.

    Each argument is (runs, tasks, trials, episodes), or one run's, on the same tasks. Undefined where the
    oracle is no better than blind: there is no gap to close then.
    """
    return _compare([infer, blind, oracle], _gap, seed, resamples)


def gap_in_words(row: Comparison, number: Callable[[float], str] = "{:.2f}".format) -> tuple[str, str]:
    """A gap closed, as a share and not in percent, and its interval with how many resamples have none."""
    if math.isnan(row.value) and row.undefined > 0:
        return UNDEFINED, ""
    without = f"; undefined in {100 * row.undefined:.2g} % of resamples" if row.undefined > 0 else ""
    return number(row.value), f"{number(row.low)} to {number(row.high)}{without}"


def difference(infer: Returns, blind: Returns, *, seed: int = 0, resamples: int = 2_000) -> list[Comparison]:
    """infer - blind of the mean returns, per episode; arguments as of `gap_closed`."""
    return _compare([infer, blind], lambda means: means[0] - means[1], seed, resamples)


def iqm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interquartile mean along the first axis: the mean without the lowest and the highest quarter.

    As in Agarwal et al. 2021: floor(n / 4) values are cut at either end. Not a number where a value is none,
    which sorting would else put among the highest.
    """
    cut = len(values) // 4
    middle: NDArray[np.float64] = np.sort(values, axis=0)[cut : len(values) - cut].mean(0)
    return np.where(np.isnan(values).any(0), np.nan, middle)


def bootstrap_interval(
    returns: Returns, *, seed: int = 0, resamples: int = 2_000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of the IQM, both ends (episodes,), of returns (runs, tasks, trials, episodes)."""
    return bootstrap([returns], lambda groups: iqm(groups[0]), seed=seed, resamples=resamples)


def bootstrap(
    groups: Sequence[Returns], statistic: Statistic, *, seed: int = 0, resamples: int = 2_000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % percentile interval of a statistic of several groups of runs, both ends (episodes,).

    Every resample draws tasks with replacement, the same for all groups and runs as they share them; of each
    group runs with replacement; and trials within each of its runs and tasks. Held-out tasks stand for
    a larger population of tasks, and runs for one of seeds. A trial's episodes stay together.

    Args:
        groups: returns (runs, tasks, trials, episodes) each, of the same tasks and episodes.
        statistic: of the resampled groups, each (runs x tasks x trials, episodes), a value per episode.

    Raises:
        ValueError: they are of other numbers of tasks or episodes.
    """
    low, high = np.percentile(_resampled(groups, statistic, seed, resamples), LEVEL, axis=0)
    return low, high


def _resampled(
    groups: Sequence[Returns], statistic: Statistic, seed: int, resamples: int
) -> NDArray[np.float64]:
    """The statistic of every resample, (resamples, episodes)."""
    if len({(returns.shape[1], returns.shape[3]) for returns in groups}) > 1:
        raise ValueError("returns that are compared must be of the same tasks and episodes")
    rng = np.random.default_rng(np.random.SeedSequence((seed, BOOTSTRAP_STREAM)))
    tasks, episodes = groups[0].shape[1], groups[0].shape[-1]
    statistics = []
    for _ in range(resamples):
        drawn_tasks = rng.integers(tasks, size=(1, tasks, 1))
        drawn = []
        for returns in groups:
            runs, trials = returns.shape[0], returns.shape[2]
            drawn_runs = rng.integers(runs, size=(runs, 1, 1))
            drawn_trials = rng.integers(trials, size=(runs, tasks, trials))
            drawn.append(returns[drawn_runs, drawn_tasks, drawn_trials].reshape(-1, episodes))
        statistics.append(statistic(drawn))
    return np.stack(statistics)


def _compare(
    groups: Sequence[Returns],
    statistic: Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]],
    seed: int,
    resamples: int,
) -> list[Comparison]:
    def of_returns(drawn: Sequence[Returns]) -> NDArray[np.float64]:
        return statistic([returns.mean(0) for returns in drawn])

    groups = [_with_runs(returns) for returns in groups]
    found = _resampled(groups, of_returns, seed, resamples)
    value = of_returns([returns.reshape(-1, returns.shape[-1]) for returns in groups])
    rows = []
    for e in range(len(value)):
        defined = found[np.isfinite(found[:, e]), e]
        if any(np.isnan(returns[..., e]).any() for returns in groups):
            rows.append(Comparison(e + 1, math.nan, math.nan, math.nan, math.nan))
        else:
            low, high = np.percentile(defined, LEVEL) if len(defined) else (math.nan, math.nan)
            undefined = 1 - len(defined) / resamples
            rows.append(Comparison(e + 1, float(value[e]), float(low), float(high), undefined))
    return rows


def _gap(means: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    infer, blind, oracle = means
    gap = oracle - blind
    closed: NDArray[np.float64] = (infer - blind) / np.where(gap > 0, gap, np.nan)
    return closed


def _with_runs(returns: Returns) -> Returns:
    return returns[None] if returns.ndim == 3 else returns
