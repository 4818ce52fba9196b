"""Data sets as Minari has them, HDF5 in a directory, to and from ours.

Task and source of an episode are in its metadata, states and dense rewards in its infos, and all else that we
know is in the entry "metaslac" of the metadata of the whole. Minari is needed only where one is written.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.launchers.dataset.foreign import (
    MOST_BYTES,
    Foreign,
    Read,
    Told,
    check_told,
    checked_episode,
    chosen_task,
    family_of,
)
from metaslac.storage.files import new_directory

if TYPE_CHECKING:
    import gymnasium

    from metaslac.replay.data_set import About, DataSet, RecordedTask

INSTALL = 'is not installed; pip install "metaslac[data]" brings it'
FOLDER, METADATA, EPISODES = "data", "metadata.json", "main_data.hdf5"
OURS = "metaslac"
MOST_METADATA = 2**26  # bytes
DATA_SET_ID = re.compile(r"[-_\w/]*-v\d+")

# What taking a file for what it is not can raise.
NONSENSE = OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError


def write_minari(data: DataSet, path: Path) -> str:
    """Write a data set for Minari, at `path`/data; its Minari id.

    Minari finds it by that id in a directory called so within $MINARI_DATASETS_PATH.

    Raises MetaslacError where Minari is not installed, or nothing can be written.
    """
    try:
        import minari
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise MetaslacError(f"Minari {INSTALL}: {error}") from None
    about = data.about
    name = path.name if DATA_SET_ID.fullmatch(path.name) else f"{about.split}-v0"
    data_set_id = f"{OURS}/{re.sub(r'[^-_0-9a-zA-Z]+', '-', about.family)}/{name}"
    with new_directory(path) as folder:
        storage = MinariStorage.new(
            (folder / FOLDER).absolute(), *_spaces(about), data_format="hdf5", jpeg_encoding=False
        )
        storage.update_metadata({"dataset_id": data_set_id, "minari_version": minari.__version__})
        storage.update_metadata({OURS: _ours(data)})
        storage.update_episodes(_buffers(data))
        rows = data.episodes.tolist()
        storage.update_episode_metadata(
            {"task": task, "split": about.split, "source": data.sources[source]} for task, *_, source in rows
        )
    return data_set_id


def read_minari(path: Path, told: Told) -> Foreign:
    """The episodes of a data set of Minari's, the directory that it is in or the one called data in that.

    Raises MetaslacError, in one line, for what is none or is not of this family.
    """
    folder = path / FOLDER if (path / FOLDER / METADATA).is_file() else path
    metadata = _metadata(folder)
    ours = metadata.get(OURS)
    if ours is not None:
        about, tasks, sources = _described(ours, folder)
        check_told(told, path, about, tasks, sources)
    else:
        shape = _shape(metadata, folder)
        about, tasks = family_of(path, told, shape[0] if len(shape) == 3 else None)
    return Foreign(about, _episodes(folder, metadata, about, tasks, told, is_ours=ours is not None))


def is_minari(path: Path) -> bool:
    """Whether it looks like a data set of Minari's."""
    return any((folder / METADATA).is_file() for folder in (path, path / FOLDER))


def _ours(data: DataSet) -> dict[str, Any]:
    from metaslac.replay.data_set import description

    return {**description(data.about, data.tasks, data.sources), "versions": data.manifest["versions"]}


def _spaces(about: About) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    from gymnasium.spaces import Box

    picture = about.image_size, about.image_size, 3
    stack = (about.frames,) if about.frames > 1 else ()
    observations = (
        Box(-np.inf, np.inf, (about.state_size,), np.float32)
        if about.observation == "state"
        else Box(0, 255, (*stack, *picture), np.uint8)
    )
    return observations, Box(-1.0, 1.0, (about.action_size,), np.float32)


def _buffers(data: DataSet) -> Iterator[Any]:
    from minari.data_collector import EpisodeBuffer

    for number, (task, _, n, terminated, _) in enumerate(data.episodes.tolist()):
        episode, last = data.episode(number), np.arange(n) == n - 1
        beside = {} if episode.states is None else {"state": episode.states}
        dense = np.concatenate([np.zeros_like(episode.dense_rewards[:1]), episode.dense_rewards])
        yield EpisodeBuffer(
            id=number,
            seed=data.about.seed,
            options={"task": task},  # as our environments take it
            observations=episode.frames,
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=last & bool(terminated),
            truncations=last & (not terminated),
            infos={"dense_reward": dense, **beside},
        )


