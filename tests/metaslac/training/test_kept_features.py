"""Encoders at rest: what is kept of features, what learns from them, and that stops change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, changed, meta_train, snapshot
from helpers.recorded import PIXELS
from runs import assert_equal, at, train
from stacked import StackedFamily, resting

from metaslac.acting.adaptation import adapt
from metaslac.acting.agent import Agent, load_agent
from metaslac.config.sections import Config
from metaslac.learning.batch import windows_per_update
from metaslac.networks.actor_critic import Sight
from metaslac.replay.data_set import RecordedTask, open_data_set
from metaslac.replay.data_writer import written_data_set
from metaslac.replay.experience import FEATURE_TYPE
from metaslac.replay.recorded import RecordedExperience
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.kept_features import KeptFeatures
from metaslac.training.refresh import Refresh, is_due
from metaslac.training.trainer import MetaTrainer

LATENTS = {"model.elbo_weight": 1.0, "actor_critic.critic_input": "latent_features"}
REFRESHED = {"train.refresh_first": 2, "train.refresh_updates": 3}
FALLING = {**REFRESHED, "train.lr_decay": 1.0}
STATES = {"actor_critic.critic_input": "state"}


def trained(config: Config) -> MetaTrainer:
    """After collection and pre-training, its features kept, and two visits since."""
    family = StackedFamily(uneven=True)
    trainer = MetaTrainer(config, family, CPU)
    asks = config.actor_critic.critic_input == "state"
    env = family.make_vector_env(2, tolerant=True, states=asks)
    trainer.collector.collect_random(env)
    trainer.learner.pretrain(trainer.batches.sample(config.train.pretrain_windows))
    trainer.kept.begin()
    for _ in range(2):
        trainer.collector.visit(env, trainer.agent)
    return trainer


def kept_places(trainer: MetaTrainer) -> list[tuple[int, int]]:
    """First place and number of frames of every episode that is stored."""
    replay, stored = trainer.replay, enumerate(trainer.replay.stored)
    return [(replay.place(task, entry.offset), entry.length + 1) for task, of in stored for entry in of]


def test_what_is_kept_is_what_the_encoder_makes_of_the_frames() -> None:
    trainer = trained(resting())
    replay = trainer.replay
    assert replay.features is not None
    for place, count in kept_places(trainer):
        with torch.no_grad():
            f = trainer.learner.networks.encoder(replay.episode_frames(place, count))
        assert torch.equal(replay.features[place : place + count], f.to(FEATURE_TYPE))


def test_they_are_kept_of_a_data_set_as_of_the_replay_that_it_was_recorded_of(tmp_path: Path) -> None:
    trainer = trained(resting())
    replay, learner, family = trainer.replay, trainer.learner, trainer.family
    about = replace(
        PIXELS, frames=3, param_names=("drift",), action_size=1, episode_steps=replay.episode_steps
    )
    with written_data_set(tmp_path / "data", about) as writer:
        for task, stored in zip(family.train_tasks, replay.stored, strict=True):
            told = RecordedTask(task.index, tuple(map(float, task.params)))
            for entry in stored:
                writer.add(told, replay.episode(task.index, entry), "replay")
    recorded = RecordedExperience(open_data_set(tmp_path / "data"), CPU)
    standards = learner.networks.standardised()
    KeptFeatures(learner, recorded).begin(afresh=True)
    means = [part.mean.clone() for part in standards]
    trainer.kept.pause()
    trainer.kept.begin(afresh=True)
    assert standards and replay.features is not None and recorded.features is not None
    for standard, mean in zip(standards, means, strict=True):
        torch.testing.assert_close(standard.mean, mean)
    for (task, place, count), (other, there, many) in zip(
        replay.episodes(), recorded.episodes(), strict=True
    ):
        assert (task, count) == (other, many)
        kept = replay.features[place : place + count], recorded.features[there : there + many]
        assert kept[0].abs().max() > 0 and torch.equal(*kept)


def test_windows_and_contexts_show_the_features_of_their_frames() -> None:
    trainer = trained(resting())
    replay, tasks = trainer.replay, torch.arange(4)

    def draw() -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(3)
        return replay.sample_windows(tasks, 9, 3, generator), replay.sample_context(tasks, 9, 4, generator)

    kept = draw()
    features, replay.features = replay.features, None
    plain = draw()
    replay.features = features
    for with_f, with_frames in zip(kept, plain, strict=True):
        assert with_f.frames is None and with_frames.f is None
        with torch.no_grad():
            f = trainer.learner.networks.encoder(with_frames.frames)
        torch.testing.assert_close(with_f.f, f, atol=2e-3, rtol=2e-3)
        assert torch.equal(with_f.a, with_frames.a) and torch.equal(with_f.valid, with_frames.valid)


def test_inputs_are_standardised_by_all_that_was_collected() -> None:
    trainer = trained(resting(**STATES, **{"replay.episodes_per_task": 40}))  # none is forgotten
    networks, replay = trainer.learner.networks, trainer.replay
    places = kept_places(trainer)
    with torch.no_grad():
        f = torch.cat([networks.encoder(replay.episode_frames(*place)) for place in places])
    states = torch.cat([replay.states[place : place + count] for place, count in places])
    for standard, values in ((networks.actor.standardise, f), (networks.sight.standardise_state, states)):
        assert standard is not None
        mean, std = values.double().mean(0), values.double().std(0, correction=0)
        std = torch.where(std > 1e-6, std, torch.ones_like(std))
        torch.testing.assert_close(standard(values), ((values - mean) / std).float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("values", [{}, LATENTS, STATES], ids=["features", "latents", "state"])
def test_of_what_sees_nothing_but_the_critics_learn_in_an_update(values: dict[str, Any]) -> None:
    trainer = trained(resting(**values))
    learner = trainer.learner
    before = snapshot(learner)
    learner.update(trainer.batches.sample())
    after = changed(learner, before)
    assert {"actor", "critic", "target_critic", "context_encoder", "feature_reward", "log_alpha"} <= after
    assert not {"encoder", "inverse_model", "last_action", "next_feature", "task_params", "sight"} & after
    assert ("latent_model" in after) == (values is LATENTS)  # its heads of rewards and next latents


def test_every_step_has_windows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resting()
    trainer = trained(config)
    batch = trainer.batches.sample()
    seen = []
    original = trainer.learner._bellman

    def bellman(decisions: Any, m: Any) -> Any:
        seen.append(decisions.f)
        return original(decisions, m)

    monkeypatch.setattr(trainer.learner, "_bellman", bellman)
    trainer.learner.update(batch)
    assert len(seen) == config.train.steps_per_batch + config.train.extra_steps == 4
    assert batch.windows.f is not None
    together = torch.stack(seen).unflatten(1, (3, -1)).transpose(0, 1)  # (K, steps, windows of each)
    assert together.flatten(1, 2).shape == batch.windows.f.shape
    assert batch.windows.f.shape[1] == windows_per_update(config) == 8
    rows = {row.numpy().tobytes() for row in batch.windows.f.flatten(0, 1)}
    assert {row.numpy().tobytes() for row in together.flatten(0, 2)} == rows


@pytest.mark.parametrize(
    "values",
    [{}, LATENTS, STATES, REFRESHED, FALLING],
    ids=["features", "latents", "state", "refreshed", "refreshed_while_steps_fall"],
)
def test_stops_change_nothing(tmp_path: Path, values: dict[str, Any]) -> None:
    config = resting(**values)
    assert train(tmp_path / "whole", config=config, kind=StackedFamily)
    stops = 0
    while not train(tmp_path / "stopped", at(2 if stops % 2 else 9), config, StackedFamily):
        stops += 1
    assert stops > 4
    assert_equal(tmp_path / "whole", tmp_path / "stopped")


def test_a_refresh_trains_the_encoder_on_and_makes_all_anew(tmp_path: Path) -> None:
    weights = []
    for values in ({}, {**REFRESHED, "train.updates": 5}):
        config = resting(**{"train.updates": 1, **values})
        assert train(tmp_path / str(len(weights)), config=config, kind=StackedFamily)
        trainer = MetaTrainer(config, StackedFamily(uneven=True, terminates=True), CPU)
        trainer.resume(load_checkpoint(tmp_path / str(len(weights))))
        assert trainer.progress.refreshed == (4 if values else 0) and not trainer.progress.refreshing
        weights.append(trainer.learner.networks.encoder.linear.weight)
        replay = trainer.replay
        assert replay.features is not None
        place, count = kept_places(trainer)[0]
        with torch.no_grad():
            f = trainer.learner.networks.encoder(replay.episode_frames(place, count))
        assert torch.equal(replay.features[place : place + count], f.to(FEATURE_TYPE))
    assert not torch.equal(*weights)


def test_of_a_refresh_that_is_stopped_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins right after a checkpoint, and the run is stopped after three of its updates."""
    within = 0
    original = Refresh.if_due

    def counting(refresh: Refresh) -> None:
        nonlocal within
        within = 1
        original(refresh)
        within = 0

    def stop() -> bool:
        nonlocal within
        within += within > 0
        return within == 5

    monkeypatch.setattr(Refresh, "if_due", counting)
    config = resting(**{"train.refresh_first": 2, "train.refresh_updates": 5, "checkpoint.every": 2})
    assert not train(tmp_path, stop, config, StackedFamily)
    trainer = MetaTrainer(config, StackedFamily(uneven=True, terminates=True), CPU)
    trainer.resume(load_checkpoint(tmp_path))
    assert (trainer.progress.updates, trainer.progress.refreshing) == (2, 3)


