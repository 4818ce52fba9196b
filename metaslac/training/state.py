"""The state of a training, beyond weights and configuration, as files of a checkpoint and back.

Tensors as safetensors, numbers as JSON: nothing that could run code. All of it is needed to go on exactly.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Generator, Tensor

from metaslac.errors import MetaslacError
from metaslac.learning.faults import is_out_of_memory
from metaslac.learning.generators import restore_generator
from metaslac.learning.learner import Learner
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.replay.files import ReplayFiles
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.checkpoint import Checkpoint, Content, SavedFile, tensors_to_bytes
from metaslac.storage.manifest import MOST_COUNT, is_count
from metaslac.training.ahead import CollectorAhead
from metaslac.training.log.run_log import TIME_COLUMNS, LogState

TENSORS = "training.safetensors"
NUMBERS = "training.json"
ROWS = "progress.csv"

# What taking something for what it is not can raise.
NONSENSE = LookupError, ValueError, TypeError, ArithmeticError, RuntimeError, AttributeError, csv.Error


@dataclass
class Progress:
    """How far the training is."""

    pretrained: int = 0  # updates of the model alone
    updates: int = 0
    until_visit: int = 0  # updates before the next visit
    unlogged: dict[str, float] | None = None  # metrics of the last update, while it waits for its evaluation
    refreshed: int = 0  # updates that there were when the encoder was last trained again
    refreshing: int = 0  # updates of the model made of a refresh that has begun


class Collected(Protocol):
    """What was played for a training, in numbers for JSON; `env_steps` is one of the counts."""

    def counts(self) -> dict[str, int]: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


class ExperienceFiles(Protocol):
    """The experience of a training as files of a checkpoint, as ReplayFiles has a replay."""

    def contents(self) -> dict[str, Content]: ...
    def table(self) -> dict[str, Tensor]: ...
    def commit(self, saved: Mapping[str, SavedFile]) -> None: ...
    def restore(
        self,
        table: Mapping[str, Tensor],
        names: Collection[str],
        read: Callable[[str], dict[str, Tensor]],
        saved: Mapping[str, SavedFile],
    ) -> None: ...


@dataclass(frozen=True)
class TrainingState:
    """The parts of a training that change, gathered so that they are saved and restored together."""

    learner: Learner
    generator: Generator  # of batches
    collected: Collected
    files: ExperienceFiles
    ahead: CollectorAhead | None = None  # where visits are played so
    progress: Progress = field(default_factory=Progress)
    ranks: Ranks = ALONE

    def contents(self, log: LogState) -> dict[str, Content]:
        """The files that this rank writes, by name: the first writes all but the replay of the others."""
        table = self.files.table()
        if not self.ranks.first:
            return self.files.contents()
        tensors = {
            "generator": self.generator.get_state(),
            **_prefixed("learner/", self.learner.state()),
            **_prefixed("replay/", table),
            **_prefixed("ahead/", self.ahead.state() if self.ahead else {}),
        }
        numbers = {
            "progress": vars(self.progress),
            "collector": self.collected.state(),
            "log": {"seconds": log.seconds, "update": log.update},
        }
        return {
            TENSORS: tensors_to_bytes(tensors),
            NUMBERS: (json.dumps(numbers, indent=1) + "\n").encode(),
            ROWS: log.rows.encode(),
            **self.files.contents(),
        }

    def restore(self, checkpoint: Checkpoint) -> LogState:
        """Go back to where a checkpoint was written; networks are the caller's.

        Raises MetaslacError for a file that is not as it was saved, or does not fit this training.
        """
        tensors = checkpoint.read_tensors(TENSORS)
        numbers, rows = _numbers(checkpoint), checkpoint.read(ROWS)
        with _blamed_on(checkpoint.path / NUMBERS):
            _check_counts(numbers["collector"], self.collected.state())
            self.collected.load_state(numbers["collector"])
            vars(self.progress).update(vars(_progress(checkpoint, numbers)))
            seconds, update = _times(**numbers["log"])
        with _blamed_on(checkpoint.path / ROWS):
            log = LogState(rows.decode(), seconds, update)
            _check_rows(log.rows, update, self.progress.unlogged or ())
        with _blamed_on(checkpoint.path / TENSORS):
            restore_generator(self.generator, tensors["generator"])
            self.learner.load_state(_without(tensors, "learner/"))
            self._restore_ahead(_without(tensors, "ahead/"), checkpoint.path / TENSORS)
        names = checkpoint.manifest["files"]
        saved = {
            name: SavedFile(checkpoint.path / name, entry["sha256"], entry["size"])
            for name, entry in names.items()
        }
        with _blamed_on(checkpoint.path):
            self.files.restore(_without(tensors, "replay/"), names, checkpoint.read_tensors, saved)
        return log

    def _restore_ahead(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        if self.ahead is not None:
            self.ahead.load_state(tensors, path)
        elif tensors:
            raise ValueError("it has weights to play ahead with")


def restore_replay(checkpoint: Checkpoint, replay: TaskReplay) -> None:
    """Fill an empty replay with what a checkpoint has of it, and nothing else of the training.

    Raises MetaslacError for a file that is not as it was saved, or is of another replay; and where none is.
    """
    checkpoint.need_training("there is no replay in it")
    if "data_set" in checkpoint.manifest:
        raise MetaslacError(f"{checkpoint.path} was learned from a data set and has no replay")
    if TENSORS not in checkpoint.manifest["files"]:
        raise MetaslacError(f"{checkpoint.path} has no replay: it is not of a training")
    table = _without(checkpoint.read_tensors(TENSORS), "replay/")
    with _blamed_on(checkpoint.path):
        ReplayFiles(replay).restore(table, checkpoint.manifest["files"], checkpoint.read_tensors, {})


def is_finished(checkpoint: Checkpoint, updates: int) -> bool:
    """Whether a training of so many updates has nothing left to do. Raises MetaslacError for damage."""
    with _blamed_on(checkpoint.path / NUMBERS):
        progress = _progress(checkpoint, _numbers(checkpoint))
    return progress.updates >= updates and progress.unlogged is None


def logged_rows(checkpoint: Checkpoint) -> list[dict[str, float]]:
    """The rows of progress.csv at a checkpoint, oldest first. Raises MetaslacError."""
    with _blamed_on(checkpoint.path / ROWS):
        rows = checkpoint.read(ROWS).decode()
        header, lines = _parsed(rows) if rows else ([], [])
        return [dict(zip(header, line, strict=True)) for line in lines]


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Make whatever content that cannot be leads to an error of one line."""
    try:
        yield
    except MetaslacError:
        raise
    except NONSENSE as error:
        if is_out_of_memory(error):
            raise
        reason = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise MetaslacError(f"{path} does not fit this training: {reason}") from None


