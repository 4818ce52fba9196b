"""Algorithms and presets of training on data sets."""

from __future__ import annotations

from typing import Any

import pytest

from metaslac.config.offline import ALGORITHMS, SIZES, resolve_offline
from metaslac.config.presets import resolve
from metaslac.config.sections import Config
from metaslac.config.text import differences
from metaslac.errors import MetaslacError

PIXELS = {
    "family.name": "dmc:walker-walk",
    "family.image_size": 64,
    "family.frames": 1,
    "family.action_repeat": 2,
    "family.observation": "pixels",
    "runtime.data_set": "walker",
}
STATES = {**PIXELS, "family.name": "point_robot", "family.observation": "state", "family.action_repeat": 1}

# LOMPO's published settings (its code of record), as far as there is one here for them.
PUBLISHED = {
    "model.heads": 7,
    "model.prior_std_min": 0.1,
    "model.z1_size": 64,
    "model.z2_size": 256,
    "model.hidden_size": 256,
    "model.window": 49,  # transitions of 50 frames
    "model.pixel_variance": 1.0,
    "model.reward_std": 1.0,
    "train.pretrain_updates": 25_000,
    "train.pretrain_windows": 64,
    "train.pretrain_lr": 6e-4,
    "train.freeze_encoder": True,
    "train.predict_with_critics": False,
    "train.updates": 100_000,
    "train.windows": 256,
    "train.lr_actor": 3e-4,
    "train.lr_critic": 3e-4,
    "imagination.horizon": 5,
    "imagination.share": 0.5,
    "imagination.penalty": "log_prob",
    "imagination.penalty_weight": 5.0,
    "actor_critic.hidden_size": 256,
    "actor_critic.deterministic": True,
    "actor_critic.action_noise": 0.2,
    "actor_critic.gamma": 0.99,
    "actor_critic.tau": 0.005,
    "actor_critic.layer_norm": False,
    "actor_critic.reward_scale": 1.0,
    "family.action_repeat": 2,
}


def value(config: Config, name: str) -> Any:
    section, _, field = name.partition(".")
    return getattr(getattr(config, section), field)


def test_the_lompo_preset_has_lompos_numbers() -> None:
    config = resolve_offline("lompo", "lompo", PIXELS, {})
    assert {name: value(config, name) for name in PUBLISHED} == PUBLISHED


def test_without_the_penalty_nothing_else_differs() -> None:
    for preset in SIZES:
        penalised, bare = (resolve_offline(name, preset, PIXELS, {}) for name in ("lompo", "no-penalty"))
        assert bare.imagination.penalty == "none" and penalised.imagination.penalty == "log_prob"
        assert penalised == resolve_offline("no-penalty", preset, PIXELS, {"imagination.penalty": "log_prob"})


def test_the_quick_actor_critic_is_that_of_those_who_play() -> None:
    recorded = {
        "family.name": "cheetah_vel",
        "family.image_size": 32,
        "family.frames": 3,
        "family.action_repeat": 2,
        "family.observation": "pixels",
        "runtime.data_set": "cheetah",
    }
    found = resolve_offline("actor-critic", "quick", recorded, {})
    played = resolve("quick", {"family.name": "cheetah_vel", "runtime.data_set": "cheetah"})
    assert found.train.freeze_encoder
    assert [name.split(" ")[0] for name in differences(found, played)] == ["imagination.penalty_weight"]


@pytest.mark.parametrize("preset", list(SIZES))
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_all_go_together_where_there_are_pictures(algorithm: str, preset: str) -> None:
    config = resolve_offline(algorithm, preset, PIXELS, {})
    assert config.offline and config.command == "metaslac offline-train"
    assert bool(config.imagination.share) == (algorithm in ("lompo", "no-penalty"))
    assert config.train.cloning == (algorithm == "cloning")


def test_states_are_for_those_that_imagine_nothing() -> None:
    for preset in ("quick", "default"):
        for algorithm in ("actor-critic", "cloning"):
            config = resolve_offline(algorithm, preset, STATES, {})
            assert config.on_states and config.train.cloning == (algorithm == "cloning")
        with pytest.raises(MetaslacError, match="learns from pictures, and the data set has states"):
            resolve_offline("lompo", preset, STATES, {})
    with pytest.raises(MetaslacError, match="in preset lompo learns from pictures"):
        resolve_offline("cloning", "lompo", STATES, {})


def test_changes_come_last_but_what_was_recorded_stays() -> None:
    config = resolve_offline("lompo", "quick", PIXELS, ["model.heads=3", "imagination.horizon=2"])
    assert (config.model.heads, config.imagination.horizon) == (3, 2)
    for name in ("family.action_repeat=4", "family.name=point_robot"):
        with pytest.raises(MetaslacError, match="the data set was recorded with"):
            resolve_offline("lompo", "quick", PIXELS, [name])
