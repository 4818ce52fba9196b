"""SAC from pixels: what the critics' error reaches, frames that are moved at random, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fakes import changed, make_batch, make_learner, snapshot, tiny_config
from numpy.typing import NDArray

from metaslac.config.sections import Config
from metaslac.config.text import with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.learning.batch import shifted
from metaslac.learning.learner import Learner

FROM_CRITICS = {
    "model.elbo_weight": 0.0,
    "actor_critic.critic_input": "features",
    "train.encoder_from_critic": True,
    "train.pretrain_updates": 0,
    "train.steps_per_batch": 1,
}


def from_critics(inference: str = "blind", **settings: Any) -> Config:
    config = with_values(tiny_config(inference=inference), {**FROM_CRITICS, **settings})
    validate(config)
    return config


@pytest.mark.parametrize(
    ("inference", "maker"), [("infer", "context_encoder"), ("oracle", "task_params"), ("blind", None)]
)
def test_an_update_moves_every_network_that_there_is(inference: str, maker: str | None) -> None:
    learner = make_learner(from_critics(inference))
    before = snapshot(learner)
    metrics = learner.update(make_batch(learner.config))
    assert changed(learner, before) - {maker} == {"encoder", "actor", "critic", "target_critic", "log_alpha"}
    assert maker is None or maker in changed(learner, before)
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())


def test_the_encoder_learns_from_the_critics_error_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(from_critics())
    monkeypatch.setattr(learner, "_critic_step", lambda *_: {})
    before = snapshot(learner)
    learner.update(make_batch(learner.config))
    assert changed(learner, before) == {"actor", "log_alpha"}


def test_its_gradient_is_that_of_the_soft_bellman_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a loop over windows: the target of the same features, without gradient."""
    learner = make_learner(from_critics(**{"actor_critic.tau": 1e-12, "train.windows": 2}))
    networks, batch = learner.networks, make_batch(learner.config)
    monkeypatch.setattr(learner.chance, "normal", lambda *shape: torch.zeros(shape))
    for optimizer in learner.optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.0
    with torch.no_grad():
        for parameter in networks.target_critic.parameters():
            parameter.mul_(1.5)
    learner.update(batch)
    losses = []
    for k in range(3):
        for w in range(2):
            frames, a = batch.windows.frames[k, w][None], batch.windows.a[k, w][None]
            f, m = networks.encoder(frames), torch.zeros(1, learner.config.task.size)
            with torch.no_grad():
                mean, std = networks.actor(f[:, 1:], a[:, 1:], m)
                log_pi = -0.5 * math.log(2 * math.pi) - std.log() - (1 - mean.tanh() ** 2).log()
                seen = torch.cat((f[:, 1:].flatten(1), a[:, 1:].flatten(1)), 1)
                value = networks.target_critic(seen, mean.tanh(), m).min() - 0.1 * log_pi.sum()
                target = 5 * batch.windows.r[k, w, -1] + 0.99 * value * ~batch.windows.terminated[k, w]
            seen = torch.cat((f[:, :-1].flatten(1), a[:, :-1].flatten(1)), 1)
            losses.append(0.5 * (networks.critic(seen, a[:, -1], m) - target).square().sum())
    parameters = list(networks.encoder.parameters())
    expected = torch.autograd.grad(torch.stack(losses).mean(), parameters)
    assert all(gradient.any() for gradient in expected)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_steps_are_counted_for_encoder_and_critics() -> None:
    """Every step on windows of its own moves both, an extra one the critics alone."""
    learner = make_learner(from_critics(**{"train.steps_per_batch": 2, "train.extra_steps": 3}))
    learner.update(make_batch(learner.config))
    made = {
        name: {int(state["step"]) for state in learner.optimizers[name].state.values()}
        for name in ("model", "critic", "actor")
    }
    assert made == {"model": {2}, "critic": {5}, "actor": {5}}


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("actor_critic.critic_input", "state", "critic_input=features"),
        ("model.elbo_weight", 1.0, "model.elbo_weight"),
        ("model.inverse_weight", 1.0, "model.inverse_weight"),
        ("train.freeze_encoder", True, "train.freeze_encoder=false"),
        ("train.pretrain_updates", 1, "train.pretrain_updates=0"),
        ("task.gradient", "model", "task.gradient"),
    ],
)
def test_whatever_else_would_train_the_encoder_is_refused(setting: str, value: object, named: str) -> None:
    config = with_values(from_critics("infer"), {setting: value})
    with pytest.raises(MetaslacError, match=r"^train\.encoder_from_critic needs .*$") as error:
        validate(config)
    assert named in str(error.value)


