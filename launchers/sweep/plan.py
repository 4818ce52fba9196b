"""What a sweep consists of: its runs, the file sweep.json that says which sweep a directory holds.

Commands for the runs and their order are here as well; they are run by jobs.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metaslac.config.sections import TASK_INFERENCE, Config
from metaslac.config.text import differences, from_dict, listed, to_dict, with_values
from metaslac.errors import MetaslacError
from metaslac.launchers.sweep.jobs import Job, Step
from metaslac.storage.files import write_atomically
from metaslac.storage.locks import InUse, lock, owner_of
from metaslac.storage.manifest import MANIFEST

FILE = "sweep.json"
LOCK = ".lock"
REPORT = "report.html"
EVALUATION = "evaluation.json"
FORMAT = 1

TRAINING, EVALUATING, REPORTING = "training", "evaluating", "reporting"


@dataclass(frozen=True)
class Run:
    """One run of a sweep: where it is and what it is to be."""

    directory: Path
    config: Config

    @property
    def name(self) -> str:
        """INFERENCE-sSEED."""
        return self.directory.name

    @property
    def log(self) -> Path:
        """Where what its commands print goes."""
        return self.directory.with_name(f"{self.name}.log")


@dataclass(frozen=True)
class Sweep:
    """Everything that was asked for.

    `configs` has a whole configuration for each kind of task inference, whose seed is of no meaning.
    """

    out: Path
    configs: Sequence[Config]
    seeds: Sequence[int]
    train_options: Sequence[str]  # of meta-train, but for seed, task inference and run directory
    trained_options: Sequence[str]  # family, device and threads, of evaluate and report
    episodes: int
    trials: int
    overwrite: bool = False  # whether evaluations that are not as asked may be lost

    def runs(self) -> list[Run]:
        """Seed by seed, so that a sweep that was stopped has whole comparisons."""
        return [
            Run(
                self.out / f"{config.task.inference}-s{seed}",
                with_values(config, {"train.seed": seed}),
            )
            for seed in self.seeds
            for config in self.configs
        ]

    def job(self, run: Run) -> Job:
        """Training and evaluation of a run."""
        task, evaluation = run.config.task.inference, run.directory / EVALUATION
        train = ["meta-train", *self.train_options, "--task-inference", task]
        train += ["--seed", str(run.config.train.seed), "--run-dir", str(run.directory)]
        evaluate = ["evaluate", *self.trained_options, "--checkpoint", str(run.directory)]
        evaluate += ["--episodes", str(self.episodes), "--trials", str(self.trials)]
        evaluate += ["--json", str(evaluation), *["--overwrite"] * self.overwrite]
        steps = [
            Step(TRAINING, train, lambda: not is_trained(run)),
            Step(EVALUATING, evaluate, lambda: not self.is_evaluated(run.directory)),
        ]
        return Job(run.name, run.log, steps)

    def evaluation(self) -> dict[str, Any]:
        """What is asked for of the evaluation of every run."""
        from metaslac.acting.adaptation import EVALUATION_STREAM

        asked = {"split": "test", "episodes": self.episodes, "trials": self.trials, "seed": 0}
        return {**asked, "stream": EVALUATION_STREAM}

    def is_evaluated(self, directory: Path) -> bool:
        """Whether a run has one of its last checkpoint, on held-out tasks, of as many episodes and trials."""
        from metaslac.evidence.evaluation_file import read_evaluation
        from metaslac.storage.checkpoint import find_checkpoint

        path = directory / EVALUATION
        try:
            newest = (find_checkpoint(directory) / MANIFEST).stat().st_mtime_ns
            about = read_evaluation(path).about
            same = all(about[name] == value for name, value in self.evaluation().items())
            return same and path.stat().st_mtime_ns >= newest
        except (OSError, MetaslacError):
            return False  # evaluate says what is wrong, if it still is

    def evaluated(self) -> list[Path]:
        """The directories of all runs of the sweep that have been evaluated, those of earlier calls too."""
        found = []
        for path in self.out.glob(f"*-s*/{EVALUATION}"):
            inference, _, seed = path.parent.name.partition("-s")
            if inference in TASK_INFERENCE and seed.isdecimal() and self.is_evaluated(path.parent):
                found.append((int(seed), TASK_INFERENCE.index(inference), path.parent))
        return [directory for *_, directory in sorted(found)]

    def report(self) -> Job:
        """One page about all runs that have been evaluated."""
        path, directories = self.out / REPORT, self.evaluated()
        newest = max((directory / EVALUATION).stat().st_mtime_ns for directory in directories)
        command = ["report", *self.trained_options, *map(str, directories), "--out", str(path)]
        due = not path.exists() or path.stat().st_mtime_ns < newest
        return Job("report", self.out / "report.log", [Step(REPORTING, command, lambda: due)])


def is_trained(run: Run) -> bool:
    """Whether a run has made all its updates, and nothing is to be mended about it."""
    from metaslac.storage.checkpoint import load_checkpoint
    from metaslac.training.state import ROWS, is_finished

    try:
        checkpoint = load_checkpoint(run.directory)
        finished = is_finished(checkpoint, run.config.train.updates)
        return finished and (run.directory / ROWS).read_bytes() == checkpoint.read(ROWS)
    except (OSError, MetaslacError):
        return False  # meta-train says what is wrong, if anything is


def check_out(sweep: Sweep) -> None:
    """Raise MetaslacError unless the directory is free for the sweep or holds it; writes nothing."""
    from metaslac.evidence.evaluation_file import check_nothing_is_lost
    from metaslac.training.run_directory import prepare_run_directory

    try:
        _check_directory(sweep.out)
        if (sweep.out / FILE).exists():
            _check_same(sweep.out / FILE, _settings(sweep))
        elif sweep.out.is_dir() and _others_files(sweep.out):
            raise MetaslacError(f"{sweep.out} is not empty and holds no sweep; choose another --out")
    except OSError as error:
        raise MetaslacError(f"cannot use {sweep.out}: {error.strerror or error}") from None
    for run in sweep.runs():
        prepare_run_directory(run.directory, run.config)
        # Now, or evaluate would refuse once all is trained.
        if not sweep.overwrite and not sweep.is_evaluated(run.directory):
            asked = {"update": run.config.train.updates, **sweep.evaluation()}
            check_nothing_is_lost(run.directory / EVALUATION, asked, training=True)


@contextmanager
def begun(sweep: Sweep, warn: Callable[[str], None]) -> Iterator[int]:
    """Have the directory to ourselves and write sweep.json; gives the lock, for children to hold as well.

    `warn` is told what the file system cannot do.

    Raises MetaslacError if another sweep has the directory, or children that one has left are still saving.
    """
    with ExitStack() as stack:
        try:
            sweep.out.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(lock(sweep.out / LOCK, warn))
        except InUse as owner:
            who = f"another sweep is at work there, or runs of one are still saving{owner}"
            raise MetaslacError(f"{sweep.out} is in use: {who}") from None
        except OSError as error:
            raise MetaslacError(f"cannot use {sweep.out}: {error.strerror or error}") from None
        check_out(sweep)  # once more, as another process may have had it since
        _write(sweep)
        yield held


def _others_files(out: Path) -> bool:
    ours = out / LOCK, owner_of(out / LOCK)
    return any(entry not in ours for entry in out.iterdir())


def _check_directory(path: Path) -> None:
    existing = path.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise MetaslacError(f"cannot use {path} for a sweep: {existing} is not a directory")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        raise MetaslacError(f"cannot use {path} for a sweep: {existing} is not writable")


def _check_same(path: Path, asked: Config) -> None:
    found = _read(path)
    # Where a run computes and what it keeps may change, as for meta-train.
    found = replace(found, runtime=asked.runtime, checkpoint=asked.checkpoint)
    if different := differences(found, asked):
        raise MetaslacError(
            f"{path.parent} holds another sweep: {listed(different)} (there, asked for); choose another --out"
        )


def _read(path: Path) -> Config:
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise MetaslacError(f"no sweep of format {FORMAT}")
        return from_dict(values.get("settings"))
    except OSError:
        raise
    except (ValueError, RecursionError) as error:  # MetaslacError and bad UTF-8 among them
        reason = " ".join(str(error).split())
        raise MetaslacError(
            f"{path} is not of a sweep of this version: {reason}; choose another --out"
        ) from None


def _settings(sweep: Sweep) -> Config:
    """What all runs have in common; seed and task inference are the defaults."""
    common = {"train.seed": Config().train.seed, "task.inference": Config().task.inference}
    return with_values(sweep.configs[0], common)


def _write(sweep: Sweep) -> None:
    values: dict[str, Any] = {
        "format": FORMAT,
        "task_inference": [config.task.inference for config in sweep.configs],
        "seeds": list(sweep.seeds),
        "episodes": sweep.episodes,
        "trials": sweep.trials,
        "settings": to_dict(_settings(sweep)),
    }
    path, data = sweep.out / FILE, (json.dumps(values, indent=2) + "\n").encode()
    try:
        if not path.exists() or path.read_bytes() != data:
            write_atomically(path, data)
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None
