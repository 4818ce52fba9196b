"""Writes a data set episode by episode, beside its place; only a whole one is ever to be seen there.

What a data set is stands in data_set.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.replay.data_set import (
    COLUMNS,
    DATA_FILE,
    DATA_SET,
    TABLE,
    About,
    RecordedTask,
    check_about,
    check_table,
    description,
)
from metaslac.replay.experience import Episode
from metaslac.storage.files import new_directory, sync_directory, write_synced
from metaslac.storage.manifest import sealed, sha256_of_file
from metaslac.storage.npy import ArrayWriter


class DataSetWriter:
    """Takes the episodes of a data set one after the other; made by `written_data_set`.

    Args:
        folder: where the arrays are written.
        about: what the episodes have in common.
        arrays: a writer for each of About.rows.
    """

    def __init__(self, folder: Path, about: About, arrays: dict[str, ArrayWriter]) -> None:
        self.about = about
        self._folder = folder
        self._arrays = arrays
        self._tasks: dict[int, RecordedTask] = {}
        self._sources: list[str] = []
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._places = 0

    @property
    def episodes(self) -> int:
        """How many were taken so far."""
        return len(self._rows)

    def add(self, task: RecordedTask, episode: Episode, source: str) -> bool:
        """Take an episode; whether there was something of it to keep.

        Nothing is kept of one without a single step, or whose end is not known as its worker was lost.

        Raises:
            MetaslacError: it does not fit the others, or has numbers that are not finite.
            OSError: the disk refuses.
        """
        n = len(episode.rewards)
        if n == 0 or episode.lost:
            return False
        about = self.about
        frames, states = episode.frames, episode.states
        if about.observation == "state":
            states = frames.astype(np.float32)
        elif about.frames > 1:
            frames = frames[:, -about.new_pictures :]
        # There is no step from the last place, and zeros are written there.
        actions, rewards, dense = (
            np.pad(part, [(0, 1), *[(0, 0)] * (part.ndim - 1)])
            for part in (episode.actions, episode.rewards, episode.dense_rewards)
        )
        rows: dict[str, NDArray[Any]] = {
            "frames": frames,
            "actions": actions,
            "rewards": rewards,
            "dense_rewards": dense,
            **({} if states is None else {"states": states}),
        }
        self._check(n, rows)
        if self._tasks.setdefault(task.index, task) != task:
            raise MetaslacError(f"task {task.index} has two sets of parameters")
        if source not in self._sources:
            self._sources.append(source)
        for name, array in self._arrays.items():
            array.append(rows[name])
        ended, number = int(episode.terminated), self._sources.index(source)
        self._rows.append((task.index, self._places, n, ended, number))
        self._places += n + 1
        return True

    def finish(self) -> None:
        """Write the table and the manifest.

        Raises MetaslacError where there is not a single episode, or what is said of them cannot be.
        """
        if not self._rows:
            raise MetaslacError("nothing was recorded: no episode has a single step")
        tasks, sources = tuple(self._tasks[index] for index in sorted(self._tasks)), tuple(self._sources)
        table = np.array(self._rows, dtype="<i8")
        try:
            check_about(self.about, tasks, sources)
            check_table(table, self.about, [task.index for task in tasks], len(sources))
        except ValueError as error:
            raise MetaslacError(f"this cannot be a data set: {error}") from None
        with ArrayWriter(self._folder / f"{TABLE}.npy", "<i8", (len(COLUMNS),)) as writer:
            writer.append(table)
            writer.finish()
        for array in self._arrays.values():
            array.finish()
        files = {}
        for name in (*self._arrays, TABLE):
            path = self._folder / f"{name}.npy"
            files[path.name] = sha256_of_file(path), path.stat().st_size
        written = sealed(description(self.about, tasks, sources), files, DATA_SET)
        write_synced(self._folder / DATA_FILE, written)
        sync_directory(self._folder)

    def _check(self, n: int, rows: dict[str, NDArray[Any]]) -> None:
        if n > self.about.episode_steps:
            raise MetaslacError(f"an episode of {n} steps is longer than {self.about.episode_steps}")
        for name, (dtype, row) in self.about.rows().items():
            if name not in rows:
                raise MetaslacError(f"{name} of an episode are not there")
            found = rows[name]
            if found.shape != (n + 1, *row) or found.dtype != dtype:
                raise MetaslacError(
                    f"{name} of an episode are {found.shape} of {found.dtype}, not {(n + 1, *row)} of {dtype}"
                )
            if name != "frames" and not np.isfinite(found).all():
                raise MetaslacError(f"{name} of an episode are not all finite")
        if abs(rows["actions"]).max() > 1:
            raise MetaslacError("actions of an episode are outside [-1, 1]")


@contextmanager
def written_data_set(path: Path, about: About) -> Iterator[DataSetWriter]:
    """Within, a data set is written beside `path`; it is renamed there at the end, unless that is an error.

    Raises:
        MetaslacError: something is there, nothing can be written there or the disk is full; or what was
            added has no episode in it. Nothing is left behind then.
    """
    with new_directory(path) as folder, ExitStack() as stack:
        arrays = {
            name: stack.enter_context(ArrayWriter(folder / f"{name}.npy", dtype, row))
            for name, (dtype, row) in about.rows().items()
        }
        writer = DataSetWriter(folder, about, arrays)
        yield writer
        writer.finish()
