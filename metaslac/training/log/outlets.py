"""Where the log of a run goes: files that are only ever added to, on disks that may be full, and the screen.

What goes there is decided in run_log.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from metaslac.storage.files import write_atomically
from metaslac.training.log.progress_bar import ProgressBar

EVENT_FILES = "events.out.tfevents.*"
SECONDS_BETWEEN_LINES = 30.0
PRETRAINING, UPDATES = "pre-training", "update"  # phases of a run, as the screen calls them


class GrowingFile:
    """A file that is only added to, and whose content is kept: what could not be written is written later.

    Raises OSError, from `write` alone, while the disk refuses; no line is ever left half-written for longer.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        write_atomically(path, content)
        self.content = bytearray(content)
        self._on_disk = len(content)
        self._descriptor = os.open(path, os.O_WRONLY)

    def write(self, data: bytes) -> None:
        """Add `data` and all that is still waiting."""
        self.content += data
        try:
            while rest := bytes(self.content[self._on_disk :]):
                self._on_disk += os.pwrite(self._descriptor, rest, self._on_disk)
        except OSError:
            whole = self.content.rfind(b"\n", 0, self._on_disk) + 1
            os.ftruncate(self._descriptor, whole)
            self._on_disk = whole
            raise

    def close(self) -> None:
        """Further writes are errors."""
        os.close(self._descriptor)


class Events:
    """Scalars for TensorBoard, written at once.

    tensorboardX's SummaryWriter writes in a thread, which a full disk kills, and then waits for it for ever.
    """

    def __init__(self, run_dir: Path, update: int) -> None:
        self._run_dir = run_dir
        self._purge: int | None = update + 1
        self._writer: EventsWriter | None = None

    def write(self, values: Mapping[str, float], update: int) -> None:
        """Raises OSError while the disk refuses; a file that it refused is not written to again."""
        if self._writer is None:
            self._writer = self._open()
        try:
            for name, value in values.items():
                event = Event(wall_time=time.time(), step=update, summary=scalar(name, value))
                self._writer.write_event(event)
            self._writer.flush()
            self._purge = None
        except OSError:
            self._writer = None
            self._remove_empty()
            raise

    def close(self) -> None:
        """What has been written is on its way to the disk already."""
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> EventsWriter:
        writer = events_writer(self._run_dir)
        if self._purge is not None:  # hides what an interrupted run wrote after its last checkpoint
            start = SessionLog(status=SessionLog.START)
            writer.write_event(Event(wall_time=time.time(), step=self._purge, session_log=start))
        return writer

    def _remove_empty(self) -> None:
        """Or there would be one more with every row that a full disk refuses."""
        for path in self._run_dir.glob(EVENT_FILES):
            if not path.stat().st_size:
                path.unlink()


def events_writer(run_dir: Path) -> EventsWriter:
    """Of one event file more; raises OSError."""
    # Numbered, as tensorboardX names files after the second they are opened in.
    return EventsWriter(str(run_dir / "events"), f".{len(list(run_dir.glob(EVENT_FILES)))}")


class Bar:
    """One live line on a terminal, and another for each phase after the first."""

    def __init__(self) -> None:
        self._phase = ""
        self._bar: ProgressBar | None = None

    def show(self, phase: str, done: int, total: int, text: Mapping[str, str]) -> None:
        if self._bar is None or phase != self._phase:
            self.close()
            self._phase = phase
            self._bar = ProgressBar(
                total=total,
                initial=done,
                desc=phase if phase == PRETRAINING else None,
                unit="update",
                file=sys.stderr,
                dynamic_ncols=True,
                leave=True,
            )
        self._bar.set_postfix(dict(text), refresh=False)
        # update() alone keeps tqdm's own limit on redraws; at a standstill the words still change
        self._bar.update(done - self._bar.n) if done != self._bar.n else self._bar.refresh()

    def line(self, text: str) -> None:
        ProgressBar.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Lines:
    """The same in a log file: a plain line now and then."""

    def __init__(self, update: int) -> None:
        self._unprinted: tuple[int, int, Mapping[str, str]] | None = None
        self._begin(UPDATES, update)

    def show(self, phase: str, done: int, total: int, text: Mapping[str, str]) -> None:
        if phase != self._phase:
            self.close()
            self._begin(phase, done)
        if done == self._printed[1]:  # of a standstill no rate can be told
            return
        self._unprinted = (done, total, text)
        if done >= total or time.monotonic() - self._printed[0] >= SECONDS_BETWEEN_LINES:
            self._print()

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._print()

    def _begin(self, phase: str, done: int) -> None:
        self._phase = phase
        self._begun = self._printed = time.monotonic(), done

    def _print(self) -> None:
        if self._unprinted is None:
            return
        (done, total, text), now = self._unprinted, time.monotonic()
        words = [f"{self._phase} {done}/{total}", f"{_rate(self._printed, now, done):.2f} updates/s"]
        if done < total:
            words.append(f"{duration((total - done) / _rate(self._begun, now, done))} left")
        self.line("  ".join([*words, *(f"{name} {value}" for name, value in text.items())]))
        self._printed, self._unprinted = (now, done), None


def _rate(since: tuple[float, int], now: float, done: int) -> float:
    """Updates per second since a time and a number of updates."""
    return (done - since[1]) / max(now - since[0], 1e-9)


def duration(seconds: float) -> str:
    """A length of time for people, who need no more than two digits of it."""
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes // 60:.0f} h {minutes % 60:02.0f} min" if hours < 48 else f"{hours / 24:.1f} days"
