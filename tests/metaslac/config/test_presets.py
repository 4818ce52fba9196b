"""Presets: every one is whole, and what is asked for on the command line has the last word."""

from __future__ import annotations

import pytest

from metaslac.config import presets
from metaslac.config.presets import FAMILY_PRESETS, PRESETS, resolve
from metaslac.config.sections import Config
from metaslac.envs import family_names


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("family", family_names())
@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
def test_every_preset_is_valid_for_every_family(preset: str, family: str, inference: str) -> None:
    config = resolve(preset, [f"family.name={family}", f"task.inference={inference}"])
    assert config.family.name == family


def test_family_presets_are_for_families_and_presets_that_exist() -> None:
    for preset, family in FAMILY_PRESETS:
        assert preset in PRESETS and family in family_names()


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
