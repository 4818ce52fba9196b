"""Checkpoints: a directory of files, written whole or not at all, with `last` beside it for the newest.

Nothing here unpickles. The manifest that vouches for the files is manifest.py's; what is in them, weights and
configuration apart, is decided by the callers: training/state.py and replay/files.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError

from metaslac.config.sections import Config
from metaslac.config.text import from_yaml, to_yaml
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.storage.files import sync_directory, write_synced
from metaslac.storage.last import LAST, followed, last_in, point_last_at
from metaslac.storage.manifest import (
    CHECKPOINT,
    CONFIG,
    FILE_NAME,
    MANIFEST,
    WEIGHTS,
    Kind,
    check_fields,
    is_agent,
    read_manifest,
    read_verified,
    sealed,
    sha256_of,
)
from metaslac.storage.named import located


class SavedFile(NamedTuple):
    """A file of an earlier checkpoint that has not changed since."""

    path: Path
    sha256: str
    size: int


Content = bytes | Callable[[], bytes] | SavedFile  # large ones are made when they are written


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest, configuration and weights were verified; tensors are on the CPU."""

    path: Path
    config: Config
    tensors: dict[str, torch.Tensor]
    manifest: dict[str, Any]

    @property
    def weights_only(self) -> bool:
        """Whether it is an exported agent, which has nothing but what acts."""
        return is_agent(self.manifest)

    def need_training(self, why: str) -> None:
        """Raise MetaslacError of an exported agent; `why` says what it lacks."""
        if self.weights_only:
            raise MetaslacError(f"{self.path} is an exported agent, which has its weights only: {why}")

    def read(self, name: str) -> bytes:
        """The content of another of its files. Raises MetaslacError if it is not what was saved."""
        entry = self.manifest["files"].get(name)
        if entry is None:
            raise MetaslacError(f"{self.path} has no {name}")
        return read_verified(self.path / name, entry)

    def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors in another of its files. Raises MetaslacError as read does."""
        return _parse_tensors(self.path / name, self.read(name))


def save_checkpoint(
    directory: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Config,
    manifest: Mapping[str, Any],
    files: Mapping[str, Content] | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, SavedFile]:
    """Write `directory` whole or not at all, then point its sibling `last` at it.

    A checkpoint of that name stays as it is; the new one then gets `-2`, `-3`, ... after its own. Files saved
    already are linked, not written again, where the file system can. With several ranks, all write files of
    their own; once all of these are on the disk, the first rank writes the manifest and gives the directory
    its name.

    Args:
        directory: where, named by the caller.
        tensors: the weights.
        config: the configuration.
        manifest: has the entries of MANIFEST_FIELDS and may have more.
        files: more files, by a name of FILE_NAME; of this rank alone.
        ranks: all that write.

    Returns: every file of the checkpoint, as it may be given to a later one.

    Raises:
        MetaslacError: the disk refuses, on any rank; what was there before is then intact.
    """
    check_fields(manifest)
    contents: dict[str, Content] = dict(files or {})
    if ranks.first:
        contents = {
            WEIGHTS: lambda: tensors_to_bytes(tensors),
            CONFIG: to_yaml(config).encode(),
            **contents,
        }
    owner = ranks.of_first(os.getpid())
    temporary = directory.with_name(f".{directory.name}.tmp-{owner}")
    try:
        with _refused(ranks, directory):
            if ranks.first:
                directory = _unused(directory)
                temporary.mkdir(parents=True, exist_ok=True)
        directory = directory.with_name(ranks.of_first(directory.name))
        with _refused(ranks, directory):
            written = write_files(temporary, contents)
        everything = {name: tuple(entry) for part in ranks.tell(written) for name, entry in part.items()}
        with _refused(ranks, directory):
            if ranks.first:
                finish_directory(temporary, everything, manifest)
                os.rename(temporary, directory)
                sync_directory(directory.parent)
                sync_directory(directory.parent.parent)  # which may be new as well
                point_last_at(directory)
    finally:
        if ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
    return {name: SavedFile(directory / name, *entry) for name, entry in everything.items()}


@contextmanager
def _refused(ranks: Ranks, directory: Path) -> Iterator[None]:
    """What the disk refuses on one rank, as an error of one line on all."""
    with ranks.together():
        try:
            yield
        except OSError as error:
            raise MetaslacError(f"cannot write checkpoint {directory}: {error.strerror or error}") from None


def checkpoints_in(parent: Path) -> list[Path]:
    """The checkpoints of a run, those written first in front."""
    found = [path for path in parent.glob("[!.]*") if not path.is_symlink() and (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: ((path / MANIFEST).stat().st_mtime_ns, path.name))


def mend_last(parent: Path) -> None:
    """Make `last` lead to a checkpoint again where a copy has lost it or followed it."""
    last = parent / LAST
    if (last / MANIFEST).is_file() and not last.is_symlink():
        manifest = (last / MANIFEST).read_bytes()
        others = [path for path in checkpoints_in(parent) if path != last]
        twins = [path for path in others if (path / MANIFEST).read_bytes() == manifest]
        if twins:
            shutil.rmtree(last)
        else:
            twins = [_unused(parent / f"{read_manifest(last)['update']:08d}")]
            os.rename(last, twins[0])
        point_last_at(twins[0])
    elif not last.is_dir() and last_in(parent) is None and (found := checkpoints_in(parent)):
        point_last_at(found[-1])


def prune(parent: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and never the one that `last` points at."""
    last = last_in(parent)
    for path in checkpoints_in(parent)[:-keep]:
        if path.resolve() != last:
            hidden = path.with_name(f".{path.name}.removed-{os.getpid()}")
            os.rename(path, hidden)  # first, so that half a checkpoint is never to be seen
            shutil.rmtree(hidden)