def test_predictions_are_learned_somewhere() -> None:
    settings = {"train.freeze_encoder": True, "train.predict_with_critics": False}
    validate(with_values(tiny_config(), settings))  # in pre-training
    config = with_values(tiny_config(), {**settings, "train.pretrain_updates": 0})
    with pytest.raises(MetaslacError, match=r"train\.predict_with_critics=false needs pixels, and"):
        validate(config)


def crop(picture: NDArray[np.uint8], most: int, down: int, right: int) -> NDArray[np.uint8]:
    """DrQ's: the picture with its edges repeated all around, and a window on it of the picture's size."""
    padded = np.pad(picture, ((most, most), (most, most), (0, 0)), mode="edge")
    rows, columns = slice(most - down, most - down + len(picture)), slice(most - right, None)
    return padded[rows, columns][:, : picture.shape[1]]


@pytest.mark.parametrize("stack", [(), (3,)])
def test_frames_are_moved_as_a_crop_of_each_padded_picture(stack: tuple[int, ...]) -> None:
    rng, most = np.random.default_rng(0), 4
    frames = rng.integers(0, 256, (2, 5, 3, *stack, 8, 8, 3), dtype=np.uint8)
    by = rng.integers(-most, most + 1, (2, 5, 2))
    moved = shifted(torch.from_numpy(frames), torch.from_numpy(by)).numpy()
    assert moved.shape == frames.shape and moved.dtype == np.uint8
    for k in range(2):
        for w in range(5):
            pictures = zip(frames[k, w].reshape(-1, 8, 8, 3), moved[k, w].reshape(-1, 8, 8, 3), strict=True)
            for before, after in pictures:
                np.testing.assert_array_equal(after, crop(before, most, *by[k, w]))


def encoded(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the encoder is given from now on, with gradient."""
    given, trained = [], learner.encode.trained

    def spy(frames: torch.Tensor) -> torch.Tensor:
        given.append(frames)
        return trained(frames)

    monkeypatch.setattr(learner.encode, "trained", spy)
    return given


@pytest.mark.parametrize(("kind", "pretrains"), [("model", True), ("model", False), ("critics", False)])
def test_an_update_moves_the_frames_of_every_window_in_a_way_of_its_own(
    kind: str, pretrains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 3
    shift = {"train.random_shift": most, "train.model_windows": 4}
    config = from_critics(**shift) if kind == "critics" else with_values(tiny_config(), shift)
    learner, batch = make_learner(config), make_batch(config)
    given = encoded(learner, monkeypatch)
    (learner.pretrain if pretrains else learner.update)(batch)
    (frames,) = given
    ways = []
    for before, after in zip(batch.windows.frames.flatten(0, 1), frames.flatten(0, 1), strict=True):
        fitting = [
            (down, right)
            for down in range(-most, most + 1)
            for right in range(-most, most + 1)
            if all(
                np.array_equal(crop(x.numpy(), most, down, right), y.numpy())
                for x, y in zip(before, after, strict=True)
            )
        ]
        assert fitting  # one way for all of its pictures
        ways.append(fitting)
    assert not any(all(way in fitting for fitting in ways) for way in ways[0])


def test_the_same_generator_moves_frames_alike_and_none_is_asked_without() -> None:
    results = []
    for most in (3, 3, 0, 5):
        config = from_critics(**{"train.random_shift": most})
        learner = make_learner(config)
        learner.update(make_batch(config))
        results.append(learner.networks.encoder.linear.weight.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2]) and not torch.equal(results[0], results[3])
    drawn: list[tuple[int, ...]] = []
    learner = make_learner(from_critics())
    learner.chance.whole = lambda *of: drawn.append(of)
    learner.update(make_batch(learner.config))
    assert not drawn
