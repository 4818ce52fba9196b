"""`--config` of meta-train and sweep."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from reports import ONE_THREAD, refusal, run
from runs import TINY

import metaslac
from metaslac.config.sections import Config
from metaslac.config.text import differences, from_yaml

SETTINGS = dict(text.removeprefix("--set=").split("=") for text in TINY if text.startswith("--set="))


def config_of(path: Path) -> Config:
    return from_yaml((path / "config.yaml").read_text())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    sections: dict[str, list[str]] = {"family": ["name: point_robot"], "train": ["updates: 2", "seed: 5"]}
    for name, value in SETTINGS.items():
        section, _, field = name.partition(".")
        sections.setdefault(section, []).append(f"{field}: {value}")
    lines = [f"{name}:\n" + "".join(f"  {entry}\n" for entry in found) for name, found in sections.items()]
    path = tmp_path / "mine.yaml"
    path.write_text("".join(lines))
    return path


def test_a_file_is_stronger_than_the_preset_and_weaker_than_flags(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["meta-train", "--preset", "quick_latent", *ONE_THREAD, "--quiet"]
    plain = [*train, *TINY, "--family", "point_robot", "--updates", "2", "--seed", "6"]
    run(*plain, "--run-dir", "plain")
    run(*train, "--config", str(file), "--seed", "6", "--run-dir", "filed")
    assert differences(config_of(tmp_path / "plain"), config_of(tmp_path / "filed")) == []
    names = ("progress.csv", "config.yaml")
    plain_rows, filed_rows = (
        (tmp_path / where / names[0]).read_text().splitlines()[0] for where in ("plain", "filed")
    )
    assert plain_rows == filed_rows


def test_a_runs_own_file_starts_another_which_is_called_after_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metaslac.meta_train(config=file, settings={"runtime.threads": 1}, quiet=True, tell=lambda line: None)
    first = tmp_path / "runs/point_robot-mine-infer-s5"
    shutil.copy(first / "config.yaml", tmp_path / "again.yaml")
    metaslac.meta_train(config="again.yaml", quiet=True, tell=lambda line: None)
    again = tmp_path / "runs/point_robot-again-infer-s5"
    assert config_of(again) == config_of(first)
    assert "the run has its settings" in refusal("meta-train", "--resume", str(first), "--config", str(file))


def test_bad_files_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("train: {update: 3}")
    for command in ("meta-train", "sweep"):
        out = ["--run-dir" if command == "meta-train" else "--out", str(tmp_path / "out")]
        line = refusal(command, "--family", "point_robot", "--config", str(tmp_path / "bad.yaml"), *out)
        assert f"{tmp_path / 'bad.yaml'}: unknown setting 'train.update'" in line
    assert not (tmp_path / "out").exists()


def test_a_sweep_takes_it_too(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "swept"
    sweep = ["sweep", "--config", str(file), "--seeds", "1", "--first-seed", "3", "--threads", "1"]
    run(*sweep, "--task-inference", "blind", "--episodes", "1", "--trials", "1", "--out", str(out), "--quiet")
    config = config_of(out / "blind-s3")
    assert (config.train.updates, config.train.seed, config.task.inference) == (2, 3, "blind")
    assert config.family.name == "point_robot" and config.model.base_depth == int(
        SETTINGS["model.base_depth"]
    )
