"""An update of the slac preset is SLAC's: losses and weights against a plain SLAC with no code of ours."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fakes import CPU
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from metaslac.config.presets import resolve
from metaslac.config.sections import Config
from metaslac.learning.learner import Batch, Learner
from metaslac.replay.experience import Context, Windows

ACTIONS, WINDOWS, FOR_MODEL = 2, 6, 2
Z1, Z2 = 3, 5
LAYERS = 3  # of convolutions, from 32 x 32 down to 4 x 4
TINY = [
    "family.image_size=32",
    *("model.base_depth=4", "model.feature_size=7", "model.hidden_size=9", "actor_critic.hidden_size=10"),
    *(f"model.z1_size={Z1}", f"model.z2_size={Z2}", "model.window=4"),
    *(f"train.windows={WINDOWS}", f"train.model_windows={FOR_MODEL}"),
    "runtime.precision=float32",
]


class PlainSLAC:
    """SLAC's networks, losses and order of updates, on parameters that it knows by name.

    The order is that of the PyTorch implementation: the model, then the critics, the actor against the
    updated critics, the temperature by the actor's sample, the targets. The official code takes all gradients
    from one snapshot of the weights and applies them together. As there, critics and actor see features of
    the encoder before the model's step; latents are filtered from them by the updated conditionals.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.p = parameters
        for name, parameter in parameters.items():
            parameter.requires_grad_(not name.startswith("target_critic"))
        self.adam = {
            part: torch.optim.Adam(self.of(*names), lr)
            for part, names, lr in (
                ("model", ("encoder", "latent_model"), 1e-4),
                ("critic", ("critic",), 3e-4),
                ("actor", ("actor",), 3e-4),
                ("alpha", ("log_alpha",), 3e-4),
            )
        }

    def of(self, *networks: str) -> list[Tensor]:
        return [parameter for name, parameter in self.p.items() if name.split(".")[0] in networks]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def mlp(self, name: str, activation: Callable[[Tensor], Tensor], *inputs: Tensor) -> Tensor:
        x = torch.cat(inputs, -1)
        for layer in (0, 2):
            x = activation(self.linear(f"{name}.{layer}", x))
        return self.linear(f"{name}.4", x)

    def gaussian(self, name: str, *inputs: Tensor) -> Normal:
        out = self.mlp(f"latent_model.{name}.network", lambda x: F.leaky_relu(x, 0.2), *inputs)
        mean, raw = out.chunk(2, -1)
        return Normal(mean, F.softplus(raw) + 1e-5)

    def encode(self, frames: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, F)."""
        x = frames.flatten(0, 1).double().permute(0, 3, 1, 2) / 255
        for i in range(LAYERS):
            w, b = (self.p[f"encoder.convolutions.{i}.{part}"] for part in ("weight", "bias"))
            x = F.leaky_relu(F.conv2d(x, w, b, stride=2, padding=2 if i == 0 else 1), 0.2)
        kernel = self.p["encoder.linear.weight"].view(-1, 4, 4, x.shape[1]).permute(0, 3, 1, 2)
        x = F.leaky_relu(F.conv2d(x, kernel, self.p["encoder.linear.bias"]), 0.2)
        return x.view(*frames.shape[:2], -1)

    def decode(self, z: Tensor) -> Tensor:
        """(N, Z) -> (N, H, W, 3)."""
        weight, bias = (self.p[f"latent_model.decoder.linear.{part}"] for part in ("weight", "bias"))
        channels = len(weight) // 16
        x = F.conv_transpose2d(z[..., None, None], weight.view(4, 4, channels, -1).permute(3, 2, 0, 1))
        x = F.leaky_relu(x + bias.view(4, 4, channels).permute(2, 0, 1), 0.2)
        for i in range(LAYERS):
            w, b = (self.p[f"latent_model.decoder.convolutions.{i}.{part}"] for part in ("weight", "bias"))
            padding = 2 if i == LAYERS - 1 else 1
            x = F.leaky_relu(F.conv_transpose2d(x, w, b, 2, padding, output_padding=1), 0.2)
        return x.permute(0, 2, 3, 1)

    def filter(self, f: Tensor, a: Tensor, noise: Tensor) -> tuple[list[Tensor], list[Tensor], list[Normal]]:
        """Samples of both layers and the posteriors of the first, step by step."""
        z1: list[Tensor] = []
        z2: list[Tensor] = []
        qs = []
        for t in range(f.shape[1]):
            if t == 0:
                q = self.gaussian("z1_first_posterior", f[:, 0])
            else:
                q = self.gaussian("z1_posterior", f[:, t], z2[-1], a[:, t - 1])
            z1.append(q.mean + q.stddev * noise[:, t, :Z1])
            if t == 0:
                p = self.gaussian("z2_first", z1[0])
            else:
                p = self.gaussian("z2_next", z1[t], z2[-1], a[:, t - 1])
            z2.append(p.mean + p.stddev * noise[:, t, Z1:])
            qs.append(q)
        return z1, z2, qs

    def negative_elbo(self, windows: Windows, f: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Its three parts, summed over a window and averaged over windows."""
        z1, z2, qs = self.filter(f, windows.a, noise)
        parts = dict.fromkeys(("image", "kl", "reward"), torch.zeros((), dtype=torch.float64))
        for t, q in enumerate(qs):
            z = torch.cat((z1[t], z2[t]), -1)
            x = Independent(Normal(self.decode(z), math.sqrt(0.1)), 3)
            parts["image"] = parts["image"] - x.log_prob(windows.frames[:, t].double() / 255).mean()
            p = self.gaussian("z1_prior", z2[t - 1], windows.a[:, t - 1]) if t else Normal(0 * z1[0], 1.0)
            parts["kl"] = parts["kl"] + kl_divergence(q, p).sum(-1).mean()
            if t:
                reward = self.gaussian("reward", z1[t - 1], z2[t - 1], windows.a[:, t - 1], z)
                log_prob = reward.log_prob(windows.r[:, t - 1, None])
                parts["reward"] = parts["reward"] - log_prob.mean()
        return parts

    def act(self, f: Tensor, a: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.mlp("actor.network", F.relu, f.flatten(1), a.flatten(1)).chunk(2, -1)
        policy = Normal(mean, log_std.clamp(-20, 2).exp())
        u = policy.mean + policy.stddev * noise
        return u.tanh(), (policy.log_prob(u) - (1 - u.tanh() ** 2).log()).sum(-1)

    def q(self, critic: str, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        one, other = (self.mlp(f"{critic}.q{i}", F.relu, z, a).squeeze(-1) for i in (1, 2))
        return one, other

    def step(self, part: str, loss: Tensor) -> None:
        optimizer = self.adam[part]
        optimizer.zero_grad()
        parameters = optimizer.param_groups[0]["params"]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()

    def update(self, windows: Windows, noise: list[Tensor]) -> dict[str, Tensor]:
        """One of everything, on windows (B, ...) and standard normal noise in the order of its use."""
        for_model = Windows(*(None if part is None else part[:FOR_MODEL] for part in windows))
        f = self.encode(windows.frames)
        parts = self.negative_elbo(for_model, f[:FOR_MODEL], noise[0])
        self.step("model", parts["image"] + parts["kl"] + parts["reward"])

        f, alpha = f.detach(), self.p["log_alpha"].exp().detach()
        with torch.no_grad():
            z1, z2, _ = self.filter(f, windows.a, noise[1])
            z, z_next = (torch.cat((z1[t], z2[t]), -1) for t in (-2, -1))
            a_next, log_pi = self.act(f[:, 1:], windows.a[:, 1:], noise[2])
            value = torch.min(*self.q("target_critic", z_next, a_next)) - alpha * log_pi
            target = windows.r[:, -1] + 0.99 * torch.where(windows.terminated, 0.0, value)
        critic = sum(0.5 * F.mse_loss(q, target) for q in self.q("critic", z, windows.a[:, -1]))
        self.step("critic", critic)

        a, log_pi = self.act(f[:, :-1], windows.a[:, :-1], noise[3])
        actor = (alpha * log_pi - torch.min(*self.q("critic", z, a))).mean()
        self.step("actor", actor)
        self.step("alpha", self.p["log_alpha"] * (-log_pi.detach().mean() + ACTIONS))
        with torch.no_grad():
            for slow, fast in zip(self.of("target_critic"), self.of("critic"), strict=True):
                slow.copy_(0.995 * slow + 0.005 * fast)
        return {
            **{f"model/{name}": part for name, part in parts.items()},
            "critic/loss": critic,
            "actor/loss": actor,
        }


def windows(seed: int) -> Windows:
    """Of real frames, (1, W, ...), some ended by their task."""
    generator = torch.Generator().manual_seed(seed)
    each, length = (1, WINDOWS), 4

    def numbers(*shape: int) -> Tensor:
        return torch.rand(*each, *shape, generator=generator)

    return Windows(
        frames=torch.randint(0, 256, (*each, length + 1, 32, 32, 3), dtype=torch.uint8, generator=generator),
        a=2 * numbers(length, ACTIONS) - 1,
        r=3 * numbers(length),
        restart=torch.arange(length + 1).eq(0).expand(*each, -1),
        valid=torch.ones(*each, length + 1, dtype=torch.bool),
        terminated=numbers() < 0.3,
    )


def nothing(config: Config) -> Context:
    """A context, which nobody looks at."""
    shape = (1, config.task.context_segments, config.task.context_length)
    return Context(None, torch.zeros(*shape, ACTIONS), torch.zeros(shape), torch.ones(shape), torch.ones(1))


def make_learner(*settings: str, preset: str = "slac") -> Learner:
    config = resolve(preset, ["family.name=dmc:cheetah-run", *TINY, *settings])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Learner(config, ACTIONS, 0, CPU, torch.Generator().manual_seed(1))


def make_batch(learner: Learner, seed: int) -> Batch:
    return Batch(windows(seed), nothing(learner.config), torch.zeros(1, 0))


def test_three_updates_are_those_of_plain_slac(monkeypatch: pytest.MonkeyPatch) -> None:
    """In double precision, for the sign of a gradient decides about Adam's first steps."""
    learner = make_learner()
    networks, encoder = learner.networks.double(), learner.networks.encoder
    monkeypatch.setattr(learner.encode, "trained", encoder)
    monkeypatch.setattr(learner.encode, "fixed", torch.no_grad()(encoder.forward))
    with torch.no_grad():  # or nobody would notice which of them a target is made of
        for parameter in networks.target_critic.parameters():
            parameter.mul_(1.5)
    plain = PlainSLAC({name: p.detach().clone() for name, p in networks.named_parameters()})
    generator, drawn = torch.Generator().manual_seed(5), []

    def normal(*shape: int) -> Tensor:
        drawn.append(torch.randn(*shape, dtype=torch.float64, generator=generator))
        return drawn[-1]

    monkeypatch.setattr(learner.chance, "normal", normal)
    for seed in range(3):
        drawn.clear()
        batch = make_batch(learner, seed)
        precise = batch.windows._replace(a=batch.windows.a.double(), r=batch.windows.r.double())
        told = learner.update(batch._replace(windows=precise))
        flat = Windows(*(None if part is None else part[0] for part in precise))
        expected = plain.update(flat, drawn)
        assert len(drawn) == 4
        for name, value in expected.items():
            torch.testing.assert_close(told[name], value.detach(), rtol=1e-7, atol=1e-8, msg=name)
    for name, parameter in networks.named_parameters():
        torch.testing.assert_close(parameter, plain.p[name], rtol=0, atol=1e-9, msg=name)


def steps(learner: Learner, optimizer: str) -> list[int]:
    """Adam steps that each weight of an optimiser has taken."""
    state = learner.optimizers[optimizer].state
    return [
        int(state[p]["step"]) for p in learner.optimizers[optimizer].param_groups[0]["params"] if p in state
    ]


def test_every_weight_takes_one_adam_step_an_update() -> None:
    learner = make_learner()
    for seed in range(3):
        learner.update(make_batch(learner, seed))
    for name, parameters in (
        ("model", learner.networks.model_parameters()),
        ("critic", list(learner.networks.critic.parameters())),
        ("actor", list(learner.networks.actor.parameters())),
        ("alpha", [learner.networks.log_alpha]),
    ):
        assert steps(learner, name) == [3] * len(parameters), name


def test_heads_of_rewards_and_priors_take_more_where_critics_bring_them_along() -> None:
    learner = make_learner("train.predict_with_critics=true")
    for seed in range(3):
        learner.update(make_batch(learner, seed))
    assert set(steps(learner, "model")) == {3, 6}
    named = dict(learner.networks.named_parameters())
    state = learner.optimizers["model"].state
    twice = {name.split(".")[1] for name, p in named.items() if p in state and state[p]["step"] == 6}
    assert twice == {"reward", "z1_prior"}


@pytest.mark.parametrize("slac", [True, False])
def test_layers_at_4_x_4_start_as_slac_s_convolutions(slac: bool) -> None:
    """Glorot's deviation is sqrt(2 / (fan in + fan out)); a kernel's fans count all of its 16 places."""
    setting = f"model.convolution_init={'true' if slac else 'false'}"
    config = resolve("slac", ["family.name=dmc:cheetah-run", setting])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = Learner(config, 6, 0, CPU, torch.Generator()).networks
    of_encoder = networks.encoder.linear.weight.detach()
    of_decoder = networks.latent_model.decoder.linear.weight.detach()
    expected = {of_encoder: 0.0156 if slac else 0.0214, of_decoder: 0.0152 if slac else 0.0214}
    for weight, std in expected.items():
        assert float(weight.std()) == pytest.approx(std, rel=0.005)
        assert float(weight.abs().max()) == pytest.approx(math.sqrt(3) * std, rel=0.005)  # uniform
    assert not networks.encoder.linear.bias.any() and not networks.latent_model.decoder.linear.bias.any()
