"""Presets: every one is whole, and what is asked for on the command line has the last word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest

from metaslac.config import presets
from metaslac.config.baselines import BASELINES
from metaslac.config.presets import FAMILY_PRESETS, PRESETS, fit_to_tasks, resolve
from metaslac.config.sections import Config
from metaslac.config.validation import validate
from metaslac.envs import family_names
from metaslac.envs.families.suite import suite_names
from metaslac.errors import MetaslacError

WITHOUT_TASKS = [*BASELINES, "sac-state"]

PAIRS = [
    (preset, inference)
    for preset in PRESETS
    for inference in ("infer", "oracle", "blind")
    if preset not in WITHOUT_TASKS or inference != "infer"
]


@pytest.mark.parametrize(("preset", "inference"), PAIRS)
@pytest.mark.parametrize("family", [*family_names(), "dmc:cheetah-run", "dmc:finger-spin", "dmc:hopper-hop"])
def test_every_preset_is_valid_for_every_family(preset: str, family: str, inference: str) -> None:
    config = resolve(preset, [f"family.name={family}", f"task.inference={inference}"])
    assert config.family.name == family


@pytest.mark.parametrize("preset", WITHOUT_TASKS)
def test_what_knows_no_tasks_infers_none(preset: str) -> None:
    assert resolve(preset, []).task.inference == "blind"
    with pytest.raises(MetaslacError, match=r"task\.size must be at least 1 when task\.inference is infer"):
        resolve(preset, ["task.inference=infer"])
    assert resolve(preset, ["task.inference=infer", "task.size=3"]).task.size == 3


def test_family_presets_are_for_families_and_presets_that_exist() -> None:
    for preset, family in FAMILY_PRESETS:
        assert preset in PRESETS and family in {*family_names(), *suite_names()}


def test_the_default_preset_is_the_defaults() -> None:
    assert resolve("default", []) == Config()


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "PRESETS", {"p": {"train.updates": 1, "train.seed": 1, "train.windows": 8}})
    monkeypatch.setattr(
        presets, "FAMILY_PRESETS", {("p", "point_robot"): {"train.updates": 2, "train.seed": 2}}
    )
    train = resolve("p", ["family.name=point_robot", "train.seed=3", "train.seed=4"]).train
    assert (train.windows, train.updates, train.seed) == (8, 2, 4)
    assert train.lr_model == Config().train.lr_model
    assert resolve("p", ["family.name=cheetah_vel"]).train.updates == 1


# What SLAC's published code does by its own files of settings; repeats are those of the tables of figures.
SLAC = {
    "family.image_size": 64,
    "family.frames": 1,
    "model.base_depth": 32,
    "model.feature_size": 256,
    "model.feature_norm": False,
    "model.z1_size": 32,
    "model.z2_size": 256,
    "model.hidden_size": 256,
    "model.convolution_init": True,
    "model.window": 8,
    "model.elbo_weight": 1.0,
    "model.pixel_variance": 0.1,
    "model.reward_weight": 1.0,
    "model.reward_std": 0.0,  # learned
    "model.reward_std_min": 1e-5,
    "model.inverse_weight": 0.0,
    "model.last_action_weight": 0.0,
    "model.contrast_weight": 0.0,
    "model.feature_reward_weight": 0.0,
    "task.inference": "blind",
    "task.size": 0,
    "actor_critic.critic_input": "latent",
    "actor_critic.standardise": False,
    "actor_critic.action_scale": 1.0,
    "actor_critic.hidden_size": 256,
    "actor_critic.layer_norm": False,
    "actor_critic.actor_layer_norm": False,
    "actor_critic.gamma": 0.99,
    "actor_critic.tau": 0.005,
    "actor_critic.alpha_init": 1.0,
    "actor_critic.target_entropy": -1.0,
    "actor_critic.reward_scale": 1.0,
    "replay.decisions_per_task": 100_000,
    "train.initial_decisions": 10_000,
    "train.random_hold": 1,
    "train.pretrain_updates": 100_000,
    "train.pretrain_windows": 32,
    "train.pretrain_lr": 1e-4,
    "train.pretrain_decay": 0.0,
    "train.freeze_encoder": False,
    "train.encoder_from_critic": False,
    "train.random_shift": 0,
    "train.tasks_per_visit": 1,
    "train.prior_episodes": 1,
    "train.posterior_episodes": 0,
    "train.updates_per_decision": 1.0,
    "train.tasks_per_update": 1,
    "train.model_windows": 32,
    "train.windows": 256,
    "train.steps_per_batch": 1,
    "train.extra_steps": 0,
    "train.predict_with_critics": False,
    "train.lr_model": 1e-4,
    "train.lr_critic": 3e-4,
    "train.lr_actor": 3e-4,
    "train.lr_alpha": 3e-4,
    "train.lr_decay": 0.0,
    "evaluation.every": 10_000,
    "evaluation.episodes": 1,
    "evaluation.trials": 10,
    "evaluation.sample_actions": True,
}
REPEATS = {
    "dmc:ball_in_cup-catch": 4,
    "dmc:cartpole-swingup": 4,
    "dmc:cheetah-run": 4,
    "dmc:finger-spin": 1,
    "dmc:reacher-easy": 4,
    "dmc:walker-walk": 2,
}


def values(config: Config, names: Collection[str]) -> dict[str, Any]:
    return {name: attrgetter(name)(config) for name in names}


@pytest.mark.parametrize("family", [*REPEATS, "dmc:hopper-hop", "cheetah_vel"])
def test_slac_has_the_numbers_of_the_published_code(family: str) -> None:
    config = resolve("slac", [f"family.name={family}"])
    assert values(config, SLAC) == SLAC
    assert config.family.action_repeat == REPEATS.get(family, 1)
    decisions = config.train.initial_decisions + config.train.updates
    assert (
        decisions * config.family.action_repeat == 500_000
    )  # control steps, the last of the published tables


@pytest.mark.parametrize("family", REPEATS)
def test_quick_slac_is_slac_but_for_sizes_batches_and_the_beginning(family: str) -> None:
    config = resolve("slac-quick", [f"family.name={family}"])
    left = {name for name, value in values(config, SLAC).items() if value != SLAC[name]}
    assert left - {"train.updates_per_decision"} == {
        *("model.base_depth", "model.feature_size", "model.z2_size", "model.hidden_size"),
        *("train.windows", "train.model_windows"),
        *("train.initial_decisions", "train.pretrain_updates", "train.pretrain_windows", "train.pretrain_lr"),
        *("actor_critic.alpha_init", "evaluation.every"),
    }
    train, repeat = config.train, config.family.action_repeat
    assert repeat == REPEATS[family]
    learned_from = train.updates / train.updates_per_decision
    assert (train.initial_decisions + learned_from) * repeat == 100_000


@pytest.mark.parametrize("family", REPEATS)
def test_sac_from_pixels_is_slac_without_a_model(family: str) -> None:
    config = resolve("sac-pixels", [f"family.name={family}"])
    assert {name: value for name, value in values(config, SLAC).items() if value != SLAC[name]} == {
        "model.window": 4,
        "model.elbo_weight": 0.0,
        "actor_critic.critic_input": "features",
        "train.encoder_from_critic": True,
        "train.pretrain_updates": 0,
        "train.lr_model": 3e-4,  # of the encoder, which is the critics' here
    }
    assert config.family.action_repeat == REPEATS[family]


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 5, 6, 7, 8, 40])
@pytest.mark.parametrize("preset", PRESETS)
def test_batches_are_as_large_whatever_the_number_of_tasks(preset: str, tasks: int) -> None:
    """In windows of all tasks together, to half a part of a step's."""
    asked = resolve(preset, [])
    config, note = fit_to_tasks(asked, tasks, set())
    validate(config)
    before, after = asked.train, config.train
    assert after.tasks_per_update == min(before.tasks_per_update, tasks)
    for name, parts in (("windows", before.steps_per_batch), ("model_windows", 1), ("pretrain_windows", 1)):
        batches = [getattr(train, name) * train.tasks_per_update for train in (before, after)]
        assert abs(batches[1] - batches[0]) <= parts * after.tasks_per_update / 2, name
        assert (f"train.{name} to {getattr(after, name)}" in note) == (
            after.tasks_per_update < before.tasks_per_update
        )


@pytest.mark.parametrize("name", ["windows", "model_windows", "pretrain_windows"])
def test_windows_that_were_asked_for_stay(name: str) -> None:
    asked = resolve("default", [f"train.{name}=12"])
    config, note = fit_to_tasks(asked, 1, {f"train.{name}"})
    assert config.train == replace(asked.train, tasks_per_update=1, tasks_per_visit=1)
    assert "lowered train.tasks_per_visit from 8, train.tasks_per_update from 8 to 1" in note
    assert "raised" not in note


def test_a_meta_batch_that_was_asked_for_stays() -> None:
    asked = resolve("default", ["train.tasks_per_update=8", "train.tasks_per_visit=1"])
    assert fit_to_tasks(asked, 1, {"train.tasks_per_update", "train.tasks_per_visit"}) == (asked, "")
    config, note = fit_to_tasks(asked, 1, {"train.tasks_per_update"})
    assert config is asked and not note
