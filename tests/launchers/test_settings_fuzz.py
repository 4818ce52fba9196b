"""Command lines that nobody meant: meta-train runs what can be, and refuses the rest in one line.

Each is made from its seed: settings that are right, in any order and spelling, and in most one thing wrong.
"""

from __future__ import annotations

import csv
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner
from drafts import Draft, plan

import metaslac.training.online
from metaslac.config.sections import Config
from metaslac.config.text import to_dict
from metaslac.launchers.cli import cli
from metaslac.training.run_directory import start_run_directory

MOST_SECONDS = 30  # for one command line; most take a tenth of one


# Families of the user's own: a few of point_robot's tasks, so that training takes no time.
MODULE = """
from metaslac.envs.families.point_robot import PointRobot

class FewPoints(PointRobot):
    name = "few_points"

    def task_params(self):
        train, test = super().task_params()
        return train[:3], test[:1]

class Broken(FewPoints):
    name = "broken"

    def model(self):
        raise OSError("no model, \\n and two lines")

something = 1
"""


class Outcome(NamedTuple):
    """What became of a command line."""

    exit_code: int
    stdout: str
    stderr: str
    error: str
    trained: Config | None


class Workplace:
    """A directory to run command lines in, with things in the way; training is watched or left out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trains = False
        self.trained: Config | None = None
        Path("few_points.py").write_text(MODULE)
        Path("taken").write_text("")
        Path("dangling").symlink_to("nothing")
        for name in ("full", "damaged"):
            Path(name).mkdir()
        Path("full/notes").write_text("")
        Path("damaged/config.yaml").write_text("train: [")
        start_run_directory(Path("other"), Config(), {})
        self.contents = contents()
        train = metaslac.training.online.meta_train

        def watched(config: Config, *arguments: Any, **options: Any) -> None:
            self.trained = config
            if self.trains:
                train(config, *arguments, **options)

        monkeypatch.setattr(metaslac.training.online, "meta_train", watched)

    def run(self, arguments: list[str], trains: bool) -> Outcome:
        self.trains, self.trained = trains, None
        with at_most(MOST_SECONDS):
            result = CliRunner().invoke(cli, arguments)
        torch.set_num_threads(1)
        unforeseen = None if isinstance(result.exception, SystemExit) else result.exception
        return Outcome(
            result.exit_code,
            result.stdout,
            result.stderr,
            repr(unforeseen) if unforeseen else "",
            self.trained,
        )

    def changed(self) -> bool:
        return contents() != self.contents


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield Workplace(monkeypatch)
    sys.modules.pop("few_points", None)


def contents() -> set[str]:
    return {str(path) for path in Path().rglob("*") if "__pycache__" not in path.parts}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where it takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def complaint(seed: int, workplace: Workplace) -> str:
    """What is wrong with how the command line of a seed ended; empty if nothing is."""
    rng = random.Random(seed)
    spoil, trains = plan(seed)
    draft = Draft(rng, extreme=not trains)
    if spoil:
        spoil(draft)
    arguments = draft.arguments()
    outcome = workplace.run(arguments, trains)
    too_large = "GiB" in outcome.stderr and not trains  # for this machine, though not for every one
    if spoil or too_large:
        problems = refusal_problems(outcome, workplace)
    else:
        problems = run_problems(outcome, draft.settings)
        if trains and not problems:
            problems = training_problems(Path(draft.run_dir or next(Path("runs").iterdir())), draft.settings)
    for name in ("new", "runs"):
        shutil.rmtree(name, ignore_errors=True)
    if workplace.changed():
        problems.append("something was written elsewhere")
    return (
        f"seed {seed} (wrong: {spoil}): {', '.join(problems)}\n{arguments!a}\n{outcome}" if problems else ""
    )


def refusal_problems(outcome: Outcome, workplace: Workplace) -> list[str]:
    """What is not as a refusal is to be."""
    lines = outcome.stderr.splitlines()
    return [
        *["an error of another kind"] * bool(outcome.error),
        *["exit code is not 2"] * (outcome.exit_code != 2),
        *["something on stdout"] * bool(outcome.stdout),
        *["not one line on stderr"] * (len(lines) != 1 or not lines[0].startswith("metaslac: ")),
        *["training was begun"] * (outcome.trained is not None),
        *["something was written"] * workplace.changed(),
    ]


def run_problems(outcome: Outcome, settings: dict[str, Any]) -> list[str]:
    """What is not as asked for."""
    if outcome.exit_code or outcome.error or outcome.trained is None:
        return ["did not run"]
    sections = to_dict(outcome.trained)
    got = {name: sections[name.partition(".")[0]][name.partition(".")[2]] for name in settings}
    return [f"{name} is {got[name]!r}" for name, value in settings.items() if got[name] != value]


def training_problems(run_dir: Path, settings: dict[str, Any]) -> list[str]:
    """What a training did not leave."""
    with (run_dir / "progress.csv").open(newline="") as file:
        updates = [int(row["update"]) for row in csv.DictReader(file)]
    whole = (run_dir / "checkpoints" / "last" / "manifest.json").is_file()
    return [
        *[f"rows of updates {updates}"] * (updates != list(range(1, settings["train.updates"] + 1))),
        *["no checkpoint"] * (not whole),
    ]


@pytest.mark.parametrize("cases", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_any_command_line_runs_or_is_refused_in_one_line(cases: int, workplace: Workplace) -> None:
    complaints = [found for seed in range(cases) if (found := complaint(seed, workplace))]
    assert not complaints, "\n\n".join(complaints)
