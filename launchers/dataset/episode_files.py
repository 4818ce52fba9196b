"""Episodes as .npz files, one each, as Dreamer, LOMPO and V-D4RL have them, to and from data sets.

Row t has the image, and the action and the reward that led to it: row 0 is of the reset, its action and
reward zero. `discount` is 0, or in newer files `is_terminal` 1, where the task has ended for good. Nothing is
unpickled.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.launchers.dataset.foreign import (
    MOST_BYTES,
    Foreign,
    Read,
    Told,
    checked_episode,
    chosen_task,
    family_of,
)
from metaslac.storage.files import new_directory
from metaslac.storage.npy import NO_ARRAY

if TYPE_CHECKING:
    from metaslac.replay.data_set import About, DataSet, RecordedTask

NAMES = "image", "action", "reward"
ENDS = "discount", "is_terminal"  # of which there may be one
MOST_HEADER = 2**14  # bytes
FOLDER = re.compile(r"task-(\d{1,9})")

# What reading an archive that is none can raise.
NONSENSE = *NO_ARRAY, LookupError, zipfile.BadZipFile, zlib.error


def read_episode_files(path: Path, told: Told) -> Foreign:
    """The episodes in a directory, or in directories task-INDEX of it, in the order of their names.

    Raises MetaslacError, in one line, for files that are no such episodes or none of this family's.
    """
    files = sorted(path.glob("*.npz")) + sorted(path.glob("task-*/*.npz"))
    if not files:
        raise MetaslacError(f"{path} has no .npz files in it")
    image = read_arrays(files[0], ("image",))["image"]
    if image.ndim != 4 or image.shape[1] != image.shape[2]:
        raise MetaslacError(f"{files[0]}: image is {image.shape}, not square pictures (T, H, W, 3)")
    about, tasks = family_of(path, told, image.shape[1])
    return Foreign(about, _episodes(path, files, about, tasks, told))


def write_episode_files(data: DataSet, path: Path) -> None:
    """Write a data set of pixels, one file an episode; the newest picture where there are stacks.

    Of several tasks, each has a directory, task-INDEX. Raises MetaslacError for a data set of states.
    """
    if data.about.observation == "state":
        raise MetaslacError(
            f"{data.path} has no pictures, which these files are for; --to minari takes states"
        )
    with new_directory(path) as folder:
        for number, (task, _, n, _, _) in enumerate(data.episodes.tolist()):
            episode = data.episode(number)
            where = folder / f"task-{task:05d}" if len(data.tasks) > 1 else folder
            where.mkdir(exist_ok=True)
            discount = np.ones(n + 1, dtype=np.float32)
            discount[-1] = not episode.terminated
            np.savez_compressed(
                where / f"{number:08d}-metaslac-{n + 1}.npz",
                image=episode.pictures,
                action=np.concatenate([np.zeros_like(episode.actions[:1]), episode.actions]),
                reward=np.concatenate([np.zeros_like(episode.rewards[:1]), episode.rewards]),
                discount=discount,
            )


def read_arrays(
    path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, NDArray[Any]]:
    """Arrays by name from an archive of NumPy's, no larger in memory than the archive says and we allow.

    Raises MetaslacError, in one line, for what is missing and not `optional`, damaged, absurdly large or not
    plain numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = {member.filename for member in archive.infolist()}
            wanted = (*names, *(name for name in optional if f"{name}.npy" in there))
            return {name: _read(archive, f"{name}.npy") for name in wanted}
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None
    except NONSENSE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MetaslacError(f"{path} is not readable as an episode: {reason}") from None


def _episodes(
    path: Path, files: list[Path], about: About, tasks: Sequence[RecordedTask], told: Told
) -> Iterator[Read]:
    for file in files:
        # A directory that was given is called as its owner likes.
        folder = FOLDER.fullmatch(file.parent.name) if file.parent != path else None
        index = int(folder[1]) if folder else told.task
        if told.task not in (None, index):
            raise MetaslacError(f"--task {told.task}: {file} is of task {index}, as its directory says")
        task = chosen_task(tasks, index, file)
        arrays = read_arrays(file, NAMES, ENDS)
        image, action, reward = (arrays[name] for name in NAMES)
        if (action.ndim, reward.ndim) != (2, 1) or not len(reward) == len(action) > 0:
            raise MetaslacError(f"{file}: action and reward do not have a row for each image")
        discount, terminal = (arrays.get(name) for name in ENDS)
        ended = _last_is(discount, 0, file) if discount is not None else _last_is(terminal, 1, file)
        yield Read(task, checked_episode(about, file, image, action[1:], reward[1:], ended), told.source)


def _last_is(values: NDArray[Any] | None, wanted: int, file: Path) -> bool:
    if values is not None and (values.ndim != 1 or not len(values)):
        raise MetaslacError(f"{file}: its ends are {values.shape}, not a number for each image")
    return values is not None and bool(values[-1] == wanted)


def _read(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of an archive. Raises ValueError, and what else zipfile has, for what is not as it says."""
    member = archive.getinfo(name)
    if member.file_size > MOST_BYTES:
        raise ValueError(f"{name} has {member.file_size} bytes, which no episode has")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is of version {version}")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file, max_header_size=MOST_HEADER)
        if dtype.hasobject or dtype.kind not in "buif":
            raise ValueError(f"{name} holds {dtype}, not plain numbers")
        size = dtype.itemsize
        for length in shape:
            size *= length
        data = file.read(size + 1) if size <= member.file_size else b""
    if len(data) != size:
        raise ValueError(f"{name} is not as long as it says")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
