"""Evaluated runs of seconds, for the tests of commands that compare runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from metaslac.evidence.evaluation_file import read_evaluation, write_evaluation
from metaslac.launchers.cli import cli

ONE_THREAD = ("--device", "cpu", "--threads", "1")
EPISODES, TRIALS = 2, 2


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def evaluate(directory: Path, *more: str) -> None:
    trials = ("--episodes", str(EPISODES), "--trials", str(TRIALS))
    run("evaluate", "--checkpoint", str(directory), *trials, *more, *ONE_THREAD)


def changed(directory: Path, kind: str, seed: int, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A run beside the given one that was trained otherwise and got other returns."""
    other = directory.with_name(f"{kind}-{seed}")
    shutil.copytree(directory, other, symlinks=True)
    evaluation = read_evaluation(directory)
    settings = json.loads(json.dumps(evaluation.about["settings"]))
    settings["task"]["inference"], settings["train"]["seed"] = kind, seed
    about = {**evaluation.about, "inference": kind, "train_seed": seed, "settings": settings}
    held_out = replace(evaluation.held_out, returns=change(evaluation.held_out.returns))
    write_evaluation(other / "evaluation.json", replace(evaluation, about=about, held_out=held_out))
    return other


ROOT = Path(__file__).parents[1]


def here(*arguments: str) -> str:
    """What a command that works prints, run in this process."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line
