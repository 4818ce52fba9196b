"""The latent model without a task variable is SLAC: loss and gradients against a plain, separate SLAC."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from metaslac.config.sections import ModelConfig
from metaslac.networks.images import ImageEncoder
from metaslac.networks.latent_models.two_layers import SLAC

CONFIG = ModelConfig(base_depth=4, feature_size=16, z1_size=3, z2_size=5, hidden_size=12, window=4)
ACTIONS = 2


class PlainSLAC:
    """SLAC from the paper and its published sizes, one window and one time step at a time.

    It knows parameters by name and shares no code with the library.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.p = parameters

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.p[f"{name}.weight"] @ x + self.p[f"{name}.bias"]

    def gaussian(self, name: str, *inputs: Tensor) -> Normal:
        x = torch.cat(inputs)
        x = F.leaky_relu(self.linear(f"{name}.network.0", x), 0.2)
        x = F.leaky_relu(self.linear(f"{name}.network.2", x), 0.2)
        x = self.linear(f"{name}.network.4", x)
        half = len(x) // 2
        return Normal(x[:half], F.softplus(x[half:]) + 1e-5)

    def encode(self, frame: Tensor, layers: int) -> Tensor:
        x = frame.double().permute(2, 0, 1)[None] / 255
        for i in range(layers):
            w, b = self.p[f"encoder.convolutions.{i}.weight"], self.p[f"encoder.convolutions.{i}.bias"]
            x = F.leaky_relu(F.conv2d(x, w, b, stride=2, padding=2 if i == 0 else 1), 0.2)
        # The last layer of SLAC's compressor: a "valid" 4 x 4 convolution.
        channels = x.shape[1]
        kernel = self.p["encoder.linear.weight"].view(-1, 4, 4, channels).permute(0, 3, 1, 2)
        return F.leaky_relu(F.conv2d(x, kernel, self.p["encoder.linear.bias"]), 0.2).flatten()

    def decode(self, z: Tensor, layers: int) -> Tensor:
        channels = self.p["model.decoder.linear.weight"].shape[0] // 16
        kernel = self.p["model.decoder.linear.weight"].view(4, 4, channels, -1).permute(3, 2, 0, 1)
        x = F.conv_transpose2d(z[None, :, None, None], kernel)
        x = F.leaky_relu(x + self.p["model.decoder.linear.bias"].view(4, 4, channels).permute(2, 0, 1), 0.2)
        for i in range(layers):
            w, b = (
                self.p[f"model.decoder.convolutions.{i}.weight"],
                self.p[f"model.decoder.convolutions.{i}.bias"],
            )
            padding = 2 if i == layers - 1 else 1
            x = F.leaky_relu(F.conv_transpose2d(x, w, b, stride=2, padding=padding, output_padding=1), 0.2)
        return x[0].permute(1, 2, 0)

    def window_loss(self, frames: Tensor, a: Tensor, r: Tensor, noise: Tensor, layers: int) -> Tensor:
        """Negative ELBO of one window whose frames are all real."""
        loss = torch.zeros((), dtype=torch.float64)
        previous = None
        for t in range(len(frames)):
            f = self.encode(frames[t], layers)
            if t == 0:
                q = self.gaussian("model.z1_first_posterior", f)
                p = Normal(torch.zeros(3).double(), torch.ones(3).double())
            else:
                q = self.gaussian("model.z1_posterior", f, previous[1], a[t - 1])
                p = self.gaussian("model.z1_prior", previous[1], a[t - 1])
            z1 = q.mean + q.stddev * noise[t, :3]
            z2_given = (
                self.gaussian("model.z2_first", z1)
                if t == 0
                else self.gaussian("model.z2_next", z1, previous[1], a[t - 1])
            )
            z2 = z2_given.mean + z2_given.stddev * noise[t, 3:]
            z = torch.cat((z1, z2))
            image = Independent(Normal(self.decode(z, layers), math.sqrt(0.1)), 3)
            loss = loss - image.log_prob(frames[t].double() / 255) + kl_divergence(q, p).sum()
            if t:
                reward = self.gaussian("model.reward", torch.cat(previous), a[t - 1], z)
                loss = loss - reward.log_prob(r[t - 1]).sum()
            previous = (z1, z2)
        return loss


