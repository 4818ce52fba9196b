"""What reaches encoder, critics and actor: stacks as motion, standardised entries, what each critic sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metaslac.config.sections import ActorCriticConfig
from metaslac.networks.actor_critic import Actor, Sight, TwinCritic
from metaslac.networks.blocks import Standardise
from metaslac.networks.images import ImageEncoder, motion, pixels

CONFIG = ActorCriticConfig(hidden_size=8)


def test_a_stack_is_seen_as_differences_and_the_newest_centred() -> None:
    stack = torch.randint(0, 256, (2, 3, 4, 4, 3), dtype=torch.uint8)
    x = stack.numpy().astype(np.float64) / 255
    expected = np.concatenate((4 * (x[:, 1] - x[:, 0]), 4 * (x[:, 2] - x[:, 1]), x[:, 2] - 0.5), -1)
    np.testing.assert_allclose(motion(pixels(stack)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("frames", [2, 3])
def test_an_encoder_of_stacks_keeps_the_shape_before_them(frames: int) -> None:
    encoder = ImageEncoder(32, 4, 6, frames, norm=True)
    stack = torch.randint(0, 256, (2, 5, frames, 32, 32, 3), dtype=torch.uint8)
    f = encoder(stack)
    assert f.shape == (2, 5, 6)
    torch.testing.assert_close(f[1, 3], encoder(stack[1, 3][None])[0])
    plain = ImageEncoder(32, 4, 6, frames, norm=False)
    plain.load_state_dict(encoder.state_dict())
    leaky = plain(stack).double()  # of what is normalised: slope 0.2 below zero
    before = torch.where(leaky < 0, leaky / 0.2, leaky)
    spread = (before.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()  # torch's own floor of it
    expected = (before - before.mean(-1, keepdim=True)) / spread
    torch.testing.assert_close(f.double(), expected, atol=1e-4, rtol=1e-4)


def test_standardising_is_by_all_that_was_taken_in_however_it_came() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, [1e-3, 1.0, 1e3], (60, 3)).astype(np.float32)
    values = np.concatenate((values, np.full((60, 1), 7.0, np.float32)), 1)  # one that never differs
    standardise = Standardise(4)
    probe = torch.from_numpy(values[:5])
    torch.testing.assert_close(standardise(probe), probe)  # nothing was taken in
    for part in np.split(values, [1, 20, 27]):
        standardise.take_in(torch.from_numpy(part))
    std = values.astype(np.float64).std(0)
    expected = (values[:5] - values.astype(np.float64).mean(0)) / np.where(std > 1e-6, std, 1.0)
    np.testing.assert_allclose(standardise(probe).numpy(), expected, atol=1e-3)
    standardise.forget()
    torch.testing.assert_close(standardise(probe), probe)


@pytest.mark.parametrize(
    ("critic_input", "parts"),
    [("latent", "z"), ("features", "fa"), ("latent_features", "zfa"), ("state", "s")],
)
@pytest.mark.parametrize("standardise", [False, True])
def test_each_critic_sees_what_its_setting_says(critic_input: str, parts: str, standardise: bool) -> None:
    config = replace(CONFIG, critic_input=critic_input, standardise=standardise)
    sight = Sight(config, window=2, feature_size=3, action_size=2, latent_size=4, state_size=5)
    z, f, a, s = torch.randn(6, 4), torch.randn(6, 2, 3), torch.randn(6, 1, 2), torch.randn(6, 5)
    mine, its = f, s
    for part, values in ((sight.standardise, f), (sight.standardise_state, s)):
        assert (part is not None) == (standardise and ("f" if values is f else "s") in parts)
        if part is not None:
            part.take_in(3 * values)
            scaled = (values - 3 * values.flatten(0, -2).mean(0)) / (
                3 * values.flatten(0, -2).std(0, correction=0)
            )
            mine, its = (scaled, its) if values is f else (mine, scaled)
    told = {"z": z, "f": mine.flatten(1), "a": a.flatten(1), "s": its}
    seen = sight(z, f, a, s)
    torch.testing.assert_close(seen, torch.cat([told[part] for part in parts], 1), atol=1e-5, rtol=1e-5)
    assert seen.shape[1] == sight.size
    without = [None if name not in parts else part for name, part in (("z", z), ("s", s))]
    assert torch.equal(sight(without[0], f, a, without[1]), seen)  # what is not seen need not be there


def test_action_and_m_are_weighted() -> None:
    config = replace(CONFIG, action_scale=6.0, task_scale=4.0)
    plain, weighted = (TwinCritic(3, 2, 1, part) for part in (CONFIG, config))
    weighted.load_state_dict(plain.state_dict())
    seen, a, m = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 1)
    torch.testing.assert_close(weighted(seen, a, m), plain(seen, 6 * a, 4 * m))
    actors = [Actor(2, 3, 2, 1, part) for part in (CONFIG, config)]
    actors[1].load_state_dict(actors[0].state_dict())
    f, past = torch.randn(5, 2, 3), torch.randn(5, 1, 2)
    torch.testing.assert_close(actors[1](f, past, m).mean, actors[0](f, past, 4 * m).mean)


def test_the_actor_is_normalised_if_it_is_asked_for() -> None:
    for wanted in (False, True):
        actor = Actor(2, 3, 2, 1, replace(CONFIG, actor_layer_norm=wanted))
        assert any(isinstance(module, torch.nn.LayerNorm) for module in actor.modules()) is wanted
