"""A sweep on the screen: a line for each run, redrawn in place on a terminal, and plain lines elsewhere.

How far a run is, is read from the files it writes; nothing here knows its process.
"""

from __future__ import annotations

import csv
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from metaslac.launchers.outputs import table
from metaslac.launchers.sweep.jobs import DONE, FAILED, OVER, STOPPED, WAITING, Job
from metaslac.launchers.sweep.plan import TRAINING, Run
from metaslac.training.log.columns import CALLED, return_columns, split_in

SECONDS_BETWEEN_DRAWINGS = 0.7
SECONDS_BETWEEN_LINES = 60.0
ROWS_FOR_RATE = 10
TAIL_BYTES = 4096
MOST_PACES = 2  # one of pre-training, one of the updates after it

PRETRAINING = re.compile(rb"pre-training (\d+/\d+)")
# What a training says once in each of its phases, of how long it will take.
PACE = re.compile(rb"^(pre-training|updates left): \d.*$", re.MULTILINE)


class Progress(NamedTuple):
    """How far a run is."""

    update: int = 0
    rate: float | None = None  # updates per second, lately
    returns: tuple[str, ...] = ()  # newest return of each episode
    called: str = ""  # the tasks that they are of: validation, or held-out
    pretraining: str = ""  # 100/600, before the first update


@dataclass
class Reader:
    """Reads the progress of a run, and reads again only what has changed."""

    run: Run
    _seen: tuple[tuple[int, int], ...] = ()
    _progress: Progress = Progress()
    _log_before: int = 0  # bytes, of what earlier calls have left

    def __post_init__(self) -> None:
        self._log_before = _version(self.run.log)[1]

    def progress(self) -> Progress:
        """As of now; what cannot be read is taken for not there yet."""
        rows, log = self.run.directory / "progress.csv", self.run.log
        seen = (_version(rows), _version(log))
        if seen != self._seen:
            self._seen = seen
            self._progress = _read(rows, log)
        return self._progress

    def pace(self) -> dict[str, str]:
        """What it has said of how long it will take, by phase."""
        said = _tail(self.run.log, self._log_before)
        return {found[1].decode(): found[0].decode(errors="replace") for found in PACE.finditer(said)}

    def left(self) -> int:
        """Updates to make."""
        return max(0, self.run.config.train.updates - self.progress().update)


@dataclass
class View:
    """What the person sees of jobs while they run; `show` may be called as often as one likes."""

    readers: Sequence[Reader]
    jobs: Sequence[Job]
    limit: int
    stop: Callable[[], bool]
    quiet: bool = False
    screen: TextIO = field(default_factory=lambda: sys.stderr)
    _last: float = -SECONDS_BETWEEN_LINES
    _height: int = 0
    _stopping: bool = False
    _states: dict[str, str] = field(default_factory=dict)
    _paced: dict[str, str] = field(default_factory=dict)  # phase -> what was told of how long it takes
    _listened: float = 0.0

    def __post_init__(self) -> None:
        self._states = {job.name: WAITING for job in self.jobs}
        self._redraws = self.screen.isatty() and os.environ.get("TERM") != "dumb"

    def show(self) -> None:
        """Draw if it is time to."""
        changed = [job for job in self.jobs if job.state != self._states[job.name]]
        self._states = {job.name: job.state for job in self.jobs}
        if self.stop() and not self._stopping:
            self._stopping, self._height = True, 0  # who noticed has printed below the table
        with suppress(OSError):  # the terminal may be gone
            self._tell_pace()
            if self.quiet or not self._redraws:
                self._print(changed)
            elif time.monotonic() - self._last >= SECONDS_BETWEEN_DRAWINGS:
                self._last = time.monotonic()
                self._draw()

    def close(self) -> None:
        """Take away what was redrawn, for the results to be printed in its place."""
        with suppress(OSError):
            if self._height:
                self.screen.write(f"\x1b[{self._height}A\x1b[J")
                self.screen.flush()
                self._height = 0

    def _print(self, changed: Sequence[Job]) -> None:
        for job in changed:
            if job.state == FAILED:
                self._line(f"{job.name} failed: {job.fault}")
            elif not self.quiet:
                self._line(self._sentence(job))
        if not self.quiet and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            for job in self.jobs:
                if job.runs and job not in changed:
                    self._line(self._sentence(job))

    def _tell_pace(self) -> None:
        """Tell how long the first of the runs will take, as soon as it has said so."""
        if self.quiet or time.monotonic() - self._listened < SECONDS_BETWEEN_DRAWINGS:
            return
        self._listened = time.monotonic()
        for job in self.jobs:
            if job.state == TRAINING and len(self._paced) < MOST_PACES:
                for phase, line in self._reader(job).pace().items():
                    if phase not in self._paced:
                        self._paced[phase] = line
                        self.close()  # what is redrawn comes below
                        self._line(f"{job.name} {line}")

    def _line(self, text: str) -> None:
        print(text, file=self.screen, flush=True)

    def _sentence(self, job: Job) -> str:
        reader = self._reader(job)
        _, state, update, rate, returns, left = self._cells(job, reader)
        parts = [
            f"{job.name} {state}",
            f"update {update}" if update else "",
            f"{rate} updates/s" if rate else "",
            f"{reader.progress().called} returns {returns}" if returns else "",
            f"{left} left" if left else "",
        ]
        return ", ".join(part for part in parts if part)

    def _draw(self) -> None:
        columns, lines = _size(self.screen)
        text = self._lines(lines - 1)
        up = f"\x1b[{self._height}A" if self._height else ""
        drawn = "".join(f"\r{line[: columns - 1]}\x1b[K\n" for line in text)
        self.screen.write(f"{up}{drawn}\x1b[J")
        self.screen.flush()
        self._height = len(text)

    def _lines(self, most: int) -> list[str]:
        """The table and a line below it, with only the more interesting runs if there are too many."""
        shown, room = list(self.jobs), max(1, most - 2)
        for state in (WAITING, DONE, STOPPED):
            for job in reversed(self.jobs) if state == WAITING else self.jobs:
                if len(shown) > room and job.state == state:
                    shown.remove(job)
        rows = [self._cells(job, self._reader(job)) for job in shown[:room]]
        header = ("run", "state", "update", "updates/s", f"{_called(self.readers)}returns", "left")
        return [*table(header, rows).splitlines(), self._summary()]

    def _reader(self, job: Job) -> Reader:
        return next(reader for reader in self.readers if reader.run.name == job.name)

    def _cells(self, job: Job, reader: Reader) -> tuple[str, ...]:
        from metaslac.training.log.outlets import duration

        progress, updates = reader.progress(), reader.run.config.train.updates
        trains = job.state == TRAINING
        update = f"{progress.update}/{updates}" if progress.update else ""
        if trains and progress.pretraining:
            update = f"{progress.pretraining} of pre-training"
        rate = f"{progress.rate:.1f}" if trains and progress.rate else ""
        left = duration(reader.left() / progress.rate) if trains and progress.rate else ""
        return job.name, job.state, update, rate, " ".join(progress.returns), left

    def _summary(self) -> str:
        from metaslac.training.log.outlets import duration

        counts = {state: sum(job.state == state for job in self.jobs) for state in OVER}
        parts = [f"{counts[DONE]} of {len(self.jobs)} runs done"]
        parts += [f"{counts[state]} {state}" for state in (FAILED, STOPPED) if counts[state]]
        if self._stopping:
            parts += ["stopping: runs write their checkpoints"] if any(job.runs for job in self.jobs) else []
        elif (left := self._seconds_left()) is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def _seconds_left(self) -> float | None:
        """For the updates of all runs, if those to come go as fast as those that train; None if none does."""
        pairs = [(job, self._reader(job)) for job in self.jobs]
        rates = [reader.progress().rate or 0.0 for job, reader in pairs if job.state == TRAINING]
        rates = [rate for rate in rates if rate]
        if not rates:
            return None
        left = [reader.left() for job, reader in pairs if job.state in (WAITING, TRAINING)]
        rate = sum(rates) / len(rates)
        return max(max(left), sum(left) / self.limit) / rate


