"""An oracle's m: what its network is shown of true task parameters."""

from __future__ import annotations

import warnings

import torch

from metaslac.networks.meta_slac import TaskParams


def test_parameters_are_standardised_by_the_training_tasks() -> None:
    shown = TaskParams(2, 8, 3)
    params = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    shown.fit(params)
    assert shown.mean.tolist() == [2.0, 5.0] and shown.std.tolist() == [1.0, 1.0]
    torch.testing.assert_close(shown(params), shown.network(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])))


def test_of_one_training_task_parameters_are_only_centred_and_nothing_is_warned_of() -> None:
    shown = TaskParams(2, 8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown.fit(torch.tensor([[2.0, -1.0]]))
    assert shown.mean.tolist() == [2.0, -1.0] and shown.std.tolist() == [1.0, 1.0]
