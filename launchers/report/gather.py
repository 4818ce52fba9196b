"""The runs of a report: read from their directories, and refused where they do not belong together.

What is computed of them is in figures.py and tables.py; checkpoints are opened by recordings.py.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaslac.config.sections import TASK_INFERENCE
from metaslac.config.text import from_dict
from metaslac.errors import MetaslacError
from metaslac.evidence.evaluation_file import DESIGN, Evaluation, evaluation_path, read_evaluation
from metaslac.storage.last import last_in
from metaslac.storage.manifest import MANIFEST, read_manifest, read_verified
from metaslac.storage.named import is_exported

PROGRESS = "progress.csv"
NEEDED = (("family", "name"), ("train", "seed"), ("task", "inference"))  # settings
COLUMNS = ("update", "env_steps", "time/seconds")  # of every progress.csv
KINDS = ("infer", "blind", "oracle")  # the order of everything on the page
# Settings that make a run one of another method, beside where m comes from.
METHOD = (
    "model.kind",
    "actor_critic.critic_input",
    "actor_critic.actor_input",
    "train.encoder_from_critic",
    "train.random_shift",
    "train.cloning",
    "actor_critic.cloning_weight",
    "actor_critic.deterministic",
    "task.factor_rank",
    "model.heads",
    "imagination.share",
    "imagination.horizon",
    "imagination.penalty",
    "imagination.penalty_weight",
    "runtime.data_set",
)
MOST_SHOWN = 24  # characters of what differs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A run directory, its evaluation and the rows of its training."""

    directory: Path
    evaluation: Evaluation
    progress: Mapping[str, Array]  # column -> a number for each row; not a number where blank
    files: Mapping[str, bytes]  # that of the evaluation and progress.csv as they are
    called: str = ""  # together with its like, on a page of several methods

    @property
    def about(self) -> Mapping[str, Any]:
        """What the evaluation says of the agent."""
        return self.evaluation.about

    @property
    def kind(self) -> str:
        """infer, blind or oracle."""
        return str(self.about["inference"])

    @property
    def label(self) -> str:
        """What it is called together with its like: its kind, its method, or both."""
        return self.called or self.kind

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return int(self.about["train_seed"])

    @property
    def name(self) -> str:
        """As the directory is called."""
        return self.directory.resolve().name


def read_runs(directories: Sequence[Path], given: bool = False) -> list[Run]:
    """The runs, by kind, method as first given, and seed; with `given`, as they were with given context.

    Raises MetaslacError, in one line, for what cannot be on one page.
    """
    seen: dict[Path, Path] = {}
    for directory in directories:
        if directory.resolve() in seen:
            raise MetaslacError(f"{directory} is given twice")
        seen[directory.resolve()] = directory
    runs = [read_run(directory, given) for directory in directories]
    for run in runs[1:]:
        _check_common(runs[0], run)
    return with_methods(runs)


def read_run(directory: Path, given: bool = False) -> Run:
    """One run. Raises MetaslacError if it was not evaluated so, or is not a run."""
    if is_exported(directory):
        raise MetaslacError(
            f"{directory} is an exported agent, not a run directory: it has no learning curve"
        )
    if (directory / MANIFEST).is_file():
        raise MetaslacError(f"{directory} is a checkpoint, not a run directory")
    evaluated = evaluation_path(directory, given=given).name
    files = {name: _read(directory, name) for name in (evaluated, PROGRESS)}
    evaluation = read_evaluation(directory / evaluated)
    if evaluation.about["split"] != "test":
        command = f"metaslac evaluate --checkpoint {shlex.quote(str(directory))}"
        raise MetaslacError(
            f"{directory / evaluated} is of {evaluation.about['split']} tasks, and a report of held-out "
            f"ones; `{command}` makes one of those"
        )
    _check_about(directory / evaluated, evaluation.about)
    progress = _columns(directory / PROGRESS, files[PROGRESS])
    _check_rows(directory, files[PROGRESS])
    return Run(directory, evaluation, progress, files)


