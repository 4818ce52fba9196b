"""Reconstructions and roll-outs of an episode, against the model's modules stepped by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import SIZE, tiny_config

from metaslac.config.sections import LATENT_KINDS
from metaslac.config.text import with_values
from metaslac.evidence.reconstruction import Reconstruction, reconstruct
from metaslac.networks.blocks import Gaussian
from metaslac.networks.meta_slac import MetaSLAC

STEPS, ACTIONS = 6, 2


@pytest.fixture(scope="module")
def networks() -> MetaSLAC:
    """Networks whose images differ from latent to latent, as those fresh from the start hardly do."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        networks = MetaSLAC(tiny_config(), ACTIONS, 1)
        for parameter in networks.parameters():
            parameter.data.mul_(1.7)
    return networks


class Episode:
    """Everything that `reconstruct` is given."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.frames = rng.integers(0, 256, (STEPS + 1, SIZE, SIZE, 3), dtype=np.uint8)
        self.actions = rng.uniform(-1, 1, (STEPS, ACTIONS)).astype(np.float32)
        self.m = rng.standard_normal(2, dtype=np.float32)
        self.noise = rng.standard_normal((STEPS + 1, 3 + 4), dtype=np.float32)

    def seen_by(self, networks: MetaSLAC, conditioned: int) -> Reconstruction:
        return reconstruct(networks, self.frames, self.actions, self.m, conditioned, self.noise)


@torch.no_grad()
def by_hand(networks: MetaSLAC, episode: Episode, looks: int) -> list[np.ndarray]:
    """One frame after the other; from step `looks` on, frames are not looked at."""
    model = networks.latent_model
    m, actions, noise = (torch.from_numpy(part) for part in (episode.m, episode.actions, episode.noise))
    images, z2 = [], torch.empty(0)
    for t in range(STEPS + 1):
        f = networks.encoder(torch.from_numpy(episode.frames[t : t + 1]))[0]
        if t == 0:
            q1: Gaussian = model.z1_first_posterior(f)
        elif t < looks:
            q1 = model.z1_posterior(f, z2, actions[t - 1], m)
        else:
            q1 = model.z1_prior(z2, actions[t - 1], m)
        z1 = q1.mean + q1.std * noise[t, :3]
        q2 = model.z2_next(z1, z2, actions[t - 1], m) if t else model.z2_first(z1)
        z2 = q2.mean + q2.std * noise[t, 3:]
        image = model.decoder(torch.cat((z1, z2))[None])[0]
        images.append((image.clamp(0, 1) * 255).round().numpy())
    return images


@pytest.mark.parametrize("conditioned", [1, 3, STEPS + 1])
def test_it_is_the_model_stepped_by_hand(networks: MetaSLAC, conditioned: int) -> None:
    episode = Episode()
    seen = episode.seen_by(networks, conditioned)
    assert seen.posterior.dtype == seen.prior.dtype == np.uint8
    assert seen.posterior.std() > 1  # or the comparison would say nothing
    for images, looks in ((seen.posterior, STEPS + 1), (seen.prior, conditioned)):
        np.testing.assert_allclose(images, np.stack(by_hand(networks, episode, looks)), atol=1)


def test_a_roll_out_that_has_seen_all_is_the_posterior(networks: MetaSLAC) -> None:
    seen = Episode().seen_by(networks, STEPS + 1)
    np.testing.assert_array_equal(seen.prior, seen.posterior)


def test_a_roll_out_does_not_look_again(networks: MetaSLAC) -> None:
    episode, other = Episode(), Episode()
    other.frames[3:] = 255 - other.frames[3:]
    one, two = episode.seen_by(networks, 3), other.seen_by(networks, 3)
    np.testing.assert_array_equal(one.prior, two.prior)
    np.testing.assert_array_equal(one.posterior[:3], two.posterior[:3])
    assert not np.array_equal(one.posterior[3:], two.posterior[3:])


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_a_model_of_any_kind_is_rolled_out_from_what_it_has_seen(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        networks = MetaSLAC(with_values(tiny_config(), {"model.kind": kind}), ACTIONS, 1)
        for parameter in networks.parameters():
            parameter.data.mul_(1.7)
    episode, other = Episode(), Episode()
    episode.noise = other.noise = episode.noise[:, : networks.latent_model.noise_size]
    other.frames[3:] = 255 - other.frames[3:]
    one, two, whole = (
        what.seen_by(networks, n) for what, n in ((episode, 3), (other, 3), (episode, STEPS + 1))
    )
    np.testing.assert_array_equal(one.prior[:3], one.posterior[:3])
    np.testing.assert_array_equal(one.prior, two.prior)
    assert not np.array_equal(one.posterior[3:], two.posterior[3:])
    assert not np.array_equal(one.prior[3:], one.posterior[3:])
    np.testing.assert_array_equal(whole.prior, whole.posterior)


@pytest.mark.parametrize("part", ["actions", "m"])
def test_a_roll_out_goes_by_the_actions_and_the_task(networks: MetaSLAC, part: str) -> None:
    episode, other = Episode(), Episode()
    setattr(other, part, -getattr(other, part))
    one, two = episode.seen_by(networks, 2).prior, other.seen_by(networks, 2).prior
    np.testing.assert_array_equal(one[0], two[0])  # before the first action, and whatever the task
    assert not np.array_equal(one[2:], two[2:])


@pytest.mark.parametrize("conditioned", [0, STEPS + 2])
def test_it_can_see_neither_nothing_nor_more_than_there_is(networks: MetaSLAC, conditioned: int) -> None:
    with pytest.raises(ValueError, match="conditioned"):
        Episode().seen_by(networks, conditioned)
