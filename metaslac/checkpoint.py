"""Checkpoints: a directory of weights, configuration and a manifest that vouches for both.

Nothing here unpickles; which tensors belong in a checkpoint is decided by the callers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from metaslac.config import Config, validate
from metaslac.errors import MetaslacError
from metaslac.files import sync_directory, write_synced
from metaslac.settings import from_yaml, to_yaml
from metaslac.version import library_versions

FORMAT = "metaslac-checkpoint"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"

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


@dataclass(frozen=True)
class Checkpoint:
    """A whole, verified checkpoint in memory; tensors are on the CPU."""

    path: Path
    config: Config
    tensors: dict[str, torch.Tensor]
    manifest: dict[str, Any]


def save_checkpoint(
    directory: Path, tensors: Mapping[str, torch.Tensor], config: Config, manifest: Mapping[str, Any]
) -> None:
    """Write `directory` whole or not at all, then point its sibling `last` at it.

    `manifest` has the entries of MANIFEST_FIELDS and may have more. Raises MetaslacError when the disk
    refuses; what was there before is then intact.
    """
    wrong = [name for name, kind in MANIFEST_FIELDS.items() if not isinstance(manifest.get(name), kind)]
    if wrong:
        raise ValueError(f"a checkpoint's manifest needs {', '.join(wrong)}")
    files = {WEIGHTS: safetensors.torch.save(_plain(tensors)), CONFIG: to_yaml(config).encode()}
    temporary = directory.with_name(f".{directory.name}.tmp-{os.getpid()}")
    try:
        _write_directory(temporary, {**files, MANIFEST: _manifest_text(manifest, files)})
        _move_into_place(temporary, directory)
        _point_last_at(directory)
    except OSError as error:
        raise MetaslacError(f"cannot write checkpoint {directory}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read and verify a checkpoint, or the last one of a run directory.

    Raises MetaslacError, in one line naming the file, for everything that is not exactly as it was saved.
    """
    path = _find(directory)
    manifest = _read_manifest(path / MANIFEST)
    files = {name: _read_verified(path / name, entry) for name, entry in manifest["files"].items()}
    return Checkpoint(
        path=path,
        config=_parse_config(path / CONFIG, files[CONFIG]),
        tensors=_parse_weights(path / WEIGHTS, files[WEIGHTS]),
        manifest=manifest,
    )


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU, contiguous and apart from each other, as safetensors wants them."""
    return {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _manifest_text(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    whole = {
        **manifest,
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": library_versions(),
        "files": {name: {"sha256": _sha256(data), "size": len(data)} for name, data in files.items()},
    }
    whole["manifest_sha256"] = _sha256(_encode(whole))
    return _encode(whole)


def _encode(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    path.mkdir(parents=True)
    for name, data in files.items():
        write_synced(path / name, data)
    sync_directory(path)


def _move_into_place(temporary: Path, directory: Path) -> None:
    replaced = directory.with_name(f".{directory.name}.replaced-{os.getpid()}")
    if directory.exists():  # a directory cannot be renamed onto a full one
        os.rename(directory, replaced)
    try:
        os.rename(temporary, directory)
    except OSError:
        if replaced.exists():
            os.rename(replaced, directory)
        raise
    sync_directory(directory.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _point_last_at(directory: Path) -> None:
    link = directory.with_name(f".last.tmp-{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(directory.name)
    os.replace(link, directory.with_name("last"))
    sync_directory(directory.parent)


def _find(directory: Path) -> Path:
    """The checkpoint that a path given by a person means."""
    if not directory.exists():
        raise MetaslacError(f"checkpoint {directory} does not exist")
    if not directory.is_dir():
        raise MetaslacError(f"checkpoint {directory} is not a directory")
    for candidate in (directory, directory / "checkpoints" / "last", directory / "last"):
        if (candidate / MANIFEST).exists():
            return candidate.resolve()
    raise MetaslacError(f"{directory} is not a metaslac checkpoint or run: it has no {MANIFEST}")


def _read_manifest(path: Path) -> dict[str, Any]:
    data = _read(path)
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        raise MetaslacError(f"{path} is damaged: not readable as JSON") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise MetaslacError(f"{path} is not the manifest of a metaslac checkpoint")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise MetaslacError(
            f"{path} has format version {manifest.get('format_version')!r}; "
            f"this metaslac reads version {FORMAT_VERSION}"
        )
    unsigned = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    if manifest.get("manifest_sha256") != _sha256(_encode(unsigned)) or data != _encode(manifest):
        raise MetaslacError(f"{path} is damaged: its checksum does not match")
    if not _well_formed(manifest):
        raise MetaslacError(f"{path} is damaged: entries are missing or of the wrong type")
    return manifest


def _well_formed(manifest: Mapping[str, Any]) -> bool:
    files = manifest.get("files")
    return (
        all(isinstance(manifest.get(name), kind) for name, kind in MANIFEST_FIELDS.items())
        and isinstance(files, dict)
        and {WEIGHTS, CONFIG} <= set(files)
        and all(Path(name).name == name for name in files)
        and all(isinstance(entry, dict) and {"sha256", "size"} <= set(entry) for entry in files.values())
    )


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    """The bytes that were checked are the bytes that are used: the file is read once."""
    data = _read(path)
    if len(data) != entry["size"]:
        raise MetaslacError(f"{path} is damaged: {len(data)} bytes long instead of {entry['size']}")
    if _sha256(data) != entry["sha256"]:
        raise MetaslacError(f"{path} is damaged: its checksum does not match the manifest")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MetaslacError(f"{path} is missing from the checkpoint") from None
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None


def _parse_config(path: Path, data: bytes) -> Config:
    try:
        config = from_yaml(data.decode())
        validate(config)
    except ValueError as error:  # MetaslacError and bad UTF-8
        raise MetaslacError(f"{path}: {error}") from None
    return config


def _parse_weights(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise MetaslacError(
            f"{path} is not readable as safetensors: {' '.join(str(error).split())}"
        ) from None
