"""What inference leaves for those that act: the beliefs of training tasks, each from all its context."""

import pytest
import torch
from fakes import make_batch, make_learner, snapshot, tiny_config
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from metaslac.config.text import with_values
from metaslac.networks.context_encoder import TaskBelief
from metaslac.replay.experience import Context

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
        transitions = learner.task.read(
            Context(
                None,
                a=normal(TASKS, COUNT, 1, 1),
                r=normal(TASKS, COUNT, 1),
                valid=valid[..., None],
                distinct=valid.sum(1),
                f=normal(TASKS, COUNT, 2, config.model.feature_size),
            )
        )
        assert transitions is not None
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


@pytest.mark.parametrize("pretrains", [False, True])
def test_an_update_leaves_one_belief_of_each_of_its_tasks(pretrains: bool) -> None:
    """However many steps it infers m for: all of them are of the same tasks and contexts."""
    settings = {"task.prior_beliefs": 20, "train.steps_per_batch": 4, "train.extra_steps": 2}
    config = with_values(tiny_config(), settings)
    learner, batch = make_learner(config), make_batch(config)
    prior = learner.networks.task_prior
    assert prior is not None
    for updates in (1, 2):
        (learner.pretrain if pretrains else learner.update)(batch)
        assert int(prior.seen) == updates * config.train.tasks_per_update


@pytest.mark.parametrize("inference", ["oracle", "blind"])
def test_those_that_infer_nothing_remember_nothing(inference: str) -> None:
    config = with_values(tiny_config(inference=inference), {"task.prior_beliefs": 5})
    assert make_learner(config).networks.task_prior is None


def test_the_loss_of_a_belief_is_its_kl_and_what_it_foretells() -> None:
    """By torch.distributions, one transition of the context at a time; both train both networks."""
    settings = {"task.prior_beliefs": 20, "task.reward_std": 0.4, "task.kl_weight": 0.3}
    config = with_values(tiny_config(), settings)
    learner, batch = make_learner(config), make_batch(config)
    transitions = learner.task.read(batch.context)
    belief = learner.task.believe(transitions)
    assert belief is not None and transitions is not None
    generator = learner.chance.generator.get_state()
    m = learner.task.draw(belief, batch.params)
    learner.chance.generator.set_state(generator)
    loss = learner.task.loss(belief, transitions)
    prior = learner.networks.task_prior
    assert loss is not None and prior is not None and prior.reward is not None
    expected = []
    for task, valid in enumerate(transitions.valid):
        posterior = MultivariateNormal(
            torch.linalg.solve(belief.precision[task], belief.shift[task]),
            precision_matrix=belief.precision[task],
        )
        size = config.task.size
        standard = MultivariateNormal(torch.zeros(size).double(), torch.eye(size).double())
        errors = []
        for step in valid.nonzero()[:, 0]:
            f, a, r, f_next = (part[task, step] for part in transitions[:4])
            told = prior.reward.network(torch.cat((f, a, f_next, m[task])))[0]
            constant = Normal(0.0, 0.4).log_prob(torch.tensor(0.0))
            errors.append(constant - Normal(told, 0.4).log_prob(r))
        expected.append(0.3 * kl_divergence(posterior, standard) + torch.stack(errors).mean())
    torch.testing.assert_close(loss.value.double(), torch.stack(expected).mean().double())
    foretold = loss.value.detach() - 0.3 * loss.parts["task/kl"]
    torch.testing.assert_close(loss.parts["task/reward"], foretold, rtol=1e-4, atol=0.0)
    before = snapshot(learner)
    learner.update(batch)
    after = learner.networks.state_dict()
    rewards = [name for name in before if name.startswith("task_prior.reward")]
    assert rewards and not any(torch.equal(before[name], after[name]) for name in rewards)
