"""What commands print and the files they leave: tables on the screen, JSON beside it.

Videos are drawn in `video.py`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from metaslac.errors import MetaslacError
from metaslac.storage.files import write_atomically


def check_writable(path: Path | None) -> None:
    """Raise MetaslacError now if `path` could not be written after hours of work; None is fine.

    Directories on the way there need not be: `make_room` makes them.
    """
    if path is None:
        return
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise MetaslacError(f"cannot write {path}: {folder} is not a directory")
    if path.is_dir():
        raise MetaslacError(f"cannot write {path}: it is a directory")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise MetaslacError(f"cannot write {path}: it is a link or a device, and would be replaced")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MetaslacError(f"cannot write {path}: the directory {folder} is not writable")


def make_room(path: Path) -> None:
    """Make the directories on the way to a file that is about to be written, or raise MetaslacError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None


def tell(text: str, err: bool = False) -> None:
    """Print lines, if there is still someone to read them: what is left to do is done all the same."""
    with suppress(OSError):
        click.echo(text, err=err)


@contextmanager
def scratch_space(beside: Path) -> Iterator[None]:
    """Within, temporary files go where they do or, on a machine without a place for them, beside this file.

    Those of libraries too: matplotlib cannot be imported without.
    """
    before, there = tempfile.tempdir, (each for each in beside.absolute().parents if each.is_dir())
    try:
        tempfile.gettempdir()
    except OSError:
        tempfile.tempdir = str(next(there))
    try:
        yield
    finally:
        tempfile.tempdir = before


def free_name(path: Path) -> Path:
    """The path, or the first of NAME-2, NAME-3, ... beside it where nothing is yet."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(other for other in itertools.chain([path], numbered) if not os.path.lexists(other))


def write_json(path: Path, values: Any) -> None:
    """Write `values` as indented JSON, whole or not at all; what is not a finite number is null there."""
    text = json.dumps(_numbers_only(values), indent=2, allow_nan=False)
    make_room(path)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None


def _numbers_only(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _numbers_only(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_numbers_only(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text in columns, the first to the left and the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
