"""Every kind of latent model against plain loops over windows and steps, which know weights by name only."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from metaslac.config.sections import LATENT_KINDS, ModelConfig
from metaslac.networks.latent_models.base import LatentModel
from metaslac.networks.latent_models.make import KINDS, make_latent_model

FEATURES, Z1, Z2, ACTIONS, IMAGE = 6, 3, 5, 2, 32
NOISE = {
    "slac": Z1 + Z2,
    "vae": Z1 + Z2,
    "filtering": Z2,
    "simple_vae": Z2,
    "partially_stochastic": Z1,
    "deterministic": 0,
}
ONE_LAYER = ("filtering", "simple_vae")
DOUBLE = torch.float64


class PlainModel:
    """The six models of SLAC's ablation, one window and one step at a time."""

    def __init__(self, kind: str, weights: dict[str, Tensor]) -> None:
        self.kind, self.weights = kind, weights

    def mlp(self, name: str, *inputs: Tensor) -> Tensor:
        x = torch.cat(inputs)
        for layer in (0, 2, 4):
            weight, bias = (self.weights[f"{name}.network.{layer}.{part}"] for part in ("weight", "bias"))
            x = weight @ x + bias
            if layer < 4:
                x = torch.where(x > 0, x, 0.2 * x)
        return x

    def gaussian(self, name: str, *inputs: Tensor) -> Normal:
        mean, raw = self.mlp(name, *inputs).chunk(2)
        return Normal(mean, torch.log1p(raw.exp()) + 1e-5)

    def z2(self, z1: Tensor, context: tuple[Tensor, ...] | None, noise: Tensor) -> Tensor:
        """Given z1, and (z2_{t-1}, a_{t-1}, m) unless the step is a first one."""
        if self.kind == "vae":
            p = self.gaussian("z2_given_z1", z1)
            return p.mean + p.stddev * noise
        name, inputs = ("z2_first", (z1,)) if context is None else ("z2_next", (z1, *context))
        if self.kind != "slac":
            return self.mlp(name, *inputs)
        p = self.gaussian(name, *inputs)
        return p.mean + p.stddev * noise

    def step(
        self, f: Tensor, before: Tensor | None, a: Tensor, m: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """z_t and its KL; `before` is z_{t-1}, none at the first step of an episode or window."""
        if self.kind in ONE_LAYER:
            q = self.one_layer_posterior(f, before, a, m)
            p = self.one_layer_prior(before, a, m)
            return q.mean + q.stddev * noise, kl_divergence(q, p).sum()
        context = None if before is None or self.kind == "vae" else (before[Z1:], a, m)
        if self.kind == "deterministic":
            z1 = (
                self.mlp("z1_first_posterior", f)
                if context is None
                else self.mlp("z1_posterior", f, *context)
            )
            kl = torch.zeros((), dtype=DOUBLE)
            if context is not None:
                kl = -Normal(self.mlp("z1_prior", *context), torch.ones(Z1, dtype=DOUBLE)).log_prob(z1).sum()
        else:
            if self.kind == "vae":
                q = self.gaussian("z1_posterior", f)
            elif context is None:
                q = self.gaussian("z1_first_posterior", f)
            else:
                q = self.gaussian("z1_posterior", f, *context)
            p = unit(Z1) if context is None else self.gaussian("z1_prior", *context)
            z1, kl = q.mean + q.stddev * noise[:Z1], kl_divergence(q, p).sum()
        return torch.cat((z1, self.z2(z1, context, noise[Z1:]))), kl

    def one_layer_posterior(self, f: Tensor, before: Tensor | None, a: Tensor, m: Tensor) -> Normal:
        if self.kind == "simple_vae":
            return self.gaussian("z_posterior", f)
        if before is None:
            return self.gaussian("z_first_posterior", f)
        return self.gaussian("z_posterior", f, before, a, m)

    def one_layer_prior(self, before: Tensor | None, a: Tensor, m: Tensor) -> Normal:
        if self.kind == "simple_vae" or before is None:
            return unit(Z2)
        return self.gaussian("z_prior", before, a, m)

    def rolled(self, z: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
        """A sample of z_{t+1} that no frame is looked at for."""
        if self.kind in ONE_LAYER:
            p = self.one_layer_prior(z, a, m)
            return p.mean + p.stddev * noise
        context = None if self.kind == "vae" else (z[Z1:], a, m)
        if context is None:
            z1 = noise[:Z1]
        elif self.kind == "deterministic":
            z1 = self.mlp("z1_prior", *context)
        else:
            p = self.gaussian("z1_prior", *context)
            z1 = p.mean + p.stddev * noise[:Z1]
        return torch.cat((z1, self.z2(z1, context, noise[Z1:])))

    def decode(self, z: Tensor) -> Tensor:
        """The mean of the picture, (H, W, 3)."""
        weight, bias = self.weights["decoder.linear.weight"], self.weights["decoder.linear.bias"]
        x = F.leaky_relu(weight @ z + bias, 0.2).view(4, 4, -1).permute(2, 0, 1)[None]
        for layer in range(3):
            w, b = (self.weights[f"decoder.convolutions.{layer}.{part}"] for part in ("weight", "bias"))
            padding = 2 if layer == 2 else 1
            x = F.leaky_relu(F.conv_transpose2d(x, w, b, stride=2, padding=padding, output_padding=1), 0.2)
        return x[0].permute(1, 2, 0)

    def window_loss(self, batch: Batch, i: int) -> tuple[Tensor, list[Tensor]]:
        """The negative ELBO of window i, and its latents."""
        loss = torch.zeros((), dtype=DOUBLE)
        z: list[Tensor] = []
        m = batch.m[i]
        for t in range(batch.f.shape[1]):
            before = z[-1] if t and not batch.restart[i, t] else None
            a = batch.a[i, t - 1]
            latent, kl = self.step(batch.f[i, t], before, a, m, batch.noise[i, t])
            z.append(latent)
            if batch.valid[i, t]:
                image = Independent(Normal(self.decode(latent), math.sqrt(0.1)), 3)
                loss = loss - image.log_prob(batch.frames[i, t].to(DOUBLE) / 255) + kl
            if t and batch.valid[i, t - 1]:
                reward = self.gaussian("reward", z[-2], a, z[-1], m)
                loss = loss - reward.log_prob(batch.r[i, t - 1]).sum()
        return loss, z


def unit(size: int) -> Normal:
    return Normal(torch.zeros(size, dtype=DOUBLE), torch.ones(size, dtype=DOUBLE))


class Batch(NamedTuple):
    """Three windows: a whole one, one with padding, one that goes on into the next episode."""

    f: Tensor
    frames: Tensor
    a: Tensor
    r: Tensor
    m: Tensor
    noise: Tensor
    restart: Tensor
    valid: Tensor


def make_batch(kind: str, task_size: int) -> Batch:
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=DOUBLE, generator=generator)

    return Batch(
        normal(3, 5, FEATURES).requires_grad_(),
        torch.randint(0, 256, (3, 5, IMAGE, IMAGE, 3), dtype=torch.uint8, generator=generator),
        normal(3, 4, ACTIONS),
        normal(3, 4),
        normal(3, task_size).requires_grad_(),
        normal(3, 5, NOISE[kind]),
        torch.tensor([[1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0]], dtype=torch.bool),
        torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool),
    )


