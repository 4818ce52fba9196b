"""An oracle's m: what its network is shown of true task parameters."""

from __future__ import annotations

import warnings

import pytest
import torch

from metaslac.networks.meta_slac import TaskParams


def test_parameters_are_standardised_by_the_training_tasks() -> None:
    shown = TaskParams(2, 8, 3)
    params = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    shown.fit(params)
    assert shown.mean.tolist() == [2.0, 5.0] and shown.std.tolist() == [1.0, 1.0]
    torch.testing.assert_close(shown(params), shown.network(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])))


@pytest.mark.parametrize(("tasks", "size"), [(1, 0), (3, 0), (1, 2)])
def test_where_tasks_do_not_differ_parameters_are_centred_and_nothing_is_warned_of(
    tasks: int, size: int
) -> None:
    shown, params = TaskParams(size, 8, 3), torch.full((tasks, size), 2.5)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # or only the first test to lead to it would be told
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shown.fit(params)
    finally:
        torch.set_warn_always(always)
    assert shown.mean.tolist() == [2.5] * size and shown.std.tolist() == [1.0] * size
    assert shown(params).shape == (tasks, 3)


@pytest.mark.parametrize("value", [0.1, 0.3, 123.456])
def test_a_parameter_that_never_differs_is_centred_however_its_mean_is_rounded(value: float) -> None:
    shown = TaskParams(1, 8, 3)
    for tasks in (7, 40, 1_000):
        shown.fit(torch.full((tasks, 1), value))
        assert shown.std.item() == 1.0 and shown.mean.item() == torch.tensor(value).item()
