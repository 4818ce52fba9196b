"""TensorBoard's HParams and Images panels; the scalars of a run are in its events anyway."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import hparams, image, scalar

from metaslac.training.log.columns import AVERAGE_RETURN
from metaslac.training.log.outlets import events_writer
from metaslac.training.log.trackers.tracker import About, Picture, translated


class TensorBoard:
    """An event file of its own beside the one with the scalars.

    Args:
        about: of the run.
        begun: of no use here, where the run directory is all there is.
    """

    id = ""

    @translated(OSError)
    def __init__(self, about: About, begun: str) -> None:
        self._writer = events_writer(about.directory)
        self._update = 0
        settings = {name: _plain(value) for name, value in about.flat().items()}
        # By the last value of that scalar HParams compares runs; the 0.0 here is not written.
        for summary in hparams(settings, {AVERAGE_RETURN: 0.0}):
            self._write(summary)

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        """Nothing: they are in the events of every run."""
        self._update = update

    @translated(OSError)
    def picture(self, name: str, picture: Picture, update: int) -> None:
        """For the Images panel."""
        self._write(image(name, picture, dataformats="HWC"))

    @translated(OSError)
    def result(self, values: Mapping[str, float]) -> None:
        """As scalars."""
        for name, value in values.items():
            self._write(scalar(name, value))

    @translated(OSError)
    def close(self, finished: bool) -> None:
        """Of the file."""
        self._writer.close()

    def _write(self, summary: object) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=self._update, summary=summary))
        self._writer.flush()


def _plain(value: object) -> str | float:
    return value if isinstance(value, str | bool | int | float) else str(value)
