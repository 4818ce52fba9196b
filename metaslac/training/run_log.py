"""What a run writes for people to read: progress.csv, TensorBoard events and a progress bar.

How it gets to the disk is in `log_files.py`; the directory is prepared in `run_directory.py`.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tqdm import tqdm

from metaslac.training.columns import AVERAGE_RETURN, CALLED, return_columns, split_in
from metaslac.training.log_files import Events, GrowingFile

TIME_COLUMNS = ("time/seconds", "time/updates_per_second")
SECONDS_BETWEEN_LINES = 30.0


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

    A disk that is full or not there stops nothing: rows wait for it to come back.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        total_updates: int,
        quiet: bool = False,
        state: LogState | None = None,
    ) -> None:
        state = state or LogState()
        run_dir.mkdir(parents=True, exist_ok=True)
        self._file = GrowingFile(run_dir / "progress.csv", state.rows.encode())
        self._events = Events(run_dir, state.update)
        self._screen: _Bar | _Lines | None = None
        if not quiet:
            screen = _Bar if sys.stderr.isatty() else _Lines
            self._screen = screen(total_updates, state.update)
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

    def pretraining(self, update: int, total: int, values: Mapping[str, float]) -> None:
        """Show and log an update before the first counted one: events only, progress.csv starts later."""
        # At steps up to 0, or going on from the first counted ones would hide them.
        self._write_events({f"pretraining/{name}": value for name, value in values.items()}, update - total)
        self.progress(0, {"pre-training": f"{update}/{total}", **_losses(values)})

    def progress(self, update: int, text: Mapping[str, str]) -> None:
        """Show where the run is: `{"env steps": "12000", "model": "310.2"}`; cheap enough for each update."""
        if self._screen is not None:
            with suppress(OSError):  # the screen may be a file on a full disk, or gone
                self._screen.show(update, text)

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

    def close(self) -> None:
        """Close everything; further calls are errors."""
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
        self.close()

    def _show_row(self, update: int, values: Mapping[str, float]) -> None:
        split = split_in(values)
        if split is not None:
            returns = ", ".join(f"{values[name]:.1f}" for name in return_columns(values, split))
            self._evaluated = {CALLED[split]: returns}
            self.message(f"update {update}: {CALLED[split]} return of each episode: {returns}")
        steps = {"env steps": f"{values['env_steps']:.0f}"} if "env_steps" in values else {}
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


class _Bar:
    """One live line on a terminal."""

    def __init__(self, total_updates: int, update: int) -> None:
        self._bar = tqdm(
            total=total_updates,
            initial=update,
            unit="update",
            file=sys.stderr,
            dynamic_ncols=True,
            leave=True,
        )

    def show(self, update: int, text: Mapping[str, str]) -> None:
        self._bar.set_postfix(dict(text), refresh=False)
        # update() alone keeps tqdm's own limit on redraws; at a standstill the words still change
        self._bar.update(update - self._bar.n) if update != self._bar.n else self._bar.refresh()

    def line(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """The same in a log file: a plain line now and then."""

    def __init__(self, total_updates: int, update: int) -> None:
        self._total = total_updates
        self._printed_time = time.monotonic()
        self._printed_update = update
        self._unprinted: tuple[int, Mapping[str, str]] | None = None

    def show(self, update: int, text: Mapping[str, str]) -> None:
        self._unprinted = (update, text)
        if update >= self._total or time.monotonic() - self._printed_time >= SECONDS_BETWEEN_LINES:
            self._print()

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        if self._unprinted is None:
            return
        update, text = self._unprinted
        now = time.monotonic()
        rate = (update - self._printed_update) / max(now - self._printed_time, 1e-9)
        words = "  ".join(f"{name} {value}" for name, value in text.items())
        self.line(f"update {update}/{self._total}  {rate:.2f} updates/s  {words}".rstrip())
        self._printed_time, self._printed_update, self._unprinted = now, update, None
