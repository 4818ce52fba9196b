"""Roll-outs in latent space: on a linear-Gaussian model, by hand; what is mixed, and what learns from it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from fakes import make_batch, make_learner, tiny_config
from torch import Tensor
from torch.distributions import Normal

from metaslac.config.imagination import PENALTIES
from metaslac.config.sections import Config
from metaslac.config.text import from_dict, to_dict, with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.learning import imagination as imagination_module
from metaslac.learning.batch import Decisions, Seen
from metaslac.learning.imagination import Imagination, imagined_beside
from metaslac.learning.learner import Learner
from metaslac.learning.objectives import soft_policy

DOUBLE = torch.float64
Z, ACTIONS, TASK, HEADS, HORIZON = 2, 1, 2, 3, 4
FAR = 50.0  # what is added before an activation and taken away after it: there it is the identity
ON = {"actor_critic.actor_input": "latent", "imagination.share": 0.5, "imagination.horizon": HORIZON}
LINEAR = {**ON, "model.kind": "filtering", "model.z2_size": Z, "model.hidden_size": 8, "model.heads": HEADS}


def imagining(**settings: Any) -> Config:
    config = with_values(tiny_config(), {**ON, **settings})
    validate(config)
    return config


class Linear(NamedTuple):
    """N(matrix x + offset, std^2) of inputs x."""

    matrix: Tensor  # (outputs, inputs)
    offset: Tensor  # (outputs,)
    std: Tensor  # (outputs,)

    def at(self, *x: Tensor) -> Normal:
        return Normal(self.matrix @ torch.cat(x) + self.offset, self.std)


def drawn_linear(outputs: int, inputs: int, generator: torch.Generator) -> Linear:
    matrix = 0.5 * torch.randn(outputs, inputs, dtype=DOUBLE, generator=generator)
    offset = torch.randn(outputs, dtype=DOUBLE, generator=generator)
    return Linear(matrix, offset, 0.2 + torch.rand(outputs, dtype=DOUBLE, generator=generator))


@torch.no_grad()
def set_layers(weights: list[Tensor], biases: list[Tensor], to: Linear, raw_std: Tensor) -> None:
    """An MLP of two hidden layers, (outputs, inputs) each, made linear; its spread the same everywhere."""
    outputs, inputs = to.matrix.shape
    for weight, bias in zip(weights, biases, strict=True):
        weight.zero_()
        bias.zero_()
    hidden = torch.arange(inputs)
    weights[0][hidden, hidden], weights[1][hidden, hidden] = 1.0, 1.0
    biases[0][:inputs] = FAR
    weights[2][:outputs, :inputs] = to.matrix
    biases[2][:outputs] = to.offset - FAR * to.matrix.sum(1)
    biases[2][outputs:] = raw_std


def before_softplus(std: Tensor) -> Tensor:
    return torch.expm1(std - 1e-5).log()


class World:
    """A learner whose actor and latent model are linear, and what they are."""

    def __init__(self, **settings: Any) -> None:
        self.learner = make_learner(imagining(**{**LINEAR, **settings}))
        self.networks, generator = self.learner.networks.double(), torch.Generator().manual_seed(5)
        step = ACTIONS + TASK
        self.heads = [drawn_linear(Z, Z + step, generator) for _ in range(HEADS)]
        self.reward = drawn_linear(1, 2 * Z + step, generator)
        self.policy = drawn_linear(ACTIONS, Z + TASK, generator)
        model = self.networks.latent_model
        for k, head in enumerate(self.heads):
            layers = (
                [layer[k] for layer in stack] for stack in (model.z_prior.weights, model.z_prior.biases)
            )
            set_layers(*layers, head, before_softplus(head.std))
        for network, to, raw in (
            (model.reward.network, self.reward, before_softplus(self.reward.std)),
            (self.networks.actor.network, self.policy, self.policy.std.log()),
        ):
            linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
            set_layers([layer.weight for layer in linear], [layer.bias for layer in linear], to, raw)
        self.imagination = Imagination(self.networks, self.learner.config, self.learner.chance)


def disagreement(penalty: str, heads: list[Normal], z_next: Tensor) -> float:
    """u of one decision, number by number."""
    if penalty == "log_prob":
        said = [float(head.log_prob(z_next).sum()) for head in heads]
        middle = sum(said) / len(said)
        return math.sqrt(sum((value - middle) ** 2 for value in said) / len(said))
    if penalty == "max_var":
        return max(math.hypot(*head.stddev.tolist()) for head in heads)
    if penalty == "mean":
        middle = [sum(head.mean[i].item() for head in heads) / len(heads) for i in range(Z)]
        return sum(math.dist(head.mean.tolist(), middle) for head in heads) / len(heads)
    return 0.0


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("penalty", ["none", "log_prob", "max_var", "mean"])
def test_a_roll_out_is_that_of_a_loop_over_starts_and_steps(
    penalty: str, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents, actions and penalised rewards of a linear-Gaussian model, all random numbers known."""
    world = World(
        **{
            "imagination.penalty": penalty,
            "imagination.penalty_weight": 3.0,
            "actor_critic.deterministic": deterministic,
            "actor_critic.action_noise": 0.7,
        }
    )
    drawn: list[Tensor] = []
    monkeypatch.setattr(
        world.learner.chance,
        "normal",
        lambda *shape, axis: drawn.append(torch.randn(shape, dtype=DOUBLE)) or drawn[-1],
    )
    heads = torch.tensor([1, 0, 2, 1])
    monkeypatch.setattr(world.learner.chance, "heads", lambda count, steps: heads)
    generator = torch.Generator().manual_seed(6)
    z, m = (torch.randn(5, n, dtype=DOUBLE, generator=generator) for n in (Z, TASK))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        decisions, told = world.imagination.roll_out(z, m)
    to_act, noise = drawn
    rewards, penalties, n = [], [], 0
    for i in range(5):
        now = z[i]
        for t in range(HORIZON):
            policy = world.policy.at(now, m[i])
            if deterministic:
                a = (policy.mean.tanh() + 0.7 * to_act[t, i]).clamp(-1, 1)
            else:
                a = (policy.mean + policy.stddev * to_act[t, i]).tanh()
            said = [head.at(now, a, m[i]) for head in world.heads]
            one = said[int(heads[t])]
            following = one.mean + one.stddev * noise[t, i]
            rewards.append(float(world.reward.at(now, a, following, m[i]).mean))
            penalties.append(disagreement(penalty, said, following))
            torch.testing.assert_close(decisions.z[n], now)
            torch.testing.assert_close(decisions.a[n], a[None])
            torch.testing.assert_close(decisions.z_next[n], following)
            assert float(decisions.r[n]) == pytest.approx(rewards[-1] - 3 * penalties[-1])
            now, n = following, n + 1
    assert len(decisions.r) == n and not decisions.terminated.any() and not decisions.real.any()
    assert float(told["imagination/reward"]) == pytest.approx(sum(rewards) / n)
    assert float(told["imagination/penalty"]) == pytest.approx(sum(penalties) / n)
    assert (min(penalties) > 0) == (penalty != "none")