def test_statistics_are_of_the_features_since_the_refresh() -> None:
    trainer = trained(resting(**{"replay.episodes_per_task": 40}))
    networks = trainer.learner.networks
    trainer.kept.pause()
    with torch.no_grad():
        networks.encoder.linear.weight.mul_(-3.0)
        networks.encoder.linear.bias.add_(1.0)
    moved = trainer.kept.begin(afresh=True)
    assert 0.1 < moved < 10
    places = kept_places(trainer)
    with torch.no_grad():
        f = torch.cat([networks.encoder(trainer.replay.episode_frames(*place)) for place in places])
    assert networks.actor.standardise is not None
    torch.testing.assert_close(networks.actor.standardise.mean, f.double().mean(0), atol=1e-5, rtol=1e-5)
    trainer.kept.pause()
    assert trainer.kept.begin(afresh=True) == 0.0  # nothing has moved


def test_refreshes_are_due_at_doublings() -> None:
    assert [updates for updates in range(50) if is_due(updates, 3)] == [3, 6, 12, 24, 48]
    assert not any(is_due(updates, 0) for updates in range(5))


def test_only_critics_ever_see_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its only reader poisoned an agent still adapts, and evaluation is not even offered states."""
    family = StackedFamily()
    meta_train(resting(**STATES), family, tmp_path, CPU, quiet=True)
    assert family.asked_for_states == 1  # the worlds trained in, and not those evaluated in

    def poisoned(*_: Any) -> None:
        raise AssertionError("the state was looked at")

    monkeypatch.setattr(Sight, "forward", poisoned)
    agent = load_agent(tmp_path, CPU)
    assert not {name for name in agent.networks.state_dict() if "sight" in name or "critic" in name}

    def played(states: bool) -> list[list[float]]:
        env = family.make_vector_env(2, tolerant=True, states=states)
        if states:
            monkeypatch.setattr(env, "told", lambda: {"state": np.full((2, 2), np.nan)})
        return [trial.returns for trial in adapt(agent, env, family.test_tasks, episodes=2)]

    assert played(states=False) == played(states=True)


def test_agents_see_the_stack() -> None:
    agent = trained(resting()).agent
    assert isinstance(agent, Agent)
    frames = np.zeros((1, 3, 32, 32, 3), np.uint8)
    frames[:, -1] = 200
    moving, still = frames, np.full_like(frames, 200)
    assert not torch.equal(agent._encode(moving), agent._encode(still))
