"""What beliefs know of true parameters: a linear probe, fitted on training tasks and tried on new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaslac.evidence.evaluation_file import Evaluation, Trials

Array = NDArray[np.float64]


def linear_probe(train_beliefs: Array, train_params: Array, beliefs: Array) -> Array:
    """Predictions (n, P) of the parameters of beliefs (n, M), by least squares with intercept.

    Fitted on train_beliefs (k, M) and train_params (k, P), rows of training tasks. Where beliefs do not span
    their space it is the smallest of the solutions: an empty context, which gives every task the same
    belief, predicts the mean of the training tasks.
    """
    weights, _ = _least_squares(train_beliefs, train_params)
    predictions: Array = _with_one(beliefs) @ weights
    return predictions


class StepProbes(NamedTuple):
    """A linear probe for each number of transitions seen, 0 to S, from beliefs of M to D numbers.

    Each has its own, for what a belief of little evidence says is not what the same m would say later.
    """

    weights: Array  # (S + 1, M + 1, D), the last row of each the intercept
    covariances: Array  # (S + 1, D, D), of the errors on the tasks it was fitted on

    def read(self, belief: Array, seen: int) -> tuple[Array, Array]:
        """What the mean (M,) of a belief after so many transitions says: mean (D,) and covariance (D, D).

        The covariance is how far such readings are off, not what this one belief says of itself. After more
        than S transitions it is read as after S.
        """
        step = min(seen, len(self.weights) - 1)
        mean: Array = (_with_one(belief[None]) @ self.weights[step])[0]
        return mean, self.covariances[step]


def step_probes(beliefs: Sequence[NDArray[np.floating]], targets: Array) -> StepProbes:
    """Fitted on K trials: beliefs (S_k + 1, M), before the first step and after each, and targets (K, D).

    A trial that is over stays as it ended.
    """
    weights, covariances = [], []
    for step in range(max(map(len, beliefs))):
        reached = np.stack([belief[min(step, len(belief) - 1)] for belief in beliefs]).astype(np.float64)
        found, rank = _least_squares(reached, targets)
        errors = targets - _with_one(reached) @ found
        weights.append(found)
        covariances.append(errors.T @ errors / max(1, len(targets) - rank))
    return StepProbes(np.stack(weights), np.stack(covariances))


def r_squared(predictions: Array, params: Array) -> Array:
    """1 - squared error / variance, for each column of (n, P): 1 is perfect, 0 as good as their own mean.

    Below 0 is worse than that. Not a number for a parameter that is the same in all rows.
    """
    error = np.square(predictions - params).sum(0)
    variance = np.square(params - params.mean(0)).sum(0)
    score: Array = 1 - error / np.where(np.ptp(params, axis=0) > 0, variance, np.nan)
    return score


def probe_predictions(evaluation: Evaluation, after: int) -> Array:
    """What the probe reads, after so many episodes, of the held-out tasks' parameters: (tasks x trials, P).

    Rows as of `flat_params`. The evaluation must have the training tasks.
    """
    if evaluation.training is None:
        raise ValueError("a probe is fitted on training tasks, and they were not evaluated")
    beliefs = [_beliefs(trials, after) for trials in (evaluation.training, evaluation.held_out)]
    return linear_probe(beliefs[0], flat_params(evaluation.training), beliefs[1])


def probe_scores(evaluation: Evaluation) -> Array:
    """R^2 of the probe on held-out tasks, (E + 1, P): before any context and after each episode."""
    params = flat_params(evaluation.held_out)
    moments = range(evaluation.held_out.returns.shape[-1] + 1)
    return np.stack([r_squared(probe_predictions(evaluation, after), params) for after in moments])


def best_read(scores: Array, most: int) -> list[int]:
    """Which parameters to show of scores (E + 1, P): all in order, or the `most` best read in the end."""
    if scores.shape[1] <= most:
        return list(range(scores.shape[1]))
    order: list[int] = np.argsort(-scores[-1], kind="stable").tolist()  # not a number comes last
    return order[:most]


def flat_params(trials: Trials) -> Array:
    """The parameters of each trial's task, (tasks x trials, P), task by task."""
    return trials.params.repeat(trials.returns.shape[1], 0)


def _beliefs(trials: Trials, after: int) -> Array:
    return trials.belief_mean[:, :, after].reshape(-1, trials.belief_mean.shape[-1])


def _least_squares(beliefs: Array, targets: Array) -> tuple[Array, int]:
    """The smallest weights (M + 1, D), intercept last, and how many of their dimensions the beliefs fix."""
    weights, _, rank, _ = np.linalg.lstsq(_with_one(beliefs), targets, rcond=None)
    return weights.astype(np.float64), int(rank)


def _with_one(beliefs: Array) -> Array:
    return np.concatenate((beliefs, np.ones((len(beliefs), 1))), axis=1)
