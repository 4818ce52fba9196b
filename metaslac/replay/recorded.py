"""Experience from a data set: windows and contexts are drawn of its files as of a replay.

What is in the files is data_set.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaslac.errors import MetaslacError
from metaslac.replay.data_set import DataSet
from metaslac.replay.experience import FEATURE_TYPE, EpisodeTable, Experience, Stores
from metaslac.storage.npy import ask_for, read_here_and_there


class RecordedExperience(Experience):
    """The episodes of a data set, each in its task's context pool.

    On a CPU pictures stay in their file, mapped: what was drawn of them may be forgotten again, so a data set
    may be larger than the memory. All else is read into memory, and on CUDA the pictures too.

    Args:
        data: the data set; task number i of the experience is its i-th one.
        device: where what is drawn is.

    Raises:
        MetaslacError: a CUDA device has no room for it.
    """

    def __init__(self, data: DataSet, device: torch.device) -> None:
        self.data = data
        about = data.about
        _check_room(data, device)
        states = _read(data.arrays["states"], device) if about.state_size else None
        on_states = about.observation == "state"
        if on_states:
            assert states is not None
            frames, states = states, None
        else:
            frames = torch.from_numpy(data.arrays["frames"]).to(device)
            read_here_and_there(data.arrays["frames"])
        if states is None:
            states = torch.zeros(len(frames), 0, device=device)
        actions, rewards, dense_rewards = (
            _read(data.arrays[name], device) for name in ("actions", "rewards", "dense_rewards")
        )
        stores = Stores(frames, actions, rewards, dense_rewards, states)
        super().__init__(stores, _table(data, device), device, about.frames, on_states)
        self.on_disk = device.type == "cpu" and not on_states
        self._asking = False

    @contextmanager
    def only_asking(self) -> Iterator[None]:
        """As of Experience."""
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def _frames(self, first: Tensor, index: Tensor) -> Tensor:
        """As of Experience; what is drawn of mapped pictures is asked for before any of it is waited for."""
        if self.on_disk:
            places = torch.atleast_2d(first + index).flatten(0, -2)
            earliest = (places.amin(1) - self.stack).clamp_min(0)  # of stacks some lie before
            ask_for(
                self.data.arrays["frames"], zip(earliest.tolist(), (places.amax(1) + 1).tolist(), strict=True)
            )
        return self.frames[:0] if self._asking else super()._frames(first, index)


def recorded_bytes(data: DataSet, device: torch.device, feature_size: int = 0) -> int:
    """Memory of a RecordedExperience, in bytes; with `feature_size`, features are kept too."""
    mapped = {"frames"} if device.type == "cpu" else set()
    read = sum(array.nbytes for name, array in data.arrays.items() if name not in mapped)
    places = len(data.arrays["rewards"])
    return read + places * feature_size * FEATURE_TYPE.itemsize


def _table(data: DataSet, device: torch.device) -> EpisodeTable:
    """The episodes of each task as rows of it, in the order of the data set."""
    row_of = {task.index: number for number, task in enumerate(data.tasks)}
    task = np.array([row_of[index] for index in data.episodes[:, 0].tolist()])
    counts = np.bincount(task, minlength=len(data.tasks))
    order = np.argsort(task, kind="stable")
    row = np.empty_like(task)
    row[order] = np.arange(len(task)) - np.repeat(counts.cumsum() - counts, counts)
    shape = len(data.tasks), int(counts.max())
    offsets, lengths = (np.zeros(shape, dtype=np.int64) for _ in range(2))
    terminated, there = (np.zeros(shape, dtype=bool) for _ in range(2))
    _, offsets[task, row], lengths[task, row], ended, _ = data.episodes.T
    terminated[task, row], there[task, row] = ended.astype(bool), True
    return EpisodeTable(
        *(torch.from_numpy(part).to(device) for part in (offsets, lengths, terminated, there))
    )


def _read(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device)


def _check_room(data: DataSet, device: torch.device) -> None:
    if device.type == "cuda":
        free, need = torch.cuda.mem_get_info(device)[0], data.bytes
        if need > free:
            raise MetaslacError(
                f"{data.path} takes {need / 2**30:.1f} GiB and {device} has {free / 2**30:.1f} GiB free; "
                "--device cpu leaves its pictures on the disk"
            )