def results(readers: Sequence[Reader], jobs: Sequence[Job]) -> str:
    """A table of how each run ended and its last returns."""
    found = [reader.progress() for reader in readers]
    episodes = max((len(progress.returns) for progress in found), default=0)
    columns = (f"{_called(readers)}return {episode + 1}" for episode in range(episodes))
    header = ["run", "state", "updates", *columns]
    rows = [
        [
            job.name,
            job.state,
            str(progress.update),
            *progress.returns,
            *[""] * (episodes - len(progress.returns)),
        ]
        for job, progress in zip(jobs, found, strict=True)
    ]
    return table(header, rows)


def _read(rows: Path, log: Path) -> Progress:
    try:
        with rows.open(newline="") as file:
            table = [row for row in csv.DictReader(file) if None not in row.values()]
        if not table:
            return Progress(pretraining=_pretraining(log))
        times = [(int(row["update"]), float(row["time/seconds"])) for row in table[-ROWS_FOR_RATE:]]
        return Progress(times[-1][0], _rate(times, table[-1]), *_returns(table))
    except FileNotFoundError:
        return Progress(pretraining=_pretraining(log))
    except (OSError, ValueError, LookupError, csv.Error):
        return Progress()


def _rate(times: Sequence[tuple[int, float]], row: dict[str, str]) -> float | None:
    (first, start), (last, end) = times[0], times[-1]
    if len(times) == 1:
        return float(row["time/updates_per_second"])
    return (last - first) / (end - start) if end > start else None


def _returns(rows: Sequence[dict[str, str]]) -> tuple[tuple[str, ...], str]:
    """The newest, and what the tasks are called that they are of."""
    split = split_in(rows[0])
    if split is None:
        return (), ""
    for row in reversed(rows):
        cells = {name: float(row[name] or "nan") for name in row if name.startswith(f"{split}/")}
        if not all(map(math.isnan, cells.values())):  # returns alone may be, of episodes that diverged
            return tuple(f"{cells[name]:.2f}" for name in return_columns(row, split)), CALLED[split]
    return (), ""


def _called(readers: Sequence[Reader]) -> str:
    """What to write before the word return: which tasks', if they are the same for all runs."""
    called = {progress.called for reader in readers if (progress := reader.progress()).returns}
    return f"{called.pop()} " if len(called) == 1 else ""


def _pretraining(log: Path) -> str:
    found = PRETRAINING.findall(_tail(log))
    return found[-1].decode() if found else ""


def _tail(path: Path, start: int = 0) -> bytes:
    """The end of a file, not before `start`; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - TAIL_BYTES))
            return file.read()
    except OSError:
        return b""


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def _size(screen: TextIO) -> tuple[int, int]:
    """Columns and lines; a terminal may say that it has none."""
    try:
        columns, lines = os.get_terminal_size(screen.fileno())
    except (OSError, ValueError):
        columns, lines = 0, 0
    return columns or 80, lines or 24
