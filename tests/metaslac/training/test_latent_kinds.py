"""Runs with every kind of latent model, from collection to an agent that adapts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CPU, FakeFamily, meta_train, tiny_config
from runs import assert_equal, at, rows, train

from metaslac.acting.adaptation import adapt
from metaslac.acting.agent import load_agent
from metaslac.config.sections import LATENT_KINDS, Config
from metaslac.config.text import from_dict, to_dict, with_values
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.trainer import MetaTrainer

SHORT = {"train.updates": 1, "train.pretrain_updates": 1, "evaluation.every": 1}


def config_of(kind: str, actor_input: str, **values: Any) -> Config:
    return with_values(
        tiny_config(), {"model.kind": kind, "actor_critic.actor_input": actor_input, **SHORT, **values}
    )


@pytest.mark.parametrize("actor_input", ["features", "latent"])
@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_a_run_ends_with_a_checkpoint_that_acts_as_the_trained_agent_does(
    kind: str, actor_input: str, tmp_path: Path
) -> None:
    config, family = config_of(kind, actor_input), FakeFamily()
    meta_train(config, family, tmp_path, CPU, quiet=True)
    saved = load_checkpoint(tmp_path)
    assert saved.config == config
    trainer = MetaTrainer(config, family, CPU)
    trainer.resume(saved)
    agents = trainer.agent, load_agent(tmp_path, CPU)
    played = [
        adapt(agent, family.make_vector_env(2), family.test_tasks, episodes=2, seed=1) for agent in agents
    ]
    for one, other in zip(*played, strict=True):
        np.testing.assert_array_equal(one.returns, other.returns)
        assert np.isfinite(one.returns).all()


IMAGINED = {
    **{"imagination.share": 0.5, "model.heads": 3, "imagination.penalty": "log_prob"},
    **{"train.extra_steps": 1, "actor_critic.cloning_weight": 0.5},
}
LOMPO = {**IMAGINED, "actor_critic.cloning_weight": 0.0, "actor_critic.deterministic": True}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("slac", {}),
        ("deterministic", {}),
        ("slac", {"task.prior_beliefs": 5}),
        ("slac", IMAGINED),
        ("filtering", LOMPO),
        ("slac", {"train.cloning": True}),
    ],
    ids=["slac", "deterministic", "prior", "imagined", "lompo", "cloned"],
)
def test_stops_change_nothing_where_an_actor_on_latents_plays_ahead(
    kind: str, more: dict[str, Any], tmp_path: Path
) -> None:
    values = {"train.updates": 5, "train.updates_per_visit": 2, "train.collect_ahead": True, **more}
    config = config_of(kind, "latent", **values, **{"checkpoint.every": 2})
    assert train(tmp_path / "whole", config=config)
    assert not train(tmp_path / "stopped", at(30), config)
    assert train(tmp_path / "stopped", config=config)
    assert_equal(tmp_path / "whole", tmp_path / "stopped")
    told = {name for name in rows(tmp_path / "whole")[-1] if name.startswith("imagination/")}
    imagines = "imagination.share" in more
    assert told == ({"imagination/reward", "imagination/penalty"} if imagines else set())


def test_a_frozen_encoder_leaves_latents_for_an_actor_to_see(tmp_path: Path) -> None:
    values = {
        "train.freeze_encoder": True,
        "actor_critic.critic_input": "features",
        "actor_critic.standardise": True,
    }
    config, family = config_of("filtering", "latent", **values), FakeFamily()
    meta_train(config, family, tmp_path, CPU, quiet=True)
    agent = load_agent(tmp_path, CPU)
    assert agent.networks["actor"].standardise is None
    played = adapt(agent, family.make_vector_env(2), family.test_tasks, episodes=1)
    assert all(np.isfinite(trial.returns).all() for trial in played)


def test_runs_from_before_there_were_kinds_are_slac_with_an_actor_on_features() -> None:
    values = to_dict(tiny_config())
    del values["model"]["kind"], values["actor_critic"]["actor_input"]
    assert from_dict(values) == tiny_config()
    assert (tiny_config().model.kind, tiny_config().actor_critic.actor_input) == ("slac", "features")
