"""Several heads for the next latent: what each says, which one counts at a step, and what one alone draws."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from metaslac.config.sections import ENSEMBLES, ModelConfig
from metaslac.learning.generators import Chance
from metaslac.networks.latent_models.base import LatentModel, Posterior
from metaslac.networks.latent_models.conditionals import Delta
from metaslac.networks.latent_models.make import make_latent_model

FEATURES, Z1, Z2, ACTIONS, TASK, HEADS = 4, 3, 5, 2, 2, 3
WINDOWS, STEPS = 4, 6  # frames of a window
DOUBLE = torch.float64


def build(kind: str, heads: int = HEADS, std_min: float = 1e-5) -> LatentModel:
    config = ModelConfig(
        kind=kind,
        heads=heads,
        prior_std_min=std_min,
        base_depth=1,
        feature_size=FEATURES,
        z1_size=Z1,
        z2_size=Z2,
        hidden_size=7,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make_latent_model(config, 32, ACTIONS, TASK)
        assert model is not None
        model.double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def prior_weights(model: LatentModel) -> dict[str, Tensor]:
    name = "z_prior." if model.config.kind == "filtering" else "z1_prior."
    return {key.removeprefix(name): p for key, p in model.named_parameters() if key.startswith(name)}


def head_by_hand(weights: dict[str, Tensor], k: int, x: Tensor, std_min: float = 1e-5) -> Normal:
    """Head k's Gaussian of one row of inputs, layer by layer."""
    for layer in range(3):
        x = weights[f"weights.{layer}"][k] @ x + weights[f"biases.{layer}"][k]
        if layer < 2:
            x = torch.where(x > 0, x, 0.2 * x)
    mean, raw = x.chunk(2)
    return Normal(mean, F.softplus(raw) + std_min)


class Given:
    """Windows with a restart in some, and what was inferred from them."""

    def __init__(self, model: LatentModel) -> None:
        generator = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=DOUBLE, generator=generator)

        self.a, self.m = normal(WINDOWS, STEPS - 1, ACTIONS), normal(WINDOWS, TASK)
        self.restart = torch.zeros(WINDOWS, STEPS, dtype=torch.bool)
        self.restart[:, 0] = self.restart[1, :3] = self.restart[2, 4] = True
        noise = normal(WINDOWS, STEPS, model.noise_size)
        f = normal(WINDOWS, STEPS, FEATURES)
        self.posterior: Posterior = model.infer(f, self.a, self.m, self.restart, noise)
        self.posterior = self.posterior._replace(layers=tuple(z.detach() for z in self.posterior.layers))
        self.posterior = self.posterior._replace(
            q=type(self.posterior.q)(*map(Tensor.detach, self.posterior.q))
        )

    def carried(self, kind: str) -> Tensor:
        return self.posterior.layers[0 if kind == "filtering" else 1]


@pytest.mark.parametrize("std_min", [1e-5, 0.1])
@pytest.mark.parametrize("kind", ENSEMBLES)
def test_the_kl_of_each_step_is_on_the_head_that_was_drawn_for_it(kind: str, std_min: float) -> None:
    """Against a loop over windows and steps; heads that were not drawn have no gradient."""
    model = build(kind, std_min=std_min)
    given, weights = Given(model), prior_weights(model)
    heads = torch.tensor([2, 0, 2, 2, 0])
    posterior = given.posterior._replace(heads=heads)
    kl = model.kl(posterior, given.a, given.m, given.restart)
    gradients = torch.autograd.grad(kl.sum(), list(weights.values()))
    expected = torch.zeros(WINDOWS, STEPS, dtype=DOUBLE)
    for i in range(WINDOWS):
        for t in range(STEPS):
            q = Normal(posterior.q.mean[i, t], posterior.q.std[i, t])
            if t == 0 or given.restart[i, t]:
                p = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
            else:
                past = torch.cat((given.carried(kind)[i, t - 1], given.a[i, t - 1], given.m[i]))
                p = head_by_hand(weights, int(heads[t - 1]), past, std_min)
            expected[i, t] = kl_divergence(q, p).sum()
    torch.testing.assert_close(kl, expected)
    by_hand = torch.autograd.grad(expected.sum(), list(weights.values()))
    for mine, its in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(mine, its)
        assert not mine[1].any() and mine[0].any() and mine[2].any()


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_a_step_of_a_roll_out_is_predicted_by_all_heads_and_made_by_one(kind: str) -> None:
    model = build(kind)
    weights, generator = prior_weights(model), torch.Generator().manual_seed(4)
    z, a, m = (
        torch.randn(3, n, dtype=DOUBLE, generator=generator) for n in (model.latent_size, ACTIONS, TASK)
    )
    noise = torch.randn(3, model.noise_size, dtype=DOUBLE, generator=generator)
    said = model.predict(z, a, m)
    first = model.sizes[0]
    for k in range(HEADS):
        for i in range(3):
            by_hand = head_by_hand(weights, k, torch.cat((z[i, -Z2:], a[i], m[i])))
            torch.testing.assert_close(said.mean[k, i], by_hand.mean)
            torch.testing.assert_close(said.std[k, i], by_hand.stddev)
        following = model.advance(z, a, m, noise, torch.tensor(k))
        torch.testing.assert_close(following[:, :first], said.mean[k] + said.std[k] * noise[:, :first])
    assert torch.equal(model.advance(z, a, m, noise), model.advance(z, a, m, noise, torch.tensor(0)))


def test_an_ensemble_has_no_kl_without_heads_that_are_drawn() -> None:
    model = build("slac")
    given = Given(model)
    with pytest.raises(ValueError, match="heads that are drawn"):
        model.kl(given.posterior, given.a, given.m, given.restart)


@pytest.mark.parametrize("kind", ["slac", "vae", "filtering", "simple_vae", "deterministic"])
def test_of_one_head_alone_there_is_one_prediction(kind: str) -> None:
    model = build(kind, heads=1)
    z, a, m = (torch.ones(2, n, dtype=DOUBLE) for n in (model.latent_size, ACTIONS, TASK))
    said = model.predict(z, a, m)
    assert said.mean.shape == (1, 2, model.sizes[0])
    assert isinstance(said, Delta) == (kind == "deterministic")


def test_heads_are_drawn_with_equal_chances_and_for_one_alone_nothing_is_drawn() -> None:
    chance = Chance(torch.Generator().manual_seed(0), torch.device("cpu"))
    before = chance.generator.get_state()
    assert chance.heads(1, 8) is None
    assert torch.equal(chance.generator.get_state(), before)
    drawn = chance.heads(4, 40_000)
    assert drawn is not None and drawn.shape == (40_000,)
    counts = torch.bincount(drawn, minlength=4)
    assert len(counts) == 4 and (counts - 10_000).abs().max() < 5 * (40_000 * 3 / 16) ** 0.5
