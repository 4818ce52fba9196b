"""A page of runs of several methods: what they are called, how they are drawn, and what is not computed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reports import ONE_THREAD, run

from metaslac.evidence.evaluation_file import read_evaluation, write_evaluation
from metaslac.launchers.report.gather import Run, by_label, read_run, with_methods
from metaslac.launchers.report.plots import looks
from metaslac.launchers.report.words import number

Change = dict[str, Any]


def of_method(directory: Path, beside: Path, name: str, changes: Change, better_by: float = 0.0) -> Path:
    """A copy of a run, trained with other settings as its evaluation says."""
    other = beside / name
    shutil.copytree(directory, other, symlinks=True)
    evaluation = read_evaluation(directory)
    settings = json.loads(json.dumps(evaluation.about["settings"]))
    for setting, value in changes.items():
        section, _, entry = setting.partition(".")
        settings[section][entry] = value
    about = {**evaluation.about, "settings": settings}
    about |= {"inference": settings["task"]["inference"], "train_seed": settings["train"]["seed"]}
    held_out = replace(evaluation.held_out, returns=evaluation.held_out.returns + better_by)
    write_evaluation(other / "evaluation.json", replace(evaluation, about=about, held_out=held_out))
    return other


VAE, FROM_FEATURES = {"model.kind": "vae"}, {"actor_critic.critic_input": "features"}


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{}, {"train.seed": 1}], ["infer"]),
        ([{"task.inference": "blind"}, {}], ["infer", "blind"]),
        ([VAE, {}, VAE | {"train.seed": 1}], ["vae", "slac"]),
        ([{}, VAE | FROM_FEATURES], ["slac, critic_input=latent", "vae, critic_input=features"]),
        ([VAE | {"task.inference": "blind"}, {}], ["infer, slac", "blind, vae"]),
    ],
    ids=["seeds", "kinds", "models", "models and inputs", "kinds and models"],
)
def test_runs_are_called_by_what_tells_them_apart(
    evaluated_run: Path, tmp_path: Path, changes: Sequence[Change], labels: list[str]
) -> None:
    runs = [
        read_run(of_method(evaluated_run, tmp_path, str(number), change))
        for number, change in enumerate(changes)
    ]
    assert list(by_label(with_methods(runs))) == labels


def test_settings_that_are_younger_than_a_run_are_what_they_were(evaluated_run: Path) -> None:
    """A kind of model was SLAC's always; factors were diagonal before there was a choice of them."""
    young = read_run(evaluated_run)
    for setting, labels in (
        ("model.kind", ["infer"]),
        ("task.factor_rank", ["factor_rank=0", "factor_rank=2"]),
    ):
        settings = json.loads(json.dumps(young.about["settings"]))
        section, _, entry = setting.partition(".")
        del settings[section][entry]
        about = {**young.about, "settings": settings}
        old = Run(young.directory, replace(young.evaluation, about=about), young.progress, young.files)
        assert list(by_label(with_methods([old, young]))) == labels


@pytest.mark.parametrize("count", [2, 6, 8])
def test_methods_look_different(count: int) -> None:
    found = looks([f"method {number}" for number in range(count)])
    assert list(found) == [f"method {number}" for number in range(count)]
    assert len(set(found.values())) == min(count, 6)


def test_kinds_look_alike_on_every_page() -> None:
    assert looks(["blind"])["blind"] == looks(["infer", "blind", "oracle"])["blind"]


def test_a_page_of_two_models(evaluated_run: Path, tmp_path: Path) -> None:
    vae = of_method(evaluated_run, tmp_path, "vae", VAE, better_by=5.0)
    out = tmp_path / "page.html"
    run("report", str(evaluated_run), str(vae), "--out", str(out), *ONE_THREAD)
    page = out.read_text()
    assert re.findall(r'<span class="kind (\w+)">(\w+)</span> 1 run', page) == [
        ("series0", "slac"),
        ("series1", "vae"),
    ]
    returns = read_evaluation(evaluated_run).held_out.returns[..., -1]
    for label, shift in (("slac", 0.0), ("vae", 5.0)):
        mean = number(float(np.mean(returns)) + shift)
        assert re.search(rf">{label}</span></th><td>2</td><td>{re.escape(mean)}</td>", page)
    assert "Gap closed" not in page and "no oracle" not in page