def test_expected_rewards_and_spread_are_the_linear_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """E z_{t+1} = A E z_t + B a + C m + c, Cov z_{t+1} = A Cov z_t A' + S, if all actions are a."""
    world = World(**{"actor_critic.deterministic": True, "actor_critic.action_noise": 0.0})
    with torch.no_grad():
        world.networks.actor.network[-1].weight.zero_()
        world.networks.actor.network[-1].bias.fill_(0.4)
    heads = [2, 0, 2, 1]
    monkeypatch.setattr(world.learner.chance, "heads", lambda count, steps: torch.tensor(heads))
    count = 20_000
    start, m, a = torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0]), torch.tensor([math.tanh(0.4)])
    start, m, a = start.to(DOUBLE), m.to(DOUBLE), a.to(DOUBLE)
    decisions, _ = world.imagination.roll_out(start.expand(count, -1), m.expand(count, -1))
    r, z_next = decisions.r.unflatten(0, (count, -1)), decisions.z_next.unflatten(0, (count, -1))
    mean, covariance = start, torch.zeros(Z, Z, dtype=DOUBLE)
    for t, k in enumerate(heads):
        head = world.heads[k]
        following = head.at(mean, a, m).mean
        expected = float(world.reward.at(mean, a, following, m).mean)
        assert float(r[:, t].mean()) == pytest.approx(
            expected, abs=5 * float(r[:, t].std()) / count**0.5 + 1e-9
        )
        covariance = head.matrix[:, :Z] @ covariance @ head.matrix[:, :Z].T + head.std.square().diag()
        torch.testing.assert_close(z_next[:, t].T.cov(), covariance, rtol=0.05, atol=0.02)
        mean = following


