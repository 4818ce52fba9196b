"""Statistics of held-out returns: mean, interquartile mean and bootstrap intervals per episode.

What is measured is adaptation.py's trials; nothing here plays an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaslac.adaptation import TaskAdaptation

BOOTSTRAP_STREAM = 2

Returns = NDArray[np.float64]


@dataclass(frozen=True)
class EpisodeSummary:
    """Returns of one episode index over all tasks and trials; the interval is 95 %, of the IQM."""

    episode: int  # 1 is the first
    mean: float
    iqm: float
    low: float
    high: float


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
    returns = returns[None] if returns.ndim == 3 else returns
    low, high = bootstrap_interval(returns, seed=seed, resamples=resamples)
    flat = returns.reshape(-1, returns.shape[-1])
    mean, middle = flat.mean(0), iqm(flat)
    return [
        EpisodeSummary(e + 1, float(mean[e]), float(middle[e]), float(low[e]), float(high[e]))
        for e in range(returns.shape[-1])
    ]


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
    """95 % percentile interval of the IQM, both ends (episodes,), of returns (runs, tasks, trials, episodes).

    Every resample draws with replacement runs, then tasks, the same for all runs as the runs share
    them, then trials within each: held-out tasks stand for a larger population of tasks, and runs for
    a larger population of seeds. A trial's episodes stay together.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, BOOTSTRAP_STREAM)))
    runs, tasks, trials, episodes = returns.shape
    statistics = []
    for _ in range(resamples):
        drawn_runs = rng.integers(runs, size=(runs, 1, 1))
        drawn_tasks = rng.integers(tasks, size=(1, tasks, 1))
        drawn_trials = rng.integers(trials, size=(runs, tasks, trials))
        statistics.append(iqm(returns[drawn_runs, drawn_tasks, drawn_trials].reshape(-1, episodes)))
    low, high = np.percentile(np.stack(statistics), (2.5, 97.5), axis=0)
    return low, high
