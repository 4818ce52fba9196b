"""Where files are, in the user's words, and writing them so that a reader never sees half of one.

What the files mean is decided by run_log.py and checkpoint.py.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from metaslac.errors import MetaslacError

NO_SYNC = errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF  # said by file systems that cannot


def user_path(written: str | os.PathLike[str]) -> Path:
    """A path as users write it: `~` at its start is their home directory, and `./~` a name like any other.

    Raises MetaslacError for the home of somebody who is not there.
    """
    text = os.fspath(written)
    path = Path(text)
    if text.startswith("~"):
        try:
            return path.expanduser()
        except RuntimeError:
            raise MetaslacError(
                f"{text}: there is no home directory of that name; a file called so is ./{text}"
            ) from None
    # Path makes ~ of ./~, which the next to read it would take for the home directory; and zoo:x of ./zoo:x.
    first = path.parts[0] if path.parts else ""
    return path.absolute() if first.startswith("~") or (":" in first and text.startswith("./")) else path


def utf8(text: str) -> bytes:
    """Text for people that may name files, as UTF-8; bytes of a name that are no text become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it to disk, then rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        flush_to_disk(file)


@contextmanager
def new_directory(path: Path, over_empty: bool = False) -> Iterator[Path]:
    """Within, a directory to write to beside `path`; it is renamed there at the end, unless that is an error.

    Directories above it that are missing are made. Whatever ends it early, Ctrl-C too, leaves nothing behind.
    With `over_empty` it may take the place of an empty directory.

    Raises:
        MetaslacError: something is there already, nothing can be written there, or the disk is full.
    """
    check_unused(path, over_empty)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with _there(path.absolute().parent):
            temporary.mkdir()
            try:
                yield temporary
                check_unused(path, over_empty)  # or an empty directory made meanwhile would be taken
                os.rename(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        sync_directory(path.parent)
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None


def check_unused(path: Path, over_empty: bool = False) -> None:
    """Raise MetaslacError unless a directory can be made at `path`, where there is nothing yet.

    Directories above it may be missing; with `over_empty` it may be an empty directory itself.
    """
    if os.path.lexists(path) and not (over_empty and _is_empty(path)):
        raise MetaslacError(f"{path} is there already; choose another place, or delete it")
    if path.name in ("", ".."):
        raise MetaslacError(f"cannot write {path}: it names no new directory")
    nearest = next(each for each in path.absolute().parents if os.path.lexists(each))
    if not nearest.is_dir():
        raise MetaslacError(f"cannot write {path}: {nearest} is not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise MetaslacError(f"cannot write {path}: the directory {nearest} is not writable")


def _is_empty(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    except OSError:  # it may not be looked into
        return False


@contextmanager
def _there(directory: Path) -> Iterator[None]:
    """Within, a directory is there; it and those above it that were made for it go again after an error."""
    missing = [each for each in (directory, *directory.parents) if not os.path.lexists(each)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # somebody else has put something there
                each.rmdir()
        raise
    for each in missing:
        sync_directory(each.parent)


def flush_to_disk(file: BinaryIO) -> None:
    """Wait until the disk has what was written to an open file."""
    file.flush()
    _sync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the renames inside a directory last through a power cut, where the file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (*NO_SYNC, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