def remove_leftovers(parent: Path) -> None:
    """Delete what a process that was killed had not finished writing or deleting."""
    for path in [*parent.glob(".*.tmp-*"), *parent.glob(".*.removed-*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read and verify a checkpoint, or the last one of a run directory, or an exported agent.

    Raises MetaslacError, in one line naming the file, for everything that is not exactly as it was saved.
    """
    path = find_checkpoint(directory)
    manifest = read_manifest(path)
    weights = read_verified(path / WEIGHTS, manifest["files"][WEIGHTS])
    return Checkpoint(
        path=path,
        config=verified_config(path, manifest),
        tensors=_parse_tensors(path / WEIGHTS, weights),
        manifest=manifest,
    )


def verified_config(path: Path, manifest: Mapping[str, Any]) -> Config:
    """The configuration of the checkpoint at `path`. Raises MetaslacError if it is not as it was saved."""
    return _parse_config(path / CONFIG, read_verified(path / CONFIG, manifest["files"][CONFIG]))


def find_checkpoint(directory: Path) -> Path:
    """The checkpoint that a path given by a person means: it, or the last one of a run directory.

    An exported agent is taken for a checkpoint, and may be named `zoo:NAME` or `hf:OWNER/NAME`.
    """
    directory = located(directory)
    try:
        directory.stat()
    except FileNotFoundError:
        raise MetaslacError(f"{directory} does not exist") from None
    except OSError as error:
        raise MetaslacError(f"cannot read {directory}: {error.strerror or error}") from None
    for candidate in (directory, directory / "checkpoints" / LAST, directory / LAST):
        if (found := followed(candidate)) is not None:
            return found
    if not directory.is_dir():
        raise MetaslacError(f"{directory} is not a directory")
    for parent in (directory / "checkpoints", directory):
        if names := ", ".join(path.name for path in checkpoints_in(parent)):
            raise MetaslacError(
                f"{parent / LAST} leads to no checkpoint; there are {names}: name one of them"
            )
    if os.path.exists(directory / "config.yaml"):
        raise MetaslacError(f"{directory} is a run without a checkpoint: it has no {MANIFEST} yet")
    raise MetaslacError(f"{directory} is not a metaslac checkpoint or run: it has no {MANIFEST}")


def tensors_to_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Tensors as safetensors; on the CPU, contiguous and apart from each other, as it wants them."""
    return safetensors.torch.save(
        {
            name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
    )


def write_directory(
    path: Path, contents: Mapping[str, Content], manifest: Mapping[str, Any], kind: Kind = CHECKPOINT
) -> dict[str, tuple[str, int]]:
    """Write the files and their manifest; returns checksum and size of each. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    written = write_files(path, contents)
    finish_directory(path, written, manifest, kind)
    return written


def write_files(path: Path, contents: Mapping[str, Content]) -> dict[str, tuple[str, int]]:
    """Write files into a directory and wait until they last; checksum and size of each. Raises OSError."""
    written = {}
    for name, content in contents.items():
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"a checkpoint cannot have a file called {name!r}")
        (path / name).parent.mkdir(exist_ok=True)
        written[name] = _write(path / name, content)
    for folder in {(path / name).parent for name in contents}:
        sync_directory(folder)
    return written


def finish_directory(
    path: Path,
    written: Mapping[str, tuple[str, int]],
    manifest: Mapping[str, Any],
    kind: Kind = CHECKPOINT,
) -> None:
    """Write the manifest of files that are there. Raises OSError."""
    write_synced(path / MANIFEST, sealed(manifest, written, kind))
    sync_directory(path)


def _write(path: Path, content: Content) -> tuple[str, int]:
    if isinstance(content, SavedFile):
        try:
            os.link(content.path, path)
        except OSError:  # no links here, or too many to one file
            write_synced(path, content.path.read_bytes())
        return content.sha256, content.size
    data = content if isinstance(content, bytes) else content()
    write_synced(path, data)
    return sha256_of(data), len(data)


def _unused(directory: Path) -> Path:
    name, number = directory.name, 2
    while directory.exists() or directory.is_symlink():
        directory = directory.with_name(f"{name}-{number}")
        number += 1
    return directory


def _parse_config(path: Path, data: bytes) -> Config:
    try:
        config = from_yaml(data.decode())
        validate(config)
    except ValueError as error:  # MetaslacError and bad UTF-8
        raise MetaslacError(f"{path}: {error}") from None
    return config


def _parse_tensors(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise MetaslacError(f"{path} is not readable as safetensors: {reason}") from None
    if not all(name.isprintable() for name in tensors):
        raise MetaslacError(f"{path} has tensors whose names cannot be printed")
    return tensors
