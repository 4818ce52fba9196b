"""Which loss trains which network, and where the m of an update comes from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, changed, make_batch, make_learner, snapshot, tiny_config

from metaslac.acting.agent import Agent
from metaslac.config.sections import LATENT_KINDS
from metaslac.config.text import with_values
from metaslac.networks.context_encoder import Factors
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.training.trainer import MetaTrainer

ALL = {"encoder", "latent_model", "context_encoder", "actor", "critic", "target_critic", "log_alpha"}


CONTROLS = {"oracle": ALL - {"context_encoder"} | {"task_params"}, "blind": ALL - {"context_encoder"}}


@pytest.mark.parametrize("gradient", ["both", "critic", "model"])
def test_an_update_moves_every_network(gradient: str) -> None:
    learner = make_learner(tiny_config(gradient=gradient))
    before = snapshot(learner)
    metrics = learner.update(make_batch(learner.config))
    assert changed(learner, before) == ALL
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("actor_input", ["features", "latent"])
@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_an_update_moves_every_network_whatever_the_latent_model(kind: str, actor_input: str) -> None:
    values = {"model.kind": kind, "actor_critic.actor_input": actor_input, "train.extra_steps": 1}
    learner = make_learner(with_values(tiny_config(), values))
    before = snapshot(learner)
    metrics = learner.update(make_batch(learner.config))
    assert changed(learner, before) == ALL
    assert all(value.isfinite() for value in metrics.values())
    for name, weight in learner.networks.latent_model.named_parameters():
        assert not torch.equal(weight, before[f"latent_model.{name}"]), name


def test_every_window_may_be_a_window_of_the_model() -> None:
    config = tiny_config()
    config = replace(config, train=replace(config.train, model_windows=config.train.windows))
    learner = make_learner(config)
    before = snapshot(learner)
    learner.update(make_batch(config))
    assert changed(learner, before) == ALL


@pytest.mark.parametrize("inference", ["oracle", "blind"])
def test_the_controls_leave_the_context_encoder_alone(inference: str) -> None:
    learner = make_learner(tiny_config(inference=inference))
    before = snapshot(learner)
    learner.update(make_batch(learner.config))
    assert changed(learner, before) == CONTROLS[inference]


@pytest.mark.parametrize(
    ("gradient", "moved"),
    [("critic", {"encoder", "latent_model"}), ("model", {"encoder", "latent_model", "context_encoder"})],
)
def test_pretraining_moves_the_model_and_whom_it_trains(gradient: str, moved: set[str]) -> None:
    learner = make_learner(tiny_config(gradient=gradient))
    before = snapshot(learner)
    learner.pretrain(make_batch(learner.config))
    assert changed(learner, before) == moved
    assert learner.optimizers["model"].param_groups[0]["lr"] == learner.config.train.lr_model


@pytest.mark.parametrize("gradient", ["both", "critic", "model"])
@pytest.mark.parametrize("deaf", ["critic", "model"])
def test_task_gradient_selects_what_trains_the_context_encoder(gradient: str, deaf: str) -> None:
    """With the KL off and one objective's last layers at zero, only the other can move the encoder."""
    learner = make_learner(tiny_config(gradient=gradient, kl_weight=0.0))
    networks = learner.networks
    heads = {
        "critic": [networks.critic.q1, networks.critic.q2],
        "model": [networks.latent_model.reward.network, networks.latent_model.z1_prior.network],
    }
    with torch.no_grad():
        for head in heads[deaf]:
            head[-1].weight.zero_()
    for name in ("critic", "model"):  # or the heads would hear again after the first step
        learner.optimizers[name].param_groups[0]["lr"] = 0.0
    before = snapshot(learner)
    learner.update(make_batch(learner.config))
    assert ("context_encoder" in changed(learner, before)) == (gradient != deaf)


def test_actor_critic_steps_reach_of_the_model_its_reward_and_prior_heads_alone() -> None:
    learner = make_learner(tiny_config())
    batch = make_batch(learner.config)
    f = learner.networks.encoder(batch.windows.frames).detach()
    before = snapshot(learner)
    transitions = learner.task.read(batch.context)
    belief = learner.task.believe(transitions)
    seen = learner._see(f, batch.windows, learner.task.draw(belief, batch.params))
    learner._critic_step(seen.decisions(), seen.m, seen, learner.task.loss(belief, transitions))
    learner._actor_step(seen.decisions(), seen.m.detach())
    after = learner.networks.state_dict()
    moved = {".".join(name.split(".")[:2]) for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in moved if name.startswith(("encoder", "latent_model"))} == {
        "latent_model.reward",
        "latent_model.z1_prior",
    }