def _numbers(checkpoint: Checkpoint) -> Any:
    data = checkpoint.read(NUMBERS)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise MetaslacError(f"{checkpoint.path / NUMBERS} is not readable as JSON") from None


def _progress(checkpoint: Checkpoint, numbers: Mapping[str, Any]) -> Progress:
    """How far the training was. Raises all sorts of errors for what is not that."""
    values, refreshes = numbers["progress"], {"refreshed": 0, "refreshing": 0}
    if not refreshes.keys() & values.keys():  # it is from before there were any
        values = values | refreshes
    if values.keys() != vars(Progress()).keys():
        raise ValueError("its progress has other entries")
    progress = Progress(**values)
    counted = progress.pretrained, progress.updates, progress.until_visit
    if not all(map(is_count, (*counted, progress.refreshed, progress.refreshing))):
        raise ValueError("its progress is not counted in whole numbers")
    if progress.refreshed > progress.updates:
        raise ValueError("its encoder was trained again after updates that were not made")
    if progress.unlogged is not None and not all(type(x) is float for x in progress.unlogged.values()):
        raise ValueError("its metrics are not numbers")
    counts = progress.updates, numbers["collector"]["env_steps"]
    if counts != (checkpoint.manifest["update"], checkpoint.manifest["env_steps"]):
        raise ValueError("its progress is not the manifest's")
    return progress


def _check_counts(values: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Raise ValueError unless these are counters that once were `start`; what is missing only falls."""
    if values.keys() != start.keys():
        raise ValueError("it counts other things")
    for name, first in start.items():
        found = values[name]
        if type(found) is not type(first):
            raise ValueError(f"{name} is not counted in whole numbers")
        pairs = zip(found, first, strict=True) if isinstance(first, list) else [(found, first)]
        signs = -1 if name == "missing" else 1
        if not all(type(value) is int and is_count(signs * (value - low)) for value, low in pairs):
            raise ValueError(f"{name} is not counted in whole numbers")


def _times(seconds: float, update: int) -> tuple[float, int]:
    if type(seconds) is not float or not 0 <= seconds <= MOST_COUNT or not is_count(update):
        raise ValueError("its log is not at a time")
    return seconds, update


def _check_rows(rows: str, update: int, metrics: Iterable[str]) -> None:
    """Raise ValueError for a progress.csv that does not end with `update`, or has no column for a metric."""
    if not rows and not update:
        return
    header, numbers = _parsed(rows)
    if (header[0], *header[-2:]) != ("update", *TIME_COLUMNS) or not set(metrics) <= set(header):
        raise ValueError("its columns are not those of this training")
    if (numbers[-1][0] if numbers else 0) != update:
        raise ValueError(f"its last line is not that of update {update}")


def _parsed(rows: str) -> tuple[list[str], list[list[float]]]:
    """Names of columns and lines of numbers; a blank cell, which older runs have, is NaN.

    Raises ValueError or csv.Error.
    """
    header, *lines = csv.reader(io.StringIO(rows, newline=""), strict=True)
    numbers = [[float(cell or "nan") for cell in line] for line in lines]
    if any(len(line) != len(header) for line in lines) or not rows.endswith("\n"):
        raise ValueError("its lines are not whole")
    return header, numbers


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
