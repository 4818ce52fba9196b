"""The directory of a run: may it be used or gone on with, and the two files that say what the run is.

Rows and events go there through `log/`, checkpoints through `checkpoint.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from metaslac.config.offline import algorithm_of
from metaslac.config.sections import Config
from metaslac.config.text import differences, from_yaml, listed, to_dict, to_yaml
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.storage.checkpoint import checkpoints_in, mend_last, remove_leftovers, verified_config
from metaslac.storage.files import write_atomically
from metaslac.storage.last import command_to_point_at, last_in
from metaslac.storage.locks import InUse, lock, owner_of
from metaslac.storage.manifest import CONFIG, MANIFEST, read_manifest
from metaslac.storage.named import is_exported
from metaslac.storage.provenance import source_commit
from metaslac.storage.version import library_versions

RUN_FILES = ("config.yaml", "variant.json", "progress.csv")
CHECKPOINTS = "checkpoints"
LOCK = ".lock"

# Settings, or sections of them, that a run may be gone on with changed: where, how long and what is kept.
MAY_CHANGE = ("train.updates", "runtime", "checkpoint")


def prepare_run_directory(path: Path, config: Config, resuming: bool = False) -> bool:
    """Check that a run may be written to `path`; writes nothing. `resuming` is for the words of errors only.

    Returns: whether this run is there already, to be gone on with.

    Raises:
        MetaslacError: another run, or anything else, is there, or it cannot be created.
    """
    try:
        if path.is_dir():
            found = _check_contents(path, config, resuming)
        elif path.exists() or path.is_symlink():
            raise MetaslacError(f"{path} is not a directory; choose another --run-dir")
        else:
            found = False
        _check_writable(path)
    except OSError as error:
        raise MetaslacError(f"cannot use {path} as run directory: {error.strerror or error}") from None
    return found


def start_run_directory(run_dir: Path, config: Config, extra: Mapping[str, Any], note: str = "") -> None:
    """Create the directory and write config.yaml and variant.json: settings, versions, commit and `extra`.

    The latter also has `algorithm` and `seed` at its top, the names by which viskit tells runs apart. `note`
    is a line about the process, a comment of config.yaml.
    """
    learns = f"{algorithm_of(config)}-" if config.offline else ""
    grouped = {"algorithm": f"metaslac-{learns}{config.task.inference}", "seed": config.train.seed}
    about = {"versions": library_versions(), "commit": source_commit()}
    variant = {**grouped, **to_dict(config), **about, **extra}
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        comment = f"# {note}\n" if note else ""
        write_atomically(run_dir / "config.yaml", (comment + to_yaml(config)).encode())
        write_atomically(run_dir / "variant.json", (json.dumps(variant, indent=2) + "\n").encode())
    except OSError as error:
        raise MetaslacError(f"cannot write to run directory {run_dir}: {error.strerror or error}") from None


def saved_config(run_dir: Path) -> Config:
    """The configuration of the run in a directory.

    Once there is a checkpoint, it is that one's, which has a checksum; config.yaml only says what was last
    asked for of the settings that may change.

    Raises:
        MetaslacError: there is none, or config.yaml has something else than the last checkpoint.
    """
    _refuse_checkpoint(run_dir)
    if not os.path.exists(run_dir):
        raise MetaslacError(f"{run_dir} does not exist")
    path, checkpoint = run_dir / CONFIG, last_in(run_dir / CHECKPOINTS)
    mend = f"; its last checkpoint's is to be trusted: {_copy(checkpoint, path)}" if checkpoint else ""
    try:
        found = from_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MetaslacError(f"{run_dir} holds no run: it has no {CONFIG}{mend}") from None
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # MetaslacError and bad UTF-8 among them
        reason = " ".join(str(error).split())
        raise MetaslacError(
            f"{path} is not the configuration of a run of this version: {reason}"
            f"{mend or '; choose another --run-dir'}"
        ) from None
    if checkpoint is None:
        return found
    if different := _fixed_differences(found, _config_of(checkpoint)):
        where = f"(there, in {checkpoint.name}, the last checkpoint)"
        raise MetaslacError(f"{path} was changed: {listed(different)} {where}{mend}")
    return found


def last_checkpoint(run_dir: Path) -> Path | None:
    """Where a run that is locked can be gone on from; None if it was stopped before its first checkpoint.

    Raises MetaslacError for one that had got further and has lost its checkpoints.
    """
    last = last_in(run_dir / CHECKPOINTS)
    if last is not None:
        return last
    rows = run_dir / "progress.csv"
    if rows.exists() and rows.stat().st_size:
        raise MetaslacError(
            f"{run_dir} has rows in progress.csv but no checkpoint; to train anew, delete it or choose "
            "another --run-dir"
        )
    return None


def other_checkpoints(path: Path) -> str:
    """For an error with the checkpoint at `path`: the run's others, and how to go on from one of them."""
    others = [other for other in checkpoints_in(path.parent) if other != path]
    if not others:
        return ""
    names = ", ".join(other.name for other in others)
    return f"; others are {names}: to go on from the newest of them, {command_to_point_at(others[-1])}"