def with_methods(runs: Sequence[Run]) -> list[Run]:
    """The same, sorted, each called by its method if they are of several."""
    configs = [from_dict(run.about["settings"]) for run in runs]
    values = [[attrgetter(name)(config) for name in METHOD] for config in configs]
    differ = [number for number, found in enumerate(zip(*values, strict=True)) if len(set(found)) > 1]
    methods = [", ".join(_in_words(METHOD[number], found[number]) for number in differ) for found in values]
    kinds = len({run.kind for run in runs}) > 1
    calls = [f"{run.kind}, {method}" * kinds or method for run, method in zip(runs, methods, strict=True)]
    named = [replace(run, called=called * bool(differ)) for run, called in zip(runs, calls, strict=True)]
    first = {run.label: number for number, run in reversed(list(enumerate(named)))}
    return sorted(named, key=lambda run: (KINDS.index(run.kind), first[run.label], run.seed, run.name))


def by_label(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Label -> its runs, in their order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return groups


def returns_of(runs: Sequence[Run]) -> Array:
    """Held-out returns (runs, tasks, trials, episodes)."""
    return np.stack([run.evaluation.held_out.returns for run in runs])


def _in_words(name: str, value: Any) -> str:
    if name == "runtime.data_set":
        return f"from {PurePath(value).name}" if value else "playing"
    return str(value) if name == "model.kind" else f"{name.partition('.')[2]}={str(value).lower()}"


def _check_about(path: Path, about: Mapping[str, Any]) -> None:
    if about["inference"] not in TASK_INFERENCE:
        raise MetaslacError(f"{path}: unknown inference {about['inference']!r}")
    settings = about["settings"]
    whole = all(isinstance(section, dict) for section in settings.values())
    if not whole or any(entry not in settings.get(section, ()) for section, entry in NEEDED):
        raise MetaslacError(f"{path}: its settings are not those of a run")


def _check_rows(directory: Path, rows: bytes) -> None:
    """Raise MetaslacError if the rows are others than the last checkpoint has, where they have a checksum."""
    checkpoint = last_in(directory / "checkpoints")
    entry = read_manifest(checkpoint)["files"].get(PROGRESS) if checkpoint else None
    if checkpoint is None or entry is None:
        return
    saved = read_verified(checkpoint / PROGRESS, entry)
    if not (rows.startswith(saved) or saved.startswith(rows)):  # a run may be under way
        copy = shlex.join(["cp", str(checkpoint / PROGRESS), str(directory / PROGRESS)])
        raise MetaslacError(
            f"{directory / PROGRESS} was changed: it has not the rows of {checkpoint.name}, the last "
            f"checkpoint; that one's are to be trusted: {copy}"
        )


def _check_common(first: Run, other: Run) -> None:
    for entry in DESIGN:
        one, two = first.about[entry], other.about[entry]
        if one != two:
            raise MetaslacError(
                f"these are no runs to compare: {first.directory} has {entry} {str(one)[:MOST_SHOWN]}, "
                f"{other.directory} {str(two)[:MOST_SHOWN]}"
            )
    if list(first.evaluation.held_out.tasks) != list(other.evaluation.held_out.tasks):
        raise MetaslacError(f"{first.directory} and {other.directory} were evaluated on different tasks")


def _read(directory: Path, name: str) -> bytes:
    path = directory / name
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not directory.is_dir():
            raise MetaslacError(f"{directory} is not a directory") from None
        if name != PROGRESS:
            command = f"metaslac evaluate --checkpoint {shlex.quote(str(directory))}"
            command += " --context ..." * (name == evaluation_path(directory, given=True).name)
            raise MetaslacError(f"{directory} has no {name}; `{command}` makes it") from None
        raise MetaslacError(f"{directory} is not a run directory: it has no {name}") from None
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None


def _columns(path: Path, data: bytes) -> dict[str, Array]:
    try:
        header, *rows = list(csv.reader(io.StringIO(data.decode())))
        cells = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows])
        table = cells.reshape(len(rows), len(header))
    except (ValueError, csv.Error):  # bad UTF-8 and rows of different lengths among them
        raise MetaslacError(f"{path} is damaged: not a table of numbers") from None
    missing = [name for name in COLUMNS if name not in header]
    if missing or not len(table):
        raise MetaslacError(f"{path} has no {missing[0] if missing else 'rows'}")
    return dict(zip(header, table.T, strict=True))
