"""The directory of a run: may it be used or gone on with, and the two files that say what the run is.

Rows and events go there through `run_log.py`, checkpoints through `checkpoint.py`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from metaslac.checkpoint import LAST, MANIFEST, remove_leftovers
from metaslac.config import Config
from metaslac.errors import MetaslacError
from metaslac.files import write_atomically
from metaslac.settings import differences, from_yaml, to_dict, to_yaml
from metaslac.version import library_versions

RUN_FILES = ("config.yaml", "variant.json", "progress.csv")
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
DIFFERENCES_SHOWN = 4

# Settings, or sections of them, that a run may be gone on with changed: where, how long and what is kept.
MAY_CHANGE = ("train.updates", "runtime", "checkpoint")


def prepare_run_directory(path: Path, config: Config) -> bool:
    """Check that a run may be written to `path`; writes nothing.

    Returns: whether this run is there already, to be gone on with.

    Raises:
        MetaslacError: another run, or anything else, is there, or it cannot be created.
    """
    try:
        if path.is_dir():
            found = _check_contents(path, config)
        elif path.exists() or path.is_symlink():
            raise MetaslacError(f"{path} is not a directory; choose another --run-dir")
        else:
            found = False
        _check_writable(path)
    except OSError as error:
        raise MetaslacError(f"cannot use {path} as run directory: {error.strerror or error}") from None
    return found


def start_run_directory(run_dir: Path, config: Config, extra: Mapping[str, Any]) -> None:
    """Create the directory and write config.yaml and variant.json (configuration, versions and `extra`)."""
    variant = {**to_dict(config), "versions": library_versions(), **extra}
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(run_dir / "config.yaml", to_yaml(config).encode())
        write_atomically(run_dir / "variant.json", (json.dumps(variant, indent=2) + "\n").encode())
    except OSError as error:
        raise MetaslacError(f"cannot write to run directory {run_dir}: {error.strerror or error}") from None


def saved_config(run_dir: Path) -> Config:
    """The configuration of the run in a directory. Raises MetaslacError if there is none."""
    config = _saved_config(run_dir)
    if config is None:
        raise MetaslacError(
            f"{run_dir} holds no run that can be gone on with: its config.yaml cannot be read"
        )
    return config


def last_checkpoint(run_dir: Path) -> Path | None:
    """Where the run can be gone on from; None for one that was stopped before its first checkpoint."""
    last = run_dir / CHECKPOINTS / LAST
    return last if last.is_symlink() or (last / MANIFEST).exists() else None


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of the run; the lock ends with the process, however that ends.

    What an earlier process had half written is deleted first.

    Raises:
        MetaslacError: another process has the run, or the directory cannot be written to.
    """
    with ExitStack() as stack:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((run_dir / LOCK).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftovers(run_dir / CHECKPOINTS)
        except BlockingIOError:
            raise MetaslacError(f"{run_dir} is in use: another process is training there") from None
        except OSError as error:
            reason = error.strerror or error
            raise MetaslacError(f"cannot use {run_dir} as run directory: {reason}") from None
        yield


def _check_contents(path: Path, config: Config) -> bool:
    names = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)
    if not names:
        return False
    if not any(name in RUN_FILES for name in names):
        raise MetaslacError(f"{path} is not empty and holds no run; choose another --run-dir")
    found = _saved_config(path)
    if found is None:
        raise MetaslacError(f"{path} holds a run whose config.yaml cannot be read; choose another --run-dir")
    different = [text for text in differences(found, config) if not _may_change(text.partition(" ")[0])]
    if different:
        more = f" and {len(different) - DIFFERENCES_SHOWN} more" if len(different) > DIFFERENCES_SHOWN else ""
        shown = ", ".join(different[:DIFFERENCES_SHOWN])
        raise MetaslacError(
            f"{path} holds a different run: {shown}{more} (there, asked for); choose another --run-dir"
        )
    return True


def _may_change(name: str) -> bool:
    return name in MAY_CHANGE or name.partition(".")[0] in MAY_CHANGE


def _saved_config(path: Path) -> Config | None:
    try:
        return from_yaml((path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # MetaslacError and bad UTF-8 among them
        return None


def _check_writable(path: Path) -> None:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise MetaslacError(f"cannot create {path}: {existing} is not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MetaslacError(f"cannot create {path}: {existing} is not writable")
