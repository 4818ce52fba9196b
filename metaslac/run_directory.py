"""The directory of a run: may it be used, and the two files that say what the run is.

Rows and events go there through `run_log.py`, weights through `checkpoint.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaslac.config import Config
from metaslac.errors import MetaslacError
from metaslac.files import write_atomically
from metaslac.settings import differences, from_yaml, to_dict, to_yaml
from metaslac.version import library_versions

RUN_FILES = ("config.yaml", "variant.json", "progress.csv")
DIFFERENCES_SHOWN = 4


def prepare_run_directory(path: Path, config: Config) -> None:
    """Check that a new run may be written to `path`; writes nothing.

    Raises MetaslacError when a run or anything else is already there, or when it cannot be created.
    """
    try:
        if path.is_dir():
            _check_contents(path, config)
        elif path.exists() or path.is_symlink():
            raise MetaslacError(f"{path} is not a directory; choose another --run-dir")
        _check_writable(path)
    except OSError as error:
        raise MetaslacError(f"cannot use {path} as run directory: {error.strerror or error}") from None


def start_run_directory(run_dir: Path, config: Config, extra: Mapping[str, Any]) -> None:
    """Create the directory and write config.yaml and variant.json (configuration, versions and `extra`)."""
    variant = {**to_dict(config), "versions": library_versions(), **extra}
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(run_dir / "config.yaml", to_yaml(config).encode())
        write_atomically(run_dir / "variant.json", (json.dumps(variant, indent=2) + "\n").encode())
    except OSError as error:
        raise MetaslacError(f"cannot write to run directory {run_dir}: {error.strerror or error}") from None


def _check_contents(path: Path, config: Config) -> None:
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return
    if not any(name in RUN_FILES for name in names):
        raise MetaslacError(f"{path} is not empty and holds no run; choose another --run-dir")
    found = _saved_config(path)
    if found is None:
        raise MetaslacError(f"{path} holds a run whose config.yaml cannot be read; choose another --run-dir")
    different = differences(found, config)
    if different:
        more = f" and {len(different) - DIFFERENCES_SHOWN} more" if len(different) > DIFFERENCES_SHOWN else ""
        shown = ", ".join(different[:DIFFERENCES_SHOWN])
        raise MetaslacError(
            f"{path} holds a different run: {shown}{more} (there, asked for); choose another --run-dir"
        )
    raise MetaslacError(f"{path} already holds this run; choose another --run-dir or delete it")


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
