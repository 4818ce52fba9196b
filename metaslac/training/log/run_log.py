"""What a run writes for people to read: progress.csv, TensorBoard events and its progress on the screen.

How it gets to disk and screen is in `outlets.py`; the directory is prepared in `run_directory.py`.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from metaslac.config.fields import MOST_COUNT
from metaslac.config.schedule import TrainConfig
from metaslac.training.log.columns import AVERAGE_RETURN, CALLED, return_columns, split_in
from metaslac.training.log.outlets import (
    PRETRAINING,
    UPDATES,
    Bar,
    Events,
    GrowingFile,
    Lines,
    duration,
)
from metaslac.training.log.trackers.trackers import Trackers, Warn

TIME_COLUMNS = ("time/seconds", "time/updates_per_second")

# After so many updates of pre-training, or fewer in so many seconds, it is said how long the run will take.
FIRST_UPDATES, FIRST_SECONDS, FEWEST_UPDATES = 10, 60.0, 2
SHORT_SECONDS, LONG_SECONDS = 60.0, 3600.0  # of shorter ones nothing is said


class LogState(NamedTuple):
    """What a log needs to know to go on where a checkpoint was written."""

    rows: str = ""  # progress.csv
    seconds: float = 0.0
    update: int = 0

    def columns(self) -> list[str]:
        """Of progress.csv; none before the first row."""
        return next(csv.reader(self.rows.splitlines()[:1]), [])


class RunLog:
    """Rows of numbers for files, a few words of them for the screen.

    The first row fixes the columns of progress.csv. `update` and `time/...` are added here; the latter are
    the only ones that differ between two equal runs.

    A disk that is full or not there stops nothing: rows wait for it to come back. Nor does a tracker that
    fails: it is warned of. `track` opens those that there are, which are told what the events are told.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        total_updates: int,
        quiet: bool = False,
        state: LogState | None = None,
        track: Callable[[Warn], Trackers] = Trackers,
    ) -> None:
        state = state or LogState()
        run_dir.mkdir(parents=True, exist_ok=True)
        self._screen: Bar | Lines | None = None
        if not quiet:
            self._screen = Bar() if sys.stderr.isatty() else Lines(state.update)
        self.trackers = track(self.warning)
        self._file = GrowingFile(run_dir / "progress.csv", state.rows.encode())
        self._events = Events(run_dir, state.update)
        self._total_updates = total_updates
        self._words: Mapping[str, str] = {}
        self._last_time = time.monotonic()
        self._started = self._last_time - state.seconds
        self._last_update = state.update
        self._evaluated: dict[str, str] = {}
        self._columns: list[str] = state.columns()
        self._troubled: set[str] = set()

    def state(self) -> LogState:
        """To go on from here."""
        return LogState(self._file.content.decode(), self._seconds(), self._last_update)

    def row(self, update: int, values: Mapping[str, float | None]) -> None:
        """Append one row; a column with None or no value is nan, a name without a column is an error.

        But for the average return: runs that were begun before there was such a column go on without.
        """
        if not self._columns:
            self._write_header(list(values))
        elif AVERAGE_RETURN not in self._columns:
            values = {name: value for name, value in values.items() if name != AVERAGE_RETURN}
        unknown = [name for name in values if name not in self._columns]
        if unknown:
            raise ValueError(f"progress.csv has no column {', '.join(unknown)}")
        numbers = {name: value for name, value in values.items() if value is not None}
        cells: dict[str, float] = {"update": update, **self._times(update), **numbers}
        self._write_line([_cell(cells.get(name)) for name in self._columns])
        self._write_events({name: value for name, value in cells.items() if name != "update"}, update)
        self._show_row(update, numbers)

    def pretraining(self, update: int, total: int, values: Mapping[str, float] | None = None) -> None:
        """Show an update before the first counted one, and log its numbers, if they are given.

        They are events only: progress.csv starts later.
        """
        if values is not None:
            # At steps up to 0, or going on from the first counted ones would hide them.
            self._write_events(
                {f"pretraining/{name}": value for name, value in values.items()}, update - total
            )
            self._words = _losses(values)
        self._show(PRETRAINING, update, total)

    def progress(self, update: int, text: Mapping[str, str] | None = None) -> None:
        """Show where the run is; cheap enough for each update.

        `text` is such as `{"env steps": "12000", "model": "310.2"}`; None leaves what was shown last.
        """
        if text is not None:
            self._words = text
        self._show(UPDATES, update, self._total_updates)

    def message(self, text: str) -> None:
        """Print one line that stays, such as the result of an evaluation."""
        if self._screen is not None:
            with suppress(OSError):
                self._screen.line(text)

    def warning(self, text: str) -> None:
        """Print one line that stays, also for a run that is quiet."""
        with suppress(OSError):
            if self._screen is not None:
                self._screen.line(text)
            else:
                print(text, file=sys.stderr, flush=True)

    def result(self) -> None:
        """Tell trackers what the run came to: the returns of its last evaluation."""
        for row in reversed(list(csv.DictReader(self._file.content.decode().splitlines()))):
            split = split_in(row)
            found = {name: float(row[name] or "nan") for name in return_columns(row, split)} if split else {}
            if not all(map(math.isnan, found.values())):
                self.trackers.result({f"final/{name}": value for name, value in found.items()})
                return

    def close(self, finished: bool = True) -> None:
        """Close everything; further calls are errors."""
        self.trackers.close(finished)
        if self._screen is not None:
            with suppress(OSError):
                self._screen.close()
        with self._trouble_told("progress.csv"):
            self._file.write(b"")
        self._file.close()
        self._events.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(finished=kind is None)

    def _show(self, phase: str, done: int, total: int) -> None:
        if self._screen is not None:
            with suppress(OSError):  # the screen may be a file on a full disk, or gone
                self._screen.show(phase, done, total, self._words)

    def _show_row(self, update: int, values: Mapping[str, float]) -> None:
        split = split_in(values)
        if split is not None:
            returns = ", ".join(f"{values[name]:.1f}" for name in return_columns(values, split))
            self._evaluated = {CALLED[split]: returns}
            self.message(f"update {update}: {CALLED[split]} return of each episode: {returns}")
        steps = {"env steps": f"{values['env_steps']:.0f}"} if values.get("env_steps") else {}
        self.progress(update, {**steps, **self._evaluated, **_losses(values)})

    def _write_header(self, columns: Sequence[str]) -> None:
        own = ("update", *TIME_COLUMNS)
        self._columns = ["update", *(name for name in columns if name not in own), *TIME_COLUMNS]
        self._write_line(self._columns)

    def _write_line(self, cells: Sequence[str]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        with self._trouble_told("progress.csv"):
            self._file.write(text.getvalue().encode())

    def _write_events(self, values: Mapping[str, float], update: int) -> None:
        with self._trouble_told("events"):
            self._events.write(values, update)
        self.trackers.scalars(values, update)

    @contextmanager
    def _trouble_told(self, what: str) -> Iterator[None]:
        """Say once that something cannot be written, until it can be, and go on."""
        try:
            yield
            self._troubled.discard(what)
        except OSError as error:
            if what not in self._troubled:
                self._troubled.add(what)
                then = "rows are kept until it can be" if what == "progress.csv" else "they are dropped"
                self.warning(f"cannot write {what}: {error.strerror or error}; {then}")

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _times(self, update: int) -> dict[str, float]:
        now = time.monotonic()
        rate = (update - self._last_update) / max(now - self._last_time, 1e-9)
        self._last_time, self._last_update = now, update
        return {"time/seconds": self._seconds(), "time/updates_per_second": round(rate, 3)}


def _cell(value: float | None) -> str:
    """The shortest text that reads back as the same number; viskit takes a blank for zero."""
    if value is None:
        return "nan"
    return str(value) if isinstance(value, int) else repr(float(value))


def _losses(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.3g}" for name, value in values.items() if name.endswith("/loss")}


class Pace:
    """Tells once, after the first updates of a phase, how long the run will take, unless that is soon seen.

    Args:
        train: of the run.
        tell: is given the line.
        hint: what the line ends with where the run will take hours.
    """

    def __init__(self, train: TrainConfig, tell: Callable[[str], None], hint: str = "") -> None:
        self._train = train
        self._tell = tell
        self._hint = hint
        self._begun: tuple[float, int] | None = None
        self._told: set[str] = set()
        self._warm = False

    def begin(self, done: int) -> None:
        """A phase begins, of whose updates so many were made before."""
        self._begun = time.monotonic(), done

    def pretraining(self, done: int) -> None:
        """So many updates of pre-training are made."""
        if not self._warm:  # the first takes longer than those after it
            self._warm = True
            self.begin(done)
        train, seconds = self._train, self._seconds_each(PRETRAINING, done, FIRST_UPDATES)
        if seconds is None:
            return
        left = (train.pretrain_updates - done) * seconds
        line = f"pre-training: {1 / seconds:.2f} updates/s, about {duration(left)} more"
        if not train.freeze_encoder:  # an update trains the model on so many windows, and then all the rest
            least = train.updates * seconds * train.model_windows / train.pretrain_windows
            line += f", then {train.updates} updates"
            # Of a few, evaluations take longer than they do.
            line += f" in at least {duration(least)}" * (least >= SHORT_SECONDS)
            left += least
        self._say(line, left)

    def updates(self, done: int) -> None:
        """So many updates are made; their first visit counts, as there is one to so many of them."""
        # Where a visit decides how many updates follow it, the first ones are told of by the clock alone.
        first = MOST_COUNT if self._train.updates_per_decision else self._train.updates_per_visit
        seconds = self._seconds_each(UPDATES, done, first)
        count = self._train.updates - done
        if seconds is not None and count:
            line = f"updates left: {count}, at {1 / seconds:.2f} updates/s about {duration(count * seconds)}"
            self._say(f"{line} without evaluations", count * seconds)

    def _seconds_each(self, phase: str, done: int, first: int) -> float | None:
        if phase in self._told or self._begun is None:
            return None
        since, before = self._begun
        seconds, count = time.monotonic() - since, done - before
        if count < first and (seconds < FIRST_SECONDS or count < FEWEST_UPDATES):
            return None
        self._told.add(phase)
        return seconds / count

    def _say(self, line: str, seconds: float) -> None:
        if seconds >= SHORT_SECONDS:
            self._tell(line + self._hint * (seconds >= LONG_SECONDS))