def test_predictions_beside_the_critics_have_the_weight_of_the_elbo() -> None:
    gradients = []
    for weight in (1.0, 10.0):
        config = with_values(tiny_config(gradient="model", kl_weight=0.0), {"model.elbo_weight": weight})
        learner = make_learner(with_values(config, {"train.steps_per_batch": 1}))
        for optimizer in learner.optimizers.values():
            optimizer.param_groups[0]["lr"] = 0.0
        learner.update(make_batch(config))  # its last step that context learns from is the critics'
        gradients.append([part.grad for part in learner.networks.context_encoder.parameters()])
    for one, ten in zip(*gradients, strict=True):
        assert one is not None and one.abs().max() > 0
        torch.testing.assert_close(10 * one, ten)


def test_the_kl_pulls_beliefs_towards_the_prior() -> None:
    kls = []
    for weight in (0.0, 100.0):
        config = tiny_config(kl_weight=weight, context_min=5)
        learner = make_learner(replace(config, train=replace(config.train, lr_context=0.03)))
        batch = make_batch(learner.config)
        for _ in range(15):
            metrics = learner.update(batch)
        kls.append(float(metrics["task/kl"]))
    assert kls[1] < 0.5 * kls[0]


def test_context_transitions_keep_their_order_in_time() -> None:
    learner = make_learner(tiny_config())
    context = make_batch(learner.config).context
    transitions = learner.task.read(context)
    assert transitions is not None
    tasks, segments, length = context.r.shape
    for k in range(tasks):
        for n in range(segments * length):
            s, t = divmod(n, length)
            f, f_next = learner.networks.encoder(context.frames[k, s, t : t + 2])
            torch.testing.assert_close(transitions.f[k, n], f)
            torch.testing.assert_close(transitions.f_next[k, n], f_next)
            assert transitions.r[k, n] == context.r[k, s, t]
            assert transitions.valid[k, n] == context.valid[k, s, t]
            assert torch.equal(transitions.a[k, n], context.a[k, s, t])


@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
def test_extra_steps_are_of_critics_actor_and_temperature_alone(inference: str) -> None:
    base = tiny_config(inference=inference)
    learners = {}
    for extra in (0, 3):
        learners[extra] = make_learner(replace(base, train=replace(base.train, extra_steps=extra)))
        before = snapshot(learners[extra])
        metrics = learners[extra].update(make_batch(base))
        assert all(value.isfinite() and not value.requires_grad for value in metrics.values())
    assert changed(learners[3], before) >= {"encoder", "latent_model", "critic", "actor"}
    differs = changed(learners[3], snapshot(learners[0]))
    assert differs == {"critic", "target_critic", "actor", "log_alpha"}
    for name in ("critic", "actor", "alpha"):
        taken = {float(state["step"]) for state in learners[3].optimizers[name].state.values()}
        assert taken == {base.train.steps_per_batch + 3}


def standard_factors(f: torch.Tensor, a: torch.Tensor, r: torch.Tensor, g: torch.Tensor) -> Factors:
    """Every factor N(0, I) over two dimensions, so that the precision counts them."""
    return Factors(torch.eye(2).expand(*r.shape, 2, 2), torch.zeros(*r.shape, 2))


def test_beliefs_in_training_use_between_the_fewest_and_the_most_transitions() -> None:
    config = tiny_config(context_min=2, context_max=5)
    learner = make_learner(config)
    batch = make_batch(config)
    transitions = learner.task.read(batch.context)
    assert transitions is not None
    learner.networks.context_encoder.forward = standard_factors
    counts = set()
    for _ in range(60):
        belief = learner.task.believe(transitions)
        assert belief is not None
        counts |= set((belief.precision[:, 0, 0] - 1).int().tolist())
    assert counts == {2, 3, 4, 5}