@contextmanager
def locked(run_dir: Path, warn: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Keep other processes out of the run; the lock ends with the process, however that ends.

    What an earlier process had half written is deleted first. `warn` is told what the file system cannot do.

    Raises:
        MetaslacError: another process has the run, or the directory cannot be written to.
    """
    with ExitStack() as stack:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock(run_dir / LOCK, warn))
            _remove_leftovers(run_dir, warn)
            mend_last(run_dir / CHECKPOINTS)
        except InUse as owner:
            raise MetaslacError(f"{run_dir} is in use: another process is training there{owner}") from None
        except OSError as error:
            reason = error.strerror or error
            raise MetaslacError(f"cannot use {run_dir} as run directory: {reason}") from None
        yield


def not_there(path: Path) -> list[Path]:
    """The directory and those above it that there are not yet, the innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


@contextmanager
def cleared_if_refused(run_dir: Path, made: Sequence[Path]) -> Iterator[None]:
    """Within, a new run begins; where it is refused before it has, all that it wrote is deleted again.

    For a directory that is locked and had nothing in it. `made` are those that were made for it, as of
    `not_there`. What stops a training that has begun, a TrainingFault, leaves everything; and where there is
    a checkpoint, nothing is ever deleted.
    """
    try:
        yield
    except TrainingFault:
        raise
    except MetaslacError:
        if checkpoints_in(run_dir / CHECKPOINTS):
            raise
        with suppress(OSError):  # such as a tracker's own process that is still writing
            for entry in run_dir.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()
            for folder in made:
                folder.rmdir()
        raise


def _remove_leftovers(run_dir: Path, warn: Callable[[str], None]) -> None:
    for folder in (run_dir, run_dir / CHECKPOINTS):
        try:
            remove_leftovers(folder)
        except OSError as error:  # such as files that NFS keeps while somebody has them open
            warn(f"cannot delete what an earlier process left in {folder}: {error.strerror or error}")


def _check_contents(path: Path, config: Config, resuming: bool) -> bool:
    _refuse_checkpoint(path)
    # Not counted: what is left of a process that was killed before it had written anything whole.
    ours = [path / LOCK, owner_of(path / LOCK), *path.glob(".*.tmp-*")]
    names = sorted(entry.name for entry in path.iterdir() if entry not in ours)
    if not names:
        return False
    if not any(name in RUN_FILES for name in names):
        raise MetaslacError(f"{path} is not empty and holds no run; choose another --run-dir")
    found = saved_config(path)
    if found.offline != config.offline:
        raise MetaslacError(f"{path} holds a run of {found.command}; choose another --run-dir")
    if different := _fixed_differences(found, config):
        shown = f"{listed(different)} (there, asked for)"
        if resuming:
            raise MetaslacError(
                f"cannot go on with {path}: {shown}; only train.updates, runtime.* "
                "and checkpoint.* may change"
            )
        raise MetaslacError(
            f"{path} holds a different run: {shown}; choose another --run-dir, "
            f"or go on with it: {found.command} --resume {shlex.quote(str(path))}"
        )
    return True


def _fixed_differences(first: Config, second: Config) -> list[str]:
    """As of `differences`, but for what a run may be gone on with changed."""
    return [text for text in differences(first, second) if not _may_change(text.partition(" ")[0])]


def _may_change(name: str) -> bool:
    return name in MAY_CHANGE or name.partition(".")[0] in MAY_CHANGE


def _config_of(checkpoint: Path) -> Config:
    try:
        return verified_config(checkpoint, read_manifest(checkpoint))
    except MetaslacError as error:
        raise MetaslacError(f"{error}{other_checkpoints(checkpoint)}") from None


def _copy(checkpoint: Path, path: Path) -> str:
    """The command that puts back the configuration of a run."""
    return shlex.join(["cp", str(checkpoint / CONFIG), str(path)])


def _refuse_checkpoint(path: Path) -> None:
    if is_exported(path):
        raise MetaslacError(
            f"{path} is an exported agent, which has its weights only: a training cannot go on from it"
        )
    if os.path.exists(path / MANIFEST):
        run = path.resolve().parent.parent
        goes_on = f"; its run goes on with metaslac meta-train --resume {shlex.quote(str(run))}"
        raise MetaslacError(
            f"{path} is a checkpoint, not a run directory{goes_on if (run / 'config.yaml').exists() else ''}"
        )


def _check_writable(path: Path) -> None:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise MetaslacError(f"cannot create {path}: {existing} is not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MetaslacError(f"cannot create {path}: {existing} is not writable")