def seen_of(learner: Learner, terminates: bool = False) -> Seen:
    """All windows of a batch, as a step of critics sees them; m differs from task to task."""
    batch = make_batch(learner.config, terminates)
    m = torch.arange(6.0).view(3, 2).requires_grad_()
    return learner._see(learner.networks.encoder(batch.windows.frames).detach(), batch.windows, m)


@pytest.mark.parametrize(("share", "imagined"), [(0.5, 4), (0.2, 1), (0.75, 12), (0.9, 36), (0.01, 1)])
def test_there_are_as_many_imagined_decisions_as_their_share_says(share: float, imagined: int) -> None:
    learner = make_learner(imagining(**{"imagination.share": share}))
    seen = seen_of(learner)  # four windows of each of three tasks
    decisions, m, _ = Imagination(learner.networks, learner.config, learner.chance).beside(seen, 3)
    real, played = decisions.real.view(3, -1), seen.decisions()
    assert real.sum(1).tolist() == [4] * 3 and (~real).sum(1).tolist() == [imagined] * 3
    assert imagined == imagined_beside(4, learner.config.imagination)
    assert torch.equal(m.detach(), torch.arange(6.0).view(3, 2).repeat_interleave(4 + imagined, 0))
    for name in ("z", "z_next", "r", "terminated"):
        assert torch.equal(getattr(decisions, name)[decisions.real], getattr(played, name)), name
    assert torch.equal(decisions.a[decisions.real][:, 0], played.a[:, -1])


