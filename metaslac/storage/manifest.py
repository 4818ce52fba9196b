"""Manifests: what a checkpoint's says, whether one is whole, and whether the files it names are.

What the files of a checkpoint are for is checkpoint.py's, of exported agents exported.py's, of data sets
../replay/data_set.py's.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from metaslac.errors import MetaslacError
from metaslac.storage.provenance import source_commit
from metaslac.storage.version import library_versions

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
CARD = "README.md"  # of an exported agent
EVALUATIONS = "evaluation*.json"  # likewise


class Kind(NamedTuple):
    """What sort of directory a manifest is of."""

    noun: str
    format: str
    version: int


CHECKPOINT = Kind("checkpoint", "metaslac-checkpoint", FORMAT_VERSION)
AGENT = Kind("exported agent", "metaslac-agent", 1)

# A file of the checkpoint's directory or of a directory in it.
FILE_NAME = re.compile(r"([\w-]+/)?[\w-]+(\.[\w-]+)*")
MOST_FILE_NAME = 200  # longer ones are refused by file systems

MOST_MANIFEST = 2**26  # bytes
MOST_COUNT = 2**53  # of anything; JSON's readers agree on whole numbers up to here
BLOCK = 2**20  # bytes of a file read at a time, where it may be larger than the memory

# What the caller's manifest must say; the rest is added on saving.
MANIFEST_FIELDS: Mapping[str, type] = {
    "family": str,
    "task_hash": str,
    "train_tasks": int,
    "test_tasks": int,
    "param_names": list,
    "action_size": int,
    "update": int,
    "env_steps": int,
}

TASKS_OF_DATA = "data_tasks"  # indices of the tasks of the data set that was learned from, if one was
YOUNGER = "validation_tasks", "state_size"  # counts that checkpoints of earlier versions do not have


def check_fields(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError for a manifest that lacks what the caller's must say."""
    wrong = [name for name, kind in MANIFEST_FIELDS.items() if not isinstance(manifest.get(name), kind)]
    if wrong:
        raise ValueError(f"a checkpoint's manifest needs {', '.join(wrong)}")


def sealed(
    manifest: Mapping[str, Any], files: Mapping[str, tuple[str, int]], kind: Kind = CHECKPOINT
) -> bytes:
    """The manifest as it is written, with checksum and size of each file and its own checksum."""
    whole = {
        **manifest,
        "format": kind.format,
        "format_version": kind.version,
        "versions": library_versions(),
        "commit": source_commit(),
        "files": {name: {"sha256": sha256, "size": size} for name, (sha256, size) in files.items()},
    }
    whole["manifest_sha256"] = sha256_of(_encode(whole))
    return _encode(whole)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint or exported agent at `path`.

    Raises MetaslacError if it is not as it was saved.
    """
    manifest = read_sealed(path / MANIFEST, CHECKPOINT, AGENT)
    if not _well_formed(manifest) or (is_agent(manifest) and not _tells_of_its_training(manifest)):
        raise MetaslacError(f"{path / MANIFEST} is damaged: entries are missing or of the wrong type")
    return manifest


def is_agent(manifest: Mapping[str, Any]) -> bool:
    """Whether it is of an exported agent, which has the weights that act alone."""
    return bool(manifest["format"] == AGENT.format)


def read_sealed(path: Path, *kinds: Kind) -> dict[str, Any]:
    """What `sealed` made for one of these kinds, from the file at `path`.

    Raises MetaslacError if it is not as it was written.

    That its files have a checksum and a size each is seen to; what else it says is not.
    """
    if _size(path) > MOST_MANIFEST:
        raise MetaslacError(f"{path} is damaged: too long for a manifest")
    data = _read(path)
    try:
        manifest = json.loads(data)
        encoded = _encode(manifest) if isinstance(manifest, dict) else b""
    except (ValueError, RecursionError):
        raise MetaslacError(f"{path} is damaged: not readable as JSON") from None
    said = manifest.get("format") if isinstance(manifest, dict) else None
    kind = next((kind for kind in kinds if kind.format == said), None)
    if not isinstance(manifest, dict) or kind is None:
        raise MetaslacError(f"{path} is not the manifest of a metaslac {kinds[0].noun}")
    if manifest.get("format_version") != kind.version:
        raise MetaslacError(
            f"{path} has format version {manifest.get('format_version')!r}; "
            f"this metaslac reads version {kind.version}"
        )
    unsigned = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    if manifest.get("manifest_sha256") != sha256_of(_encode(unsigned)) or data != encoded:
        raise MetaslacError(f"{path} is damaged: its checksum does not match")
    if not _names_files(manifest):
        raise MetaslacError(f"{path} is damaged: entries are missing or of the wrong type")
    return manifest


def check_agent(directory: Path) -> dict[str, Any]:
    """The manifest of an exported agent of which every byte was read; its files as its manifest says.

    Raises MetaslacError for what is no exported agent, or damaged.
    """
    manifest = read_manifest(directory)
    if not is_agent(manifest):
        raise MetaslacError(f"{directory} is a checkpoint and no exported agent; metaslac export makes one")
    if problems := damaged_files(directory, manifest):
        raise MetaslacError(problems[0])
    return manifest


def damaged_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with the files that the manifest of the checkpoint at `path` names, a line each."""
    return _problems(path, manifest, read_verified)


