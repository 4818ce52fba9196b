"""The linear probe against scipy and closed forms."""

import numpy as np
from fakes import evaluation
from scipy.stats import linregress

from metaslac.evidence.evaluation_file import Evaluation, Trials
from metaslac.evidence.probe import (
    best_read,
    linear_probe,
    probe_predictions,
    probe_scores,
    r_squared,
    step_probes,
)


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


def test_before_any_evidence_a_belief_reads_as_the_mean_of_the_tasks_and_their_spread() -> None:
    targets = np.random.default_rng(0).normal(size=(40, 2))
    mean, covariance = step_probes([np.zeros((1, 3))] * 40, targets).read(np.zeros(3), 0)
    np.testing.assert_allclose(mean, targets.mean(0))
    np.testing.assert_allclose(covariance, np.cov(targets.T))


def test_each_step_has_its_own_probe_whose_errors_say_how_far_off_it_is() -> None:
    rng = np.random.default_rng(1)
    targets = rng.uniform(-1, 1, (4_000, 2))
    mixes, noises = rng.normal(size=(3, 2, 2)), (0.5, 0.2, 0.05)
    read = [targets + noise * rng.normal(size=targets.shape) for noise in noises]
    beliefs = np.stack(
        [part @ mix + step for step, (part, mix) in enumerate(zip(read, mixes, strict=True))], 1
    )
    probes = step_probes(list(beliefs[:2_000]), targets[:2_000])
    for step, noise in enumerate(noises):
        errors = [
            target - probes.read(belief[step], step)[0]
            for target, belief in zip(targets[2_000:], beliefs[2_000:], strict=True)
        ]
        covariance = probes.read(beliefs[0, step], step)[1]
        np.testing.assert_allclose(covariance, np.cov(np.transpose(errors)), atol=0.06 * covariance.max())
        best = 1 / (1 / noise**2 + 3)  # of what is uniform, variance 1 / 3, seen through such noise
        np.testing.assert_allclose(np.diag(covariance), best, rtol=0.1)


def test_a_trial_that_is_over_stays_as_it_ended_and_so_do_the_probes() -> None:
    targets = np.array([[1.0], [2.0], [3.0]])
    short, long = np.array([[0.0], [2.0]]), [np.array([[0.0], [9.0], [row]]) for row in (4.0, 6.0)]
    probes = step_probes([short, *long], targets)
    assert probes.weights.shape == (3, 2, 1)
    np.testing.assert_allclose(probes.read(np.array([5.0]), 2)[0], 2.5)
    np.testing.assert_allclose(probes.read(np.array([5.0]), 7)[0], 2.5)
