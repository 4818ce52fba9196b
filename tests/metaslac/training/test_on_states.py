"""Agents on the simulator's state: what is kept, learned from and acted on, and that stops change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, FakeVectorEnv, tiny_config
from numpy.typing import NDArray
from runs import assert_equal, at

from metaslac.acting.agent import Agent, load_agent
from metaslac.acting.rollout import rng_of, run_trial
from metaslac.acting.single_task import SingleTaskAgent
from metaslac.config.sections import Config
from metaslac.config.state_presets import ON_STATES
from metaslac.config.text import with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.learning.memory import memory_need
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.training import online
from metaslac.training.loop import StopRequested
from metaslac.training.trainer import MetaTrainer

STATE_SIZE = 2


class StatesVectorEnv(FakeVectorEnv):
    """The same point, seen as its position and the time."""

    def draw(self) -> NDArray[Any]:
        return np.stack([self.position, self.t.astype(float)], 1)


class StatesFamily(FakeFamily):
    def make_vector_env(
        self, num_envs: int, threads: int = 0, tolerant: bool = False, states: bool = False
    ) -> StatesVectorEnv:
        assert not states  # they are what is observed
        return StatesVectorEnv(self, num_envs, raise_on_divergence=not tolerant)


def on_states(**values: Any) -> Config:
    config = with_values(tiny_config(), {**ON_STATES, **values})
    validate(config)
    return config


def train(run_dir: Path, config: Config, stop: Any = lambda: False) -> bool:
    """Train, or go on, in `run_dir`; whether it came to its end."""
    from metaslac.storage.checkpoint import load_checkpoint
    from metaslac.training.run_directory import last_checkpoint

    family = StatesFamily(uneven=True)
    last = last_checkpoint(run_dir) if run_dir.exists() else None
    try:
        run_dir.mkdir(exist_ok=True)
        online.meta_train(
            config,
            family,
            lambda worlds, **asks: family.make_vector_env(worlds, tolerant=True, **asks),
            run_dir,
            CPU,
            quiet=True,
            checkpoint=load_checkpoint(last) if last else None,
            stop=stop,
        )
    except StopRequested:
        return False
    return True


def trained(config: Config) -> MetaTrainer:
    family = StatesFamily(uneven=True)
    trainer = MetaTrainer(config, family, CPU)
    env = family.make_vector_env(2, tolerant=True)
    trainer.collector.collect_random(env)
    trainer.kept.begin()
    trainer.collector.visit(env, trainer.agent)
    return trainer


@pytest.mark.parametrize("window", [1, 3])
def test_windows_and_contexts_show_the_states_that_were_passed(window: int) -> None:
    """Positions move by 0.3 of the action within [-1, 1], time by one."""
    trainer = trained(on_states(**{"model.window": window}))
    batch = trainer.batches.sample(50)
    windows, context = batch.windows, batch.context
    assert windows.frames is None and context.frames is None
    assert windows.f is not None and context.f is not None
    assert windows.f.shape == (3, 50, window + 1, STATE_SIZE)
    real = windows.valid[..., :-1]
    assert real[..., -1].all()
    moved = (windows.f[..., :-1, 0] + 0.3 * windows.a[..., 0]).clamp(-1, 1)
    torch.testing.assert_close(moved[real], windows.f[..., 1:, 0][real])
    assert torch.equal((windows.f[..., 1:, 1] - windows.f[..., :-1, 1])[real], torch.ones(int(real.sum())))
    valid = context.valid
    moved = (context.f[..., :-1, 0] + 0.3 * context.a[..., 0]).clamp(-1, 1)
    torch.testing.assert_close(moved[valid], context.f[..., 1:, 0][valid])


def test_nothing_is_drawn_encoded_or_kept_of_pictures() -> None:
    trainer = trained(on_states())
    replay = trainer.replay
    assert [tuple(store.shape[2:]) for store in replay.stores().values()] == [(STATE_SIZE,), (1,), (), ()]
    assert not trainer.learner.networks.model_parameters() and "model" not in trainer.learner.optimizers


def test_what_a_state_run_needs_is_its_tensors() -> None:
    config, family = on_states(), StatesFamily()
    trainer = trained(config)
    stores = {id(v): v for v in vars(trainer.replay).values() if isinstance(v, torch.Tensor)}
    need = memory_need(config, family, CPU)
    assert need.replay == sum(store.nbytes for store in stores.values())
    learner = trainer.learner
    learner.update(trainer.batches.sample())
    weights = sum(parameter.nbytes for parameter in learner.networks.parameters())
    for optimizer in learner.optimizers.values():
        for parameter, state in optimizer.state.items():
            weights += parameter.nbytes + sum(value.nbytes for value in state.values())  # its gradient first
    assert need.weights == weights


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"actor_critic.standardise": True, "train.extra_steps": 2},
        {"task.inference": "oracle", "model.feature_reward_weight": 1.0},
        {"task.inference": "blind", "task.size": 0},
    ],
    ids=lambda values: "-".join(values) or "plain",
)
def test_stops_change_nothing(tmp_path: Path, values: dict[str, Any]) -> None:
    config = on_states(**values)
    asked = 0

    def counting() -> bool:
        nonlocal asked
        asked += 1
        return False

    assert train(tmp_path / "whole", config, counting)
    for moment in (0.3, 0.6, 0.9):
        run_dir = tmp_path / str(moment)
        assert not train(run_dir, config, at(int(moment * asked)))
        assert train(run_dir, config)
        assert_equal(tmp_path / "whole", run_dir)


def test_a_loaded_agent_acts_on_states_as_training_did(tmp_path: Path) -> None:
    config = on_states()
    assert train(tmp_path, config)
    agent, family = load_agent(tmp_path, CPU), StatesFamily()
    assert agent.observation_shape == (STATE_SIZE,)
    env = family.make_vector_env(1)
    ((episode,),) = run_trial(env, agent, family.test_tasks[:1], [[(0, 0)]], 1, deterministic=True)
    assert episode.episode.frames.dtype == np.float64 and episode.episode.states is None
    alone = SingleTaskAgent(load_agent(tmp_path, CPU))
    alone.begin_task()
    rng = rng_of(0, 0)
    rng.integers(2**31)  # the start of the episode
    alone.begin_episode(episode.episode.frames[0], rng, explore=True)
    for action, reward, state in zip(
        episode.episode.actions, episode.episode.rewards, episode.episode.frames[1:], strict=True
    ):
        np.testing.assert_array_equal(alone.act(), action)
        alone.observe(action, float(reward), state)
    np.testing.assert_allclose(alone.belief.mean, episode.belief_mean[1], rtol=1e-5)


def test_states_are_checked_at_the_door() -> None:
    config = on_states()
    agent = SingleTaskAgent(Agent.from_networks(config, MetaSLAC(config, 1, 1, STATE_SIZE), 1, 1))
    assert agent.observation_shape == (STATE_SIZE,)
    agent.begin_task()
    picture = np.zeros((32, 32, 3), np.uint8)
    for wrong in (picture, [0.0], [0.0, np.nan], "up"):
        with pytest.raises(MetaslacError, match="frame must be"):
            agent.begin_episode(wrong)
    agent.begin_episode(np.array([0.5, 1.0]))
    assert agent.act().shape == (1,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("family.frames", 2),
        ("model.elbo_weight", 1.0),
        ("model.inverse_weight", 1.0),
        ("train.pretrain_updates", 1),
        ("train.freeze_encoder", True),
        ("actor_critic.critic_input", "state"),
    ],
)
def test_what_needs_pixels_is_refused(name: str, value: Any) -> None:
    with pytest.raises(MetaslacError, match=f"family.observation=state needs {name}="):
        on_states(**{name: value})