def missing_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The files that are not there or not of the size that the manifest says, a line each."""
    return _problems(path, manifest, _check_size)


def read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    """The content of a file, if it is as its manifest's entry says. Raises MetaslacError if not.

    The bytes that were checked are the bytes that are used: the file is read once.
    """
    _check_size(path, entry)  # first: what has grown may be larger than the memory
    data = _read(path)
    if sha256_of(data) != entry["sha256"]:
        raise MetaslacError(f"{path} is damaged: its checksum does not match the manifest")
    return data


def check_file(path: Path, entry: Mapping[str, Any]) -> None:
    """Raise MetaslacError for a file that is not as its manifest's entry says; it may be of any size."""
    _check_size(path, entry)
    if sha256_of_file(path) != entry["sha256"]:
        raise MetaslacError(f"{path} is damaged: its checksum does not match the manifest")


def sha256_of_file(path: Path) -> str:
    """The checksum of a file, read block by block. Raises MetaslacError if it cannot be read."""
    digest = hashlib.sha256()
    with _reading(path), path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_count(value: object) -> bool:
    """Whether a value from JSON is what something can have been counted to."""
    return type(value) is int and 0 <= value <= MOST_COUNT


def is_counts(values: object) -> bool:
    """Whether a value from JSON is a list of such numbers."""
    return isinstance(values, list) and all(map(is_count, values))


def sha256_of(data: bytes) -> str:
    """Its checksum."""
    return hashlib.sha256(data).hexdigest()


def _encode(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def _well_formed(manifest: Mapping[str, Any]) -> bool:
    facts = [manifest.get(name) for name in MANIFEST_FIELDS]
    return (
        all(isinstance(fact, kind) for fact, kind in zip(facts, MANIFEST_FIELDS.values(), strict=True))
        and all(is_count(fact) for fact in facts if isinstance(fact, int))
        and all(is_count(manifest.get(name, 0)) for name in YOUNGER)
        and all(isinstance(name, str) for name in manifest["param_names"])
        and is_counts(manifest.get(TASKS_OF_DATA, []))
        and {WEIGHTS, CONFIG} <= set(manifest["files"])
    )


def _tells_of_its_training(manifest: Mapping[str, Any]) -> bool:
    trained = manifest.get("trained_with")
    return isinstance(trained, dict) and all(isinstance(value, str | None) for value in trained.values())


def _names_files(manifest: Mapping[str, Any]) -> bool:
    files = manifest.get("files")
    return (
        isinstance(manifest.get("versions"), dict)
        and isinstance(manifest.get("commit"), str | None)
        and isinstance(files, dict)
        and all(FILE_NAME.fullmatch(name) and len(name) <= MOST_FILE_NAME for name in files)
        and all(_well_formed_entry(entry) for entry in files.values())
    )


def _well_formed_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and is_count(entry.get("size"))


def _problems(
    path: Path, manifest: Mapping[str, Any], check: Callable[[Path, Mapping[str, Any]], object]
) -> list[str]:
    problems = []
    for name, entry in manifest["files"].items():
        try:
            check(path / name, entry)
        except MetaslacError as error:
            problems.append(str(error))
    return problems


def _check_size(path: Path, entry: Mapping[str, Any]) -> None:
    size = _size(path)
    if size != entry["size"]:
        raise MetaslacError(f"{path} is damaged: {size} bytes long instead of {entry['size']}")


def _size(path: Path) -> int:
    """Of a file; nothing else, such as a device that never ends, is to be read."""
    with _reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise MetaslacError(f"{path} is damaged: it is not a file")
    return status.st_size


def _read(path: Path) -> bytes:
    with _reading(path):
        return path.read_bytes()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise MetaslacError(f"{path} is missing") from None
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None
    except MemoryError:
        raise MetaslacError(f"cannot read {path}: there is no memory for it") from None
