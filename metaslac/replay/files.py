"""The replay on disk: what did not change since the last checkpoint is not written again.

A file holds the episodes that one task gained between two checkpoints and never changes. Which of them are
still there, and where in the ring, says a small table that each checkpoint writes anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from metaslac.ranks.sharding import Shard
from metaslac.replay.task_replay import StoredEpisode, TaskReplay
from metaslac.storage.checkpoint import Content, SavedFile, tensors_to_bytes

# Files of a task are joined up to so many episodes, or frequent checkpoints would leave a file per episode.
MOST_JOINED = 32
FOLDER = "replay/"
TABLE_COLUMNS = 7


class Segment(NamedTuple):
    """A file with the episodes of a task from number `first` to before `end`, all that were then stored."""

    task: int
    first: int
    end: int

    @property
    def name(self) -> str:
        """Of the file; the inverse of `parse`."""
        return f"{FOLDER}{self.task:05d}-{self.first:09d}-{self.end:09d}.safetensors"

    @classmethod
    def parse(cls, name: str) -> Segment:
        """Raises ValueError for a name that is none."""
        segment = cls(*map(int, name.removeprefix(FOLDER).removesuffix(".safetensors").split("-")))
        if segment.name != name:
            raise ValueError(name)
        return segment


class ReplayFiles:
    """Knows which episodes of a replay are in which file of the last checkpoint.

    With several ranks, each has the replay of its own tasks, its `shard`, and files of no others. In names
    and tables tasks are numbered among all, so that any number of ranks can read them.
    """

    def __init__(self, replay: TaskReplay, shard: Shard | None = None) -> None:
        self.replay = replay
        self._shard = shard or Shard(tasks=len(replay.stored))
        self._saved: dict[Segment, SavedFile] = {}

    def contents(self) -> dict[str, Content]:
        """The files of a checkpoint of the replay as it is, by name."""
        whole = all(os.path.exists(file.path) for file in self._saved.values())
        saved = self._saved if whole else {}  # someone has deleted the last checkpoint
        contents: dict[str, Content] = {}
        for number, stored in enumerate(self.replay.stored):
            if stored:
                kept = [segment for segment in saved if segment.task == self._shard.indices[number]]
                for segment in self._segments(number, kept):
                    contents[segment.name] = saved.get(segment) or partial(self._content, segment)
        return contents

    def table(self) -> dict[str, Tensor]:
        """Where in the ring every episode is, of all ranks' tasks, for the training state."""
        replay = self.replay
        terminated = replay.terminated.cpu()
        own = [
            (
                [(*episode, bool(terminated[number, episode.row])) for episode in stored],
                replay.added[number],
                replay.next_place[number],
            )
            for number, stored in enumerate(replay.stored)
        ]
        told = self._shard.ranks.tell(own)
        size = len(told)
        tasks = [told[task % size][task // size] for task in range(self._shard.tasks)]
        rows = [(task, *row) for task, (episodes, _, _) in enumerate(tasks) for row in episodes]
        return {
            "episodes": torch.tensor(rows, dtype=torch.long).reshape(-1, TABLE_COLUMNS),
            "added": torch.tensor([added for _, added, _ in tasks]),
            "next_place": torch.tensor([place for _, _, place in tasks]),
        }

    def commit(self, saved: Mapping[str, SavedFile]) -> None:
        """Take the files of a checkpoint that was written, or read, as those that need no writing."""
        files = {Segment.parse(name): file for name, file in saved.items() if name.startswith(FOLDER)}
        self._saved = {segment: file for segment, file in files.items() if self._is_own(segment)}

    def restore(
        self,
        table: Mapping[str, Tensor],
        names: Collection[str],
        read: Callable[[str], dict[str, Tensor]],
        saved: Mapping[str, SavedFile],
    ) -> None:
        """Fill an empty replay with what a checkpoint holds.

        Args:
            table: as `table` gave it.
            names: of the checkpoint's files.
            read: gives the tensors of one.
            saved: the checkpoint's files, for `commit`.

        Raises:
            KeyError, TypeError, ValueError: files and table do not fit each other or this replay.
        """
        replay = self.replay
        replay.added[:] = self._one_per_task(table["added"])
        replay.next_place[:] = self._one_per_task(table["next_place"])
        self._restore_table(table["episodes"])
        segments = sorted(Segment.parse(name) for name in names if name.startswith(FOLDER))
        self._check_tasks(segments)
        segments = [segment for segment in segments if self._is_own(segment)]
        self._check_order(segments)
        missing = {
            (task, episode.number): episode for task, stored in enumerate(replay.stored) for episode in stored
        }
        for segment in segments:
            self._fill(segment, read(segment.name), missing)
        if missing:
            raise ValueError(f"the replay does not fit its table: {len(missing)} episodes are in no file")
        for task in range(len(replay.stored)):
            replay.choose_pool(task)
        self.commit(saved)

    def _is_own(self, segment: Segment) -> bool:
        return segment.task in self._shard.indices

    def _segments(self, number: int, saved: list[Segment]) -> list[Segment]:
        """Files for all that is stored of a task, as many as can be from those saved already."""
        stored, task = self.replay.stored[number], self._shard.indices[number]
        kept = sorted(segment for segment in saved if segment.end > stored[0].number)
        first, end = (kept[-1].end if kept else stored[0].number), self.replay.added[number]
        if first == end:
            return kept
        # Small files before the new one are joined with it, no file more often than its size doubles.
        while kept and kept[-1].end - kept[-1].first <= end - first and end - kept[-1].first <= MOST_JOINED:
            first = kept.pop().first
        return [*kept, Segment(task, first, end)]

    def _content(self, segment: Segment) -> bytes:
        replay, task = self.replay, self._shard.number(segment.task)
        episodes = [
            episode for episode in replay.stored[task] if segment.first <= episode.number < segment.end
        ]
        places = torch.cat([_places(episode) for episode in episodes]).to(replay.device)
        tensors = {name: store[task, places] for name, store in replay.stores().items()}
        tensors["numbers"] = torch.tensor([episode.number for episode in episodes])
        tensors["lengths"] = torch.tensor([episode.length for episode in episodes])
        return tensors_to_bytes(tensors)

    def _restore_table(self, table: Tensor) -> None:
        """Fill all of the replay but its stores. Raises ValueError for what no replay can come to."""
        replay = self.replay
        if table.dtype != torch.long or table.dim() != 2 or table.shape[1] != TABLE_COLUMNS:
            raise ValueError("the replay's table is not one of episodes")
        for where, number, row, offset, length, marked, terminated in table.tolist():
            possible = (
                0 <= where < self._shard.tasks
                and number >= 0
                and row == number % replay.lengths.shape[1]
                and 0 < length <= replay.episode_steps
                and 0 <= offset < replay.places - length
                and {marked, terminated} <= {0, 1}
            )
            if not possible:
                raise ValueError(
                    f"the replay does not fit its table: episode {number} of task {where} cannot be in it"
                )
            if where not in self._shard.indices:
                continue
            task = self._shard.number(where)
            replay.stored[task].append(StoredEpisode(number, row, offset, length, bool(marked)))
            replay.offsets[task, row] = replay.place(task, offset)
            replay.lengths[task, row] = length
            replay.terminated[task, row] = bool(terminated)
        for task, where in enumerate(self._shard.indices):
            if not self._is_ring(task):
                raise ValueError(f"the replay does not fit its table: episodes of task {where} cannot be so")

    def _is_ring(self, task: int) -> bool:
        """Whether the episodes of a task lie as adding them one after the other lays them."""
        stored, replay = self.replay.stored[task], self.replay
        if not stored:
            return replay.added[task] == replay.next_place[task] == 0
        end = stored[-1].offset + stored[-1].length + 1
        apart = [
            after.offset for one, after in pairwise(stored) if after.offset != one.offset + one.length + 1
        ]
        return (
            all(after.number == one.number + 1 for one, after in pairwise(stored))
            and (stored[-1].number + 1, end) == (replay.added[task], replay.next_place[task])
            and (end <= stored[0].offset if apart else stored[0].offset == 0)
            and apart in ([], [0])
        )

    def _check_order(self, segments: list[Segment]) -> None:
        """Raise ValueError for files that this replay cannot have been saved to."""
        for segment in segments:
            if not segment.first < segment.end <= self.replay.added[self._shard.number(segment.task)]:
                raise ValueError(f"{segment.name} holds episodes that there are not")
        for one, other in pairwise(segments):
            if one.task == other.task and other.first < one.end:
                raise ValueError(f"{one.name} and {other.name} hold the same episodes")

    def _check_tasks(self, segments: list[Segment]) -> None:
        for segment in segments:
            if segment.task >= self._shard.tasks:
                raise ValueError(f"{segment.name} holds episodes that there are not")

    def _one_per_task(self, values: Tensor) -> list[int]:
        """Of a list for all tasks, what is of this rank's."""
        numbers = _whole_numbers(values)
        if len(numbers) != self._shard.tasks:
            raise ValueError(f"it is of {len(numbers)} tasks, not {self._shard.tasks}")
        return [numbers[task] for task in self._shard.indices]

    def _fill(
        self,
        segment: Segment,
        tensors: Mapping[str, Tensor],
        missing: dict[tuple[int, int], StoredEpisode],
    ) -> None:
        """Put the episodes of one file into the ring, those that are still there."""
        numbers, lengths = (_whole_numbers(tensors[name]) for name in ("numbers", "lengths"))
        rows = sum(lengths) + len(lengths)
        stores = self.replay.stores()
        possible = (
            all(0 < length <= self.replay.episode_steps for length in lengths)
            and all(segment.first <= number < segment.end for number in numbers)
            and all(number < later for number, later in pairwise(numbers))
            and all(tensors[name].shape == (rows, *store.shape[2:]) for name, store in stores.items())
            and all(tensors[name].dtype == store.dtype for name, store in stores.items())
        )
        if not possible:
            raise ValueError(f"what is in {segment.name} is not of this replay")
        start, task = 0, self._shard.number(segment.task)
        for number, length in zip(numbers, lengths, strict=True):
            episode = missing.pop((task, number), None)
            if episode is not None:
                if episode.length != length:
                    raise ValueError(f"the replay does not fit its table: {segment.name} differs from it")
                places = _places(episode)
                for name, store in stores.items():
                    store[task, places] = tensors[name][start : start + length + 1].to(store)
            start += length + 1


def _places(episode: StoredEpisode) -> Tensor:
    return torch.arange(episode.offset, episode.offset + episode.length + 1)


def _whole_numbers(values: Tensor) -> list[int]:
    if values.dtype != torch.long or values.dim() != 1:
        raise ValueError(f"{tuple(values.shape)} of {values.dtype} are no list of whole numbers")
    numbers: list[int] = values.tolist()
    return numbers