def build(kind: str, task_size: int) -> LatentModel:
    """Its weights are larger than they are at first, so that all of its inputs count."""
    config = ModelConfig(
        kind=kind, base_depth=2, feature_size=FEATURES, z1_size=Z1, z2_size=Z2, hidden_size=7, window=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make_latent_model(config, IMAGE, ACTIONS, task_size)
        assert model is not None
        model.double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.3).add_(0.1 * torch.randn_like(parameter))
    return model


def copied(model: LatentModel) -> dict[str, Tensor]:
    return {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}


@pytest.mark.parametrize("task_size", [0, 3])
@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_loss_latents_and_gradients_are_those_of_a_plain_model(kind: str, task_size: int) -> None:
    model, batch = build(kind, task_size), make_batch(kind, task_size)
    posterior = model.infer(batch.f, batch.a, batch.m, batch.restart, batch.noise)
    loss, parts = model.loss(batch.frames, batch.a, batch.r, batch.m, posterior, batch.restart, batch.valid)
    inputs = [batch.f, *([batch.m] if task_size else [])]
    gradients = torch.autograd.grad(loss, [*model.parameters(), *inputs])

    weights = copied(model)
    plain = [PlainModel(kind, weights).window_loss(batch, i) for i in range(3)]
    expected = sum(value for value, _ in plain) / 3
    expected_gradients = torch.autograd.grad(expected, [*weights.values(), *inputs])

    torch.testing.assert_close(posterior.z, torch.stack([torch.stack(z) for _, z in plain]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert sum(part.item() for part in parts.values()) == pytest.approx(expected.item(), rel=1e-5)
    names = [*weights, "f", "m"][: len(gradients)]
    for name, mine, its in zip(names, gradients, expected_gradients, strict=True):
        assert its.abs().max() > 0, name
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-7 * float(its.abs().max()), msg=name)


@pytest.mark.parametrize("task_size", [0, 3])
@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_a_step_of_the_prior_is_that_of_a_plain_model(kind: str, task_size: int) -> None:
    model, batch = build(kind, task_size), make_batch(kind, task_size)
    z = torch.randn(3, model.latent_size, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    a, noise = batch.a[:, 0], batch.noise[:, 0]
    plain = PlainModel(kind, dict(model.named_parameters()))
    expected = [plain.rolled(z[i], a[i], batch.m[i], noise[i]) for i in range(3)]
    torch.testing.assert_close(model.advance(z, a, batch.m, noise), torch.stack(expected))


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_what_is_predicted_is_all_of_the_loss_but_the_pixels(kind: str) -> None:
    model, batch = build(kind, 3), make_batch(kind, 3)
    posterior = model.infer(batch.f, batch.a, batch.m, batch.restart, batch.noise)
    given = batch.a, batch.r, batch.m, posterior, batch.restart, batch.valid
    whole, parts = model.loss(batch.frames, *given)
    predicted, _ = model.prediction_loss(*given)
    torch.testing.assert_close(predicted, whole - parts["image"])
    # m is told by rewards whatever the kind, so that a task can be inferred from all of them.
    assert torch.autograd.grad(predicted, batch.m)[0].abs().min() > 0


def test_every_kind_that_can_be_chosen_is_there() -> None:
    assert tuple(KINDS) == LATENT_KINDS
    assert make_latent_model(ModelConfig(elbo_weight=0.0), IMAGE, ACTIONS, 2) is None
