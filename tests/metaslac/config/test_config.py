"""Settings: what is refused and how it is said, and that text forms lose nothing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metaslac.config.sections import Config
from metaslac.config.text import (
    apply_settings,
    describe,
    differences,
    from_dict,
    from_yaml,
    to_dict,
    to_yaml,
    with_values,
)
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError

UNTOLD = ["task.gradient=model", "actor_critic.critic_input=features"]


def one_line(error: pytest.ExceptionInfo[MetaslacError]) -> str:
    message = str(error.value)
    assert message and "\n" not in message
    return message


def test_defaults_are_valid() -> None:
    validate(Config())


def test_assignments_are_parsed_by_the_type_of_the_field() -> None:
    assignments = [
        "train.lr_model=1e-3",
        "train.updates=7",
        "task.prior_factor=false",
        "family.name=point_robot",
    ]
    config = apply_settings(Config(), assignments)
    assert config.train.lr_model == 1e-3
    assert config.train.updates == 7
    assert config.task.prior_factor is False
    assert config.family.name == "point_robot"
    assert Config().train.updates == 20_000


def test_the_later_assignment_wins() -> None:
    assert apply_settings(Config(), ["train.seed=1", "train.seed=2"]).train.seed == 2


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.update=3", "did you mean 'train.updates'?"),
        ("trian.updates=3", "did you mean 'train.updates'?"),
        ("updates=3", "unknown setting 'updates'"),
        ("train=3", "unknown setting 'train'"),
        ("train.updates.x=3", "unknown setting"),
        ("train.updates=3.5", "train.updates must be a whole number, not '3.5'"),
        ("train.lr_model=fast", "train.lr_model must be a number, not 'fast'"),
        ("task.prior_factor=1", "task.prior_factor must be true or false, not '1'"),
        ("train.updates", "section.field=value"),
        ("train.updates=", "whole number"),
        ("train.updates=" + "9" * 5000, "whole number"),
    ],
)
def test_a_bad_assignment_is_one_clear_line(assignment: str, expected: str) -> None:
    with pytest.raises(MetaslacError) as error:
        apply_settings(Config(), [assignment])
    assert expected in one_line(error)


@pytest.mark.parametrize(
    ("assignments", "named"),
    [
        (["model.window=0"], "model.window"),
        (["model.hidden_size=1000000"], "model.hidden_size"),
        (["family.image_size=48"], "family.image_size must be one of 32, 64, 128"),
        (["task.inference=guess"], "task.inference must be one of infer, oracle, blind"),
        (["task.gradient=none"], "task.gradient"),
        (["task.size=0"], "task.size"),
        (["task.prior_factor=false"], "task.factor_rank=0"),
        (["task.reward_std=0.1"], "task.prior_beliefs, of which there are 0"),
        (["task.context_min=0"], "task.context_min"),
        (["task.context_min=129"], "task.context_max"),
        (["task.context_max=129"], "task.context_segments"),
        (["actor_critic.gamma=0"], "actor_critic.gamma"),
        (["actor_critic.gamma=1.01"], "actor_critic.gamma"),
        (["train.lr_model=nan"], "train.lr_model must be a finite number"),
        (["actor_critic.reward_scale=inf"], "actor_critic.reward_scale"),
        (["train.seed=-1"], "train.seed"),
        (["family.frames=4"], "family.frames must be one of 1, 2, 3"),
        (["model.last_action_weight=1"], "family.frames of 2 or 3"),
        (["model.elbo_weight=0"], "critic_input=latent needs model.elbo_weight"),
        (["model.elbo_weight=0", "actor_critic.critic_input=latent_features"], "model.elbo_weight"),
        (["model.elbo_weight=0", "actor_critic.critic_input=features"], "trains the encoder"),
        (["model.kind=vae2"], "model.kind must be one of slac, vae, filtering"),
        (
            [
                *("model.elbo_weight=0", "model.inverse_weight=1"),
                *("actor_critic.critic_input=features", "actor_critic.actor_input=latent"),
            ],
            "actor_critic.actor_input=latent needs model.elbo_weight",
        ),
        ([*UNTOLD, "model.elbo_weight=0", "model.inverse_weight=1"], "task.gradient=model needs"),
        ([*UNTOLD, "model.kind=vae", "model.reward_weight=0"], "rewards or next latents m tells"),
        ([*UNTOLD, "train.freeze_encoder=true"], "with train.freeze_encoder needs"),
        (["train.refresh_first=100"], "train.freeze_encoder"),
        (["train.updates=0"], "train.updates"),
        (["train.windows=33"], "multiple of train.steps_per_batch"),
        (["train.model_windows=40"], "train.model_windows"),
        (["replay.episodes_per_task=1", "train.initial_episodes=1"], "replay.episodes_per_task"),
        (["replay.episodes_per_task=2", "train.initial_episodes=3"], "replay.episodes_per_task"),
        (["evaluation.exploration_episodes=4"], "evaluation.exploration_episodes"),
        (["runtime.device=tpu"], "runtime.device"),
        (["family.name="], "family.name"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(assignments: list[str], named: str) -> None:
    config = apply_settings(Config(), assignments)
    with pytest.raises(MetaslacError) as error:
        validate(config)
    assert named in one_line(error)


@pytest.mark.parametrize(
    "assignment", ["actor_critic.gamma=1", "train.lr_alpha=0", "train.pretrain_updates=0"]
)
def test_the_ends_of_ranges_are_allowed(assignment: str) -> None:
    validate(apply_settings(Config(), [assignment]))


@pytest.mark.parametrize(
    "assignments",
    [
        UNTOLD,
        [*UNTOLD, "model.kind=vae"],
        [*UNTOLD, "model.reward_weight=0"],
        [*UNTOLD, "train.freeze_encoder=true", "model.feature_reward_weight=1"],
        [*UNTOLD, "train.freeze_encoder=true", "task.prior_beliefs=20", "task.reward_std=0.1"],
        [*UNTOLD, "train.freeze_encoder=true", "actor_critic.actor_input=latent"],
        [*UNTOLD, "train.freeze_encoder=true", "train.predict_with_critics=false"],
        [*UNTOLD, "train.freeze_encoder=true", "task.inference=blind"],
    ],
)
def test_the_model_alone_may_train_m_where_m_tells_it_something(assignments: list[str]) -> None:
    validate(apply_settings(Config(), assignments))


def test_task_size_zero_is_allowed_without_inference() -> None:
    validate(apply_settings(Config(), ["task.size=0", "task.inference=blind"]))


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.booleans(),
    st.text(st.characters(codec="utf-8")),
)
def test_yaml_and_dict_round_trips_are_exact(number: float, whole: int, flag: bool, text: str) -> None:
    values = {"train.lr_model": number, "train.seed": whole, "task.prior_factor": flag, "family.name": text}
    config = with_values(Config(), values)
    assert from_dict(to_dict(config)) == config
    assert from_yaml(to_yaml(config)) == config


def test_yaml_is_plain() -> None:
    assert yaml.safe_load(to_yaml(Config())) == to_dict(Config())


def test_whole_numbers_are_read_as_floats_where_a_float_is_meant() -> None:
    values = to_dict(Config())
    values["actor_critic"]["reward_scale"] = 5
    read = from_dict(values).actor_critic.reward_scale
    assert read == 5.0 and isinstance(read, float)


def changed(section: str, field: str | None, value: object) -> dict[str, object]:
    values: dict[str, object] = dict(to_dict(Config()))
    if field is None:
        values[section] = value
    else:
        values[section] = {**to_dict(Config())[section], field: value}
    return values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, "mapping"),
        ([1], "mapping"),
        ({}, "missing setting family, model"),
        (changed("extra", None, {}), "unknown setting 'extra'"),
        (changed("train", None, 3), "train must be a mapping"),
        (changed("train", "sed", 3), "unknown setting 'train.sed'; did you mean 'seed'?"),
        (changed("train", "seed", "3"), "train.seed must be a whole number"),
        (changed("train", "seed", True), "train.seed must be a whole number"),
        (changed("train", "lr_model", None), "train.lr_model must be a number"),
        (changed("train", "lr_model", 10**400), "train.lr_model must be a number"),
        (changed("task", "prior_factor", 1), "task.prior_factor must be true or false"),
        (changed("family", "name", 3), "family.name must be text"),
    ],
)
def test_a_dictionary_that_is_not_a_configuration_is_refused_by_name(values: object, expected: str) -> None:
    with pytest.raises(MetaslacError) as error:
        from_dict(values)
    assert expected in one_line(error)


def test_settings_younger_than_a_file_are_what_runs_did_before() -> None:
    values = to_dict(Config())
    for section, name in (("train", "extra_steps"), ("task", "factor_rank"), ("model", "inverse_weight")):
        del values[section][name]
    before = from_dict(values)
    assert (before.train.extra_steps, before.task.factor_rank, before.model.inverse_weight) == (0, 0, 0.0)
    assert Config().task.factor_rank != 0 and "factor_rank" not in values["task"]
    assert to_dict(from_dict(to_dict(before))) == to_dict(before)


def test_a_missing_field_is_named() -> None:
    values = to_dict(Config())
    del values["train"]["seed"]
    with pytest.raises(MetaslacError, match=r"missing setting train\.seed"):
        from_dict(values)


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "\x00", "!!python/object/apply:os.system ['true']", "9" * 5000, "[" * 5000, "a: 2020-99-99"],
)
def test_text_that_is_not_a_configuration_is_one_clear_line(text: str) -> None:
    with pytest.raises(MetaslacError) as error:
        from_yaml(text)
    one_line(error)


def test_every_setting_is_described() -> None:
    infos = describe(Config)
    sections = dataclasses.fields(Config)
    assert len(infos) == sum(len(dataclasses.fields(getattr(Config(), section.name))) for section in sections)
    for info in infos:
        section, field = info.name.split(".")
        assert info.default == getattr(getattr(Config(), section), field)
        assert info.help and "\n" not in info.help
        assert info.type == type(info.default).__name__


def test_differences_name_the_settings() -> None:
    other = apply_settings(Config(), ["train.seed=1", "task.kl_weight=0.5"])
    assert differences(Config(), other) == ["task.kl_weight (0.1, 0.5)", "train.seed (0, 1)"]
    assert differences(Config(), Config()) == []


def test_not_a_number_is_never_valid() -> None:
    with pytest.raises(MetaslacError):
        validate(with_values(Config(), {"actor_critic.gamma": math.nan}))