@pytest.mark.parametrize("image_size", [32, 64])
def test_without_m_loss_and_gradients_are_those_of_plain_slac(image_size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    encoder, model = build(image_size, task_size=0)
    frames = torch.randint(0, 256, (2, 5, image_size, image_size, 3), dtype=torch.uint8, generator=generator)
    a = torch.rand(2, 4, ACTIONS, dtype=torch.float64, generator=generator) * 2 - 1
    r = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, 5, 8, dtype=torch.float64, generator=generator)
    restart = torch.tensor([[True, False, False, False, False]] * 2)
    m = torch.zeros(2, 0, dtype=torch.float64)

    posterior = model.infer(encode(encoder, frames), a, m, restart, noise)
    loss, _ = model.loss(frames, a, r, m, posterior, restart, torch.ones(2, 5, dtype=torch.bool))
    loss.backward()

    parameters = {f"{name}": p for name, p in named_parameters(encoder, model)}
    copies = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    plain = PlainSLAC(copies)
    layers = len(encoder.convolutions)
    expected = sum(plain.window_loss(frames[i], a[i], r[i], noise[i], layers) for i in range(2)) / 2
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, copies[name].grad, rtol=1e-5, atol=1e-7, msg=name)


def test_padding_before_an_episode_changes_neither_loss_nor_gradients() -> None:
    encoder, model = build(32, task_size=2)
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8, generator=generator)
    a = torch.rand(1, 3, ACTIONS, dtype=torch.float64, generator=generator)
    r, m = torch.rand(1, 3, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    noise = torch.randn(1, 6, 8, dtype=torch.float64, generator=generator)

    def loss_of(pad: int) -> tuple[Tensor, list[Tensor]]:
        padded_frames = torch.cat((frames[:, :1].expand(-1, pad, -1, -1, -1), frames), 1)
        padded_a = torch.cat((torch.zeros(1, pad, ACTIONS, dtype=torch.float64), a), 1)
        padded_r = torch.cat((torch.full((1, pad), 7.0, dtype=torch.float64), r), 1)
        index = torch.arange(-pad, 4)[None]
        restart, valid = index <= 0, index >= 0
        posterior = model.infer(encode(encoder, padded_frames), padded_a, m, restart, noise[:, 2 - pad :])
        loss, _ = model.loss(padded_frames, padded_a, padded_r, m, posterior, restart, valid)
        parameters = [p for _, p in named_parameters(encoder, model)]
        return loss, list(torch.autograd.grad(loss, parameters))

    loss, gradients = loss_of(0)
    padded_loss, padded_gradients = loss_of(2)
    torch.testing.assert_close(padded_loss, loss)
    torch.testing.assert_close(padded_gradients, gradients)


def test_m_reaches_every_conditional_that_has_an_action_and_no_other() -> None:
    _, model = build(32, task_size=2)
    f = torch.randn(1, 3, CONFIG.feature_size, dtype=torch.float64)
    a, noise = torch.zeros(1, 2, ACTIONS, dtype=torch.float64), torch.zeros(1, 3, 8, dtype=torch.float64)
    restart = torch.tensor([[True, False, False]])
    one, other = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    at_one, at_other = (model.infer(f, a, m, restart, noise) for m in (one, other))
    assert torch.equal(at_one.z[:, 0], at_other.z[:, 0])
    assert not torch.isclose(at_one.q.mean[:, 1], at_other.q.mean[:, 1]).any()
    z1, z2 = at_one.layers[0][:, 1], at_one.layers[1][:, 0]
    assert not torch.isclose(
        model.z2_next(z1, z2, a[:, 0], one).mean, model.z2_next(z1, z2, a[:, 0], other).mean
    ).any()
    priors = [model.prior(at_one, a, m, restart).mean for m in (one, other)]
    assert torch.equal(priors[0][:, 0], priors[1][:, 0])
    assert not torch.isclose(priors[0][:, 1:], priors[1][:, 1:]).any()
    rewards = [model.predict_reward(at_one.z, a, m).mean for m in (one, other)]
    assert not torch.isclose(*rewards).any()


def build(image_size: int, task_size: int) -> tuple[ImageEncoder, SLAC]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ImageEncoder(image_size, CONFIG.base_depth, CONFIG.feature_size).double()
        return encoder, SLAC(CONFIG, image_size, ACTIONS, task_size).double()


def encode(encoder: ImageEncoder, frames: Tensor) -> Tensor:
    return encoder(frames)


def named_parameters(encoder: ImageEncoder, model: SLAC) -> list[tuple[str, torch.nn.Parameter]]:
    named = [(f"encoder.{name}", p) for name, p in encoder.named_parameters()]
    return named + [(f"model.{name}", p) for name, p in model.named_parameters()]
