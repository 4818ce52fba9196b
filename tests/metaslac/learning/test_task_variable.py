"""What inference leaves for those that act: the beliefs of training tasks, each from all its context."""

import pytest
import torch
from fakes import make_learner, tiny_config

from metaslac.config.text import with_values
from metaslac.learning.batch import Transitions
from metaslac.networks.context_encoder import TaskBelief

TASKS, COUNT, FEATURES = 2, 6, 8
CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [TASKS, 5])
def test_beliefs_from_all_valid_transitions_are_remembered(size: int) -> None:
    settings = {"task.prior_beliefs": size, "task.context_min": 1, "task.context_max": 1}
    settings |= {"train.tasks_per_update": TASKS}
    learner = make_learner(with_values(tiny_config(), settings))
    config, networks = learner.config, learner.networks
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    seen = []
    for _ in range(3):
        valid = torch.rand(TASKS, COUNT, generator=generator) < 0.7
        f_size = config.model.feature_size
        parts = normal(TASKS, COUNT, f_size), normal(TASKS, COUNT, 1), normal(TASKS, COUNT)
        transitions = Transitions(*parts, normal(TASKS, COUNT, f_size), valid, valid.sum(1))
        drawn_from = learner.task.believe(transitions)
        assert drawn_from is not None
        for task in range(TASKS):
            rows = valid[task].nonzero()[:, 0]
            factors = networks.context_encoder(*(part[task, rows][None] for part in transitions[:4]))
            belief = TaskBelief.prior(1, config.task.size, True, CPU).update(factors)
            seen.append(belief.gaussian.mean[0].detach())
            assert (belief.precision - drawn_from.precision[task]).diagonal(dim1=1, dim2=2).min() >= -1e-9
    prior = networks.task_prior
    assert prior is not None and not prior.means.requires_grad
    last = torch.stack(seen[-min(size, len(seen)) :])
    nearest = torch.cdist(last, prior.means).amin(1)
    assert nearest.max() < 1e-5


@pytest.mark.parametrize("inference", ["oracle", "blind"])
def test_those_that_infer_nothing_remember_nothing(inference: str) -> None:
    config = with_values(tiny_config(inference=inference), {"task.prior_beliefs": 5})
    assert make_learner(config).networks.task_prior is None