def test_a_transition_drawn_again_counts_once_in_a_belief() -> None:
    """The belief is that of a plain loop over the different ones, of segments drawn far too often."""
    config = tiny_config(context_segments=40, context_min=160, context_max=160, count_once=True)
    learner = make_learner(config)
    batch = make_batch(config)
    transitions = learner.task.read(batch.context)
    belief = learner.task.believe(transitions)
    assert transitions is not None and belief is not None
    counts, drawn = [], batch.context.valid.flatten(1)
    for k in range(len(drawn)):
        different = {}
        for n in drawn[k].nonzero()[:, 0].tolist():
            one = [part[k, n] for part in transitions[:4]]
            different.setdefault(tuple(torch.cat([part.flatten() for part in one]).tolist()), one)
        counts.append(len(different))
        factors = learner.networks.context_encoder(*map(torch.stack, zip(*different.values(), strict=True)))
        directions, values = (part.double().flatten(0, 1) for part in (factors.directions, factors.values))
        precision = torch.eye(2, dtype=torch.float64) + directions.mT @ directions
        torch.testing.assert_close(belief.precision[k], precision)
        torch.testing.assert_close(belief.shift[k], directions.mT @ values)
    assert counts == [6, 10, 12]  # all that tasks 3, 1 and 0 have
    assert drawn.sum(1).min() > 60  # and more often than that was drawn


def test_the_same_seed_gives_the_same_update() -> None:
    results = []
    for _ in range(2):
        learner = make_learner(tiny_config())
        learner.update(make_batch(learner.config))
        results.append(snapshot(learner))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_steps_are_full_and_then_fall_to_zero() -> None:
    config = tiny_config()
    config = replace(config, train=replace(config.train, lr_decay=0.25, lr_actor=0.8))
    learner = make_learner(config)
    seen = []
    for progress in (0.0, 0.75, 0.875, 1.0):
        learner.anneal(progress)
        seen.append(learner.optimizers["actor"].param_groups[0]["lr"])
    assert seen == pytest.approx([0.8, 0.8, 0.4, 0.0])
    constant = make_learner(tiny_config())
    constant.anneal(1.0)
    assert constant.optimizers["model"].param_groups[0]["lr"] == constant.config.train.lr_model


@pytest.mark.parametrize("gradient", ["both", "critic", "model"])
def test_an_oracle_learns_from_what_the_context_encoder_would(gradient: str) -> None:
    learner = make_learner(tiny_config(inference="oracle", gradient=gradient))
    before = snapshot(learner)
    learner.pretrain(make_batch(learner.config))
    assert ("task_params" in changed(learner, before)) is (gradient != "critic")
    before = snapshot(learner)
    learner.update(make_batch(learner.config))
    assert "task_params" in changed(learner, before)


def test_an_oracle_sees_standardised_parameters_and_acts_on_what_it_learned_with() -> None:
    config = tiny_config(inference="oracle")
    networks = MetaSLAC(config, 1, 3)
    train = torch.tensor([[0.0, 5.0, -1.0], [1.0, 5.0, 1.0], [5.0, 5.0, -1.0], [2.0, 5.0, 1.0]])
    networks.task_params.fit(train)
    unseen = torch.tensor([[3.0, 6.0, 0.5]])
    m = networks.task_params(unseen)
    # mean (2, 5, 0), standard deviation (sqrt(14) / 2, none, 1)
    expected = networks.task_params.network(torch.tensor([[2 / 14**0.5, 1.0, 0.5]]))
    torch.testing.assert_close(m, expected)
    agent = Agent.from_networks(config, networks, 1, 3)
    agent.begin_task(1, unseen.double().numpy())
    agent.begin_episode(np.zeros((1, 32, 32, 3), np.uint8), [np.random.default_rng(0)])
    assert torch.equal(agent.m, m) and m.shape == (1, config.task.size)
    copy = MetaSLAC(config, 1, 3)
    copy.load_state_dict(networks.state_dict())
    assert torch.equal(copy.task_params(unseen), m)


def test_a_training_standardises_by_its_training_tasks() -> None:
    family = FakeFamily()
    trainer = MetaTrainer(tiny_config(inference="oracle"), family, CPU)
    params = np.array([task.params for task in family.train_tasks])
    maker = trainer.learner.networks.task_params
    np.testing.assert_allclose(maker.mean.numpy(), params.mean(0), rtol=1e-6)
    np.testing.assert_allclose(maker.std.numpy(), params.std(0), rtol=1e-6)
