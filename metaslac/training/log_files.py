"""Files that a run only ever adds to, on disks that may be full: progress.csv and TensorBoard events.

What goes into them is decided in run_log.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from metaslac.storage.files import write_atomically

EVENT_FILES = "events.out.tfevents.*"


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
        # Numbered, as tensorboardX names files after the second they are opened in.
        number = len(list(self._run_dir.glob(EVENT_FILES)))
        writer = EventsWriter(str(self._run_dir / "events"), f".{number}")
        if self._purge is not None:  # hides what an interrupted run wrote after its last checkpoint
            start = SessionLog(status=SessionLog.START)
            writer.write_event(Event(wall_time=time.time(), step=self._purge, session_log=start))
        return writer

    def _remove_empty(self) -> None:
        """Or there would be one more with every row that a full disk refuses."""
        for path in self._run_dir.glob(EVENT_FILES):
            if not path.stat().st_size:
                path.unlink()