def test_imagined_decisions_are_of_all_steps_of_roll_outs_and_roll_outs_of_all_real_latents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model's latents count steps: each is that before it and one."""
    learner = make_learner(imagining(**{"imagination.share": 0.95}))
    model = learner.networks.latent_model
    monkeypatch.setattr(model, "complete", lambda first, z, a, m, noise: z + 1)
    seen = seen_of(learner, terminates=True)
    assert not seen.windows.valid.all() and seen.windows.terminated.any()
    numbers = torch.arange(float(seen.windows.valid.numel())).view_as(seen.windows.valid) * 1_000
    latents = numbers[..., None].expand(-1, -1, 7)
    seen = seen._replace(posterior=seen.posterior._replace(layers=(latents,)))
    imagination, begun, depths = Imagination(learner.networks, learner.config, learner.chance), set(), set()
    for _ in range(20):
        decisions, _, _ = imagination.beside(seen, 3)
        imagined = decisions.z[~decisions.real][:, 0]
        begun |= set((imagined // 1_000).long().tolist())
        depths |= set((imagined % 1_000).long().tolist())
        tasks = torch.arange(3).repeat_interleave(len(imagined) // 3)
        assert torch.equal((imagined // 1_000).long() // (numbers.numel() // 3), tasks)
    allowed = seen.windows.valid.clone()
    allowed[:, -1] &= ~seen.windows.terminated
    allowed[:, 0] = False  # filtered from one frame, though others were before it
    assert begun == set((numbers[allowed] // 1_000).long().tolist())
    assert depths == set(range(HORIZON))


ENSEMBLE = {"model.heads": 3, "imagination.penalty": "log_prob"}


@pytest.mark.parametrize("settings", [{}, ENSEMBLE, {"train.extra_steps": 2}])
def test_no_gradient_of_critics_or_actor_reaches_model_or_encoder(settings: dict[str, Any]) -> None:
    learner = make_learner(imagining(**{"train.predict_with_critics": False, **settings}))
    networks, seen = learner.networks, seen_of(learner)
    decisions, m, _ = learner._decisions(seen, 3)
    parts = [part for name, part in decisions._asdict().items() if part is not None and name != "real"]
    assert not any(part.requires_grad for part in parts)
    for parameter in networks.parameters():
        parameter.grad = None
    loss = learner._bellman(decisions, m).value
    noise = torch.zeros(len(m), ACTIONS)
    (actor_loss, _), _ = soft_policy(networks, learner.config.actor_critic, decisions, m.detach(), noise)
    (loss + actor_loss).backward()
    assert all(p.grad is not None for p in [*networks.actor.parameters(), *networks.critic.parameters()])
    assert not [name for name, p in networks.named_parameters() if p.grad is not None and "model" in name]
    assert all(parameter.grad is None for parameter in networks.encoder.parameters())
    assert seen.m.grad_fn is not None


def test_imagined_decisions_train_critics_but_not_the_inference_of_m() -> None:
    """The gradient of m is that of the real decisions alone, over all of them."""
    learner = make_learner(imagining())
    seen = seen_of(learner)
    decisions, m, _ = learner._decisions(seen, 3)
    learner.chance.generator.manual_seed(3)
    loss = learner._bellman(decisions, m).value
    (mine,) = torch.autograd.grad(loss, seen.m)
    leaf = m.detach().requires_grad_()
    learner.chance.generator.manual_seed(3)
    (every,) = torch.autograd.grad(learner._bellman(decisions, leaf).value, leaf)
    torch.testing.assert_close(
        mine.view(3, 4, 2).sum(1), (every * decisions.real[:, None]).view(3, 8, 2).sum(1)
    )
    assert every[~decisions.real].abs().min() > 0


def of_task(decisions: Decisions) -> list[int]:
    """How many were played and how many imagined, of each of three tasks."""
    real = decisions.real.view(3, -1)
    return [*real.sum(1).tolist(), *(~real).sum(1).tolist()]


def test_a_whole_update_imagines_in_each_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(imagining(**ENSEMBLE, **{"train.extra_steps": 2, "imagination.share": 0.75}))
    made: list[list[int]] = []
    original = learner._bellman
    monkeypatch.setattr(learner, "_bellman", lambda d, m: made.append(of_task(d)) or original(d, m))
    metrics = learner.update(make_batch(learner.config))
    assert made == [[2] * 3 + [6] * 3] * 4  # in extra steps too: two windows of each task, six imagined
    assert metrics["imagination/penalty"] > 0 and metrics["imagination/reward"].isfinite()
    assert not [
        name
        for name in make_learner(tiny_config()).update(make_batch(tiny_config()))
        if "imagination" in name
    ]


def test_the_same_seed_imagines_the_same() -> None:
    config = imagining(**ENSEMBLE)
    one, other = (make_learner(config).update(make_batch(config)) for _ in range(2))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"actor_critic.actor_input": "features"}, "actor_critic.actor_input=latent"),
        ({"actor_critic.critic_input": "latent_features"}, "actor_critic.critic_input=latent"),
        ({"model.kind": "vae"}, "model.kind of slac, filtering, partially_stochastic, deterministic"),
        ({"train.cloning": True}, "train.cloning=false"),
        ({"imagination.penalty": "mean"}, "model.heads above 1"),
        ({"model.heads": 2, "model.kind": "deterministic"}, "slac, filtering, partially_stochastic"),
        ({"model.heads": 2, "model.kind": "vae", "imagination.share": 0.0}, "slac, filtering"),
        ({"imagination.share": 1.0}, "at most 0.95"),
        ({"imagination.penalty": "variance"}, "one of none, log_prob, max_var, mean"),
    ],
)
def test_what_cannot_be_imagined_is_refused_in_a_line(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(MetaslacError) as error:
        imagining(**settings)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_runs_from_before_imagined_nothing() -> None:
    values = to_dict(tiny_config())
    del values["imagination"], values["model"]["heads"], values["model"]["prior_std_min"]
    assert from_dict(values) == tiny_config() and not tiny_config().imagination.share


def test_every_penalty_that_can_be_chosen_is_there() -> None:
    assert ("none", *imagination_module.PENALTIES) == PENALTIES
