"""The linear probe against scipy and closed forms."""

import numpy as np
from fakes import evaluation
from scipy.stats import linregress

from metaslac.evidence.evaluation_file import Evaluation, Trials
from metaslac.evidence.probe import best_read, linear_probe, probe_predictions, probe_scores, r_squared


def test_in_one_dimension_it_is_linear_regression() -> None:
    rng = np.random.default_rng(0)
    beliefs, new = rng.normal(size=(50, 1)), rng.normal(size=(20, 1))
    params = 3 * beliefs - 2 + rng.normal(size=(50, 1))
    fit = linregress(beliefs[:, 0], params[:, 0])
    np.testing.assert_allclose(linear_probe(beliefs, params, new), fit.intercept + fit.slope * new)
    np.testing.assert_allclose(r_squared(linear_probe(beliefs, params, beliefs), params), fit.rvalue**2)


def test_beliefs_that_say_nothing_predict_the_training_mean() -> None:
    params = np.array([[1.0], [2.0], [6.0]])
    predictions = linear_probe(np.zeros((3, 4)), params, np.zeros((2, 4)))
    np.testing.assert_allclose(predictions, 3.0)
    held_out = np.array([[4.0], [6.0]])  # about 5: the squared error is 10, their own 2
    np.testing.assert_allclose(r_squared(predictions, held_out), 1 - 10 / 2)


def test_a_parameter_that_never_differs_has_no_score() -> None:
    for value in (1.0, 0.1):  # whose mean is not it, to the last bit
        assert np.isnan(r_squared(np.zeros((30, 1)), np.full((30, 1), value))).all()


def knowing(trials: Trials) -> Trials:
    """Beliefs that know nothing at first, the first parameter after an episode and both after two."""
    params = trials.params[:, None].repeat(trials.returns.shape[1], 1)
    trials.belief_mean[:] = 0
    trials.belief_mean[:, :, 1:, 0] = 2 * params[:, :, None, 0] + 1
    trials.belief_mean[:, :, 2, 1] = params[..., 1] - params[..., 0]
    return trials


def test_scores_are_per_moment_and_parameter_and_of_held_out_tasks() -> None:
    given = evaluation()
    assert given.training is not None
    known = Evaluation(given.about, knowing(given.held_out), knowing(given.training))
    scores = probe_scores(known)
    assert scores.shape == (3, 2)
    assert (scores[0] <= 0).all()  # the mean of the training tasks is not that of the held-out ones
    np.testing.assert_allclose(scores[1, 0], 1)
    assert scores[1, 1] < 0.9
    np.testing.assert_allclose(scores[2], 1)
    predictions = probe_predictions(known, 2).reshape(4, 3, 2)
    np.testing.assert_allclose(predictions[:, 1], given.held_out.params)


def test_of_many_parameters_those_read_best_in_the_end_are_shown() -> None:
    scores = np.array([[0.9, 0.9, 0.9, 0.9], [0.1, np.nan, 0.3, 0.2]])
    assert best_read(scores, 2) == [2, 3]
    assert best_read(scores, 4) == [0, 1, 2, 3]
