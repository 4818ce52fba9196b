"""Settings from a YAML file, some or all."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaslac.config.presets import PRESETS, resolve
from metaslac.config.sections import Config
from metaslac.config.text import assignments_of, settings_in, to_dict, to_yaml, values_of, with_values
from metaslac.errors import MetaslacError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_some_settings_are_taken_and_typed(tmp_path: Path) -> None:
    text = "family: {name: point_robot}\ntrain:\n  updates: 7\n  lr_actor: 1e-4\n  freeze_encoder: true\n"
    found = settings_in(written(tmp_path / "some.yaml", text))
    assert found == {
        "family.name": "point_robot",
        "train.updates": 7,
        "train.lr_actor": 1e-4,  # which YAML 1.1 takes for text
        "train.freeze_encoder": True,
    }
    assert values_of(assignments_of(found)) == found


def test_names_as_set_has_them_are_taken_too(tmp_path: Path) -> None:
    text = "train.updates: 7\ntrain: {lr_actor: 1e-4}\n"
    assert settings_in(written(tmp_path / "some.yaml", text)) == {"train.updates": 7, "train.lr_actor": 1e-4}


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_whole_configuration_comes_back_from_any_preset(preset: str, tmp_path: Path) -> None:
    config = resolve(preset, ["family.name=cheetah_vel"])
    found = settings_in(written(tmp_path / "config.yaml", to_yaml(config)))
    assert len(found) == sum(map(len, to_dict(config).values()))
    assert with_values(Config(), found) == config
    assert resolve("quick", assignments_of(found)) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {updates: many}", "train.updates must be a whole number"),
        ("train: {updates: 1.5}", "train.updates must be a whole number"),
        ("train: {freeze_encoder: 1}", "train.freeze_encoder must be true or false"),
        ("train: {update: 1}", "unknown setting 'train.update'; did you mean"),
        ("trian: {updates: 1}", "unknown setting 'trian.updates'"),
        ("train: 3", "train is not a section with settings"),
        ("preset: quick", "preset is not a section with settings; presets are asked for by --preset"),
        ("train.updates: many", "train.updates must be a whole number"),
        ("train.update: 3", "unknown setting 'train.update'; did you mean"),
        ("train: {updates: 3}\ntrain.updates: 4", "train.updates is there twice"),
        ("- train", "not sections with settings"),
        ("", "not sections with settings"),
        ("train: [", "not readable as YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not readable as YAML"),
    ],
)
def test_what_is_none_is_refused_in_a_line_that_names_the_file(text: str, words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "bad.yaml", text)
    with pytest.raises(MetaslacError) as caught:
        settings_in(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and words in line and "\n" not in line


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MetaslacError, match="cannot read .*nowhere.yaml: No such file"):
        settings_in(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"family: {name: \xe9}")
    with pytest.raises(MetaslacError, match="latin.yaml: .*utf-8"):
        settings_in(tmp_path / "latin.yaml")