def _metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    try:
        if path.stat().st_size > MOST_METADATA:
            raise ValueError("too long")
        metadata = json.loads(path.read_bytes())
        if not isinstance(metadata, dict) or metadata.get("data_format") != "hdf5":
            raise ValueError("it is not of data in HDF5")
        if type(metadata.get("total_episodes")) is not int:
            raise ValueError("it does not say how many episodes there are")
    except (OSError, ValueError, RecursionError) as error:
        raise MetaslacError(f"{path} is not the metadata of Minari: {' '.join(str(error).split())}") from None
    return metadata


def _described(ours: Any, folder: Path) -> tuple[About, tuple[RecordedTask, ...], tuple[str, ...]]:
    from metaslac.replay.data_set import described

    try:
        return described(ours)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise MetaslacError(f"{folder / METADATA}: what it says of metaslac cannot be: {reason}") from None


def _shape(metadata: Mapping[str, Any], folder: Path) -> tuple[int, ...]:
    """Of an observation. Nothing is made of the space, or of an environment, that a file describes."""
    try:
        shape = tuple(json.loads(metadata["observation_space"])["shape"])
        if not all(type(length) is int for length in shape) or len(shape) not in (1, 3):
            raise ValueError("neither pictures nor vectors")
    except (*NONSENSE, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise MetaslacError(f"{folder / METADATA}: its observations cannot be read: {reason}") from None
    return shape


def _episodes(
    folder: Path,
    metadata: Mapping[str, Any],
    about: About,
    tasks: Sequence[RecordedTask],
    told: Told,
    is_ours: bool,
) -> Iterator[Read]:
    """Of ours, each says its task and source; what others do not say was told."""
    try:
        import h5py
    except ImportError as error:
        raise MetaslacError(f"h5py {INSTALL}: {error}") from None
    path, is_coded = folder / EPISODES, bool(metadata.get("jpeg_encoding", True))
    try:
        with h5py.File(path, "r") as file:
            for number in range(metadata["total_episodes"]):
                group = _linked(file, f"episode_{number}")
                arrays = {name: _array(group, name) for name in ("actions", "rewards", "terminations")}
                coded = about.observation == "pixels" and about.frames == 1 and is_coded
                observations = _pictures(group, about) if coded else _array(group, "observations")
                infos = _linked(group, "infos") if "infos" in group else {}
                dense = _array(infos, "dense_reward")[1:] if "dense_reward" in infos else None
                states = _array(infos, "state") if about.state_size and "state" in infos else None
                index = int(group.attrs["task"]) if is_ours else told.task
                source = str(group.attrs["source"]) if is_ours else told.source
                episode = checked_episode(
                    about,
                    path,
                    observations,
                    arrays["actions"],
                    arrays["rewards"],
                    bool(arrays["terminations"][-1:].any()),
                    dense,
                    states,
                )
                yield Read(chosen_task(tasks, index, path), episode, source)
    except MetaslacError:
        raise
    except NONSENSE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MetaslacError(f"{path} is not readable as Minari's: {reason}") from None


def _linked(group: Any, name: str) -> Any:
    """What is called so and lies in this very file. Raises ValueError for a way out of it."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is not there, or leads elsewhere")
    return group[name]


def _array(group: Any, name: str) -> NDArray[Any]:
    found = _linked(group, name)
    if found.external or found.is_virtual:
        raise ValueError(f"{name} leads to other files")
    if found.nbytes > MOST_BYTES or found.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {found.shape} of {found.dtype}, which no episode has")
    array: NDArray[Any] = found[()]
    return array


def _pictures(group: Any, about: About) -> NDArray[Any]:
    """The observations of an episode from JPEGs, which Minari makes of pictures unless it is told not to."""
    from PIL import Image

    found = _linked(group, "observations")
    if found.external or found.is_virtual or len(found) > about.episode_steps + 1:
        raise ValueError("observations are of more than an episode, or lead to other files")
    pictures = []
    for coded in found:
        with Image.open(io.BytesIO(bytes(coded)), formats=["JPEG"]) as image:
            if image.size != (about.image_size, about.image_size):
                raise ValueError(f"pictures are {image.size}")
            pictures.append(np.asarray(image.convert("RGB")))
    return np.stack(pictures)
