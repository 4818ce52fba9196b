"""One process at a time: the kernel's lock on a file or, where there is none, a file that says who has it.

What is locked, and for what, is decided by the callers.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

# Said by file systems without locks: NFS without its lock daemon, Lustre without -o flock, some FUSE.
NO_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL
OWNER = ".owner"  # added to a lock's name
MOST_OWNER = 4096  # bytes


class InUse(Exception):
    """Another process has the lock; its text is empty, or begins with a space and says which."""


@contextmanager
def lock(path: Path, warn: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of this file, which is made and stays; gives its descriptor, for children to hold too.

    The kernel ends a lock with the last process that holds it. Where the file system has none, `warn` is
    told, and a file beside it names host and process. It is taken from a process of this host that has ended;
    children do not hold it.

    Raises:
        InUse: another process has it.
        OSError: the file cannot be written.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            owner = owner_of(path)
            stack.enter_context(_owned(owner))
            warn(
                f"no locks in {path.parent} ({error.strerror}): {owner.name} keeps other processes out; "
                "should the machine break down, delete it before another one goes on"
            )
        yield file.fileno()


def owner_of(path: Path) -> Path:
    """The file that says who has a lock, where the kernel does not."""
    return path.with_name(path.name + OWNER)


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    mine = json.dumps(_process(os.getpid())).encode()
    try:
        _write_new(path, mine)
    except FileExistsError:
        _remove_stale(path)
        try:
            _write_new(path, mine)
        except FileExistsError:
            raise InUse(_by(path, None)) from None
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == mine:
                path.unlink()


def _write_new(path: Path, data: bytes) -> None:
    """Raises FileExistsError if it is there, whoever else is creating it at this moment."""
    with path.open("xb") as file:
        file.write(data)


def _remove_stale(path: Path) -> None:
    """Remove the file of a process of this host that has ended. Raises InUse for any other."""
    try:
        with path.open("rb") as file:
            found = file.read(MOST_OWNER)
    except FileNotFoundError:
        return
    owner = _read(found)
    if owner is None or owner["host"] != socket.gethostname() or owner == _process(owner["process"]):
        raise InUse(_by(path, owner))
    # Away first, so that of two who find it stale one does not remove the other's new one.
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        if aside.read_bytes() != found:
            os.rename(aside, path)
            raise InUse(_by(path, None))
        aside.unlink()


def _read(data: bytes) -> dict[str, Any] | None:
    """What is in such a file; None where that makes no sense, as while it is being written."""
    try:
        owner = json.loads(data)
    except (ValueError, RecursionError):
        return None
    kinds = {"host": str, "process": int, "started": str}
    if not isinstance(owner, dict) or owner.keys() != kinds.keys():
        return None
    sound = all(type(owner[name]) is kind for name, kind in kinds.items()) and 0 < owner["process"] < 2**31
    return owner if sound else None


def _process(number: int) -> dict[str, Any] | None:
    """A process of this host, told from a later one of its number where /proc tells; None if it has ended."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    started = ""
    with suppress(OSError, IndexError):
        started = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19]
    return {"host": socket.gethostname(), "process": number, "started": started}


def _by(path: Path, owner: dict[str, Any] | None) -> str:
    who = f"process {owner['process']} on {owner['host']!r}, " if owner else ""
    return f" ({who}says {path}; if it has ended, delete that file)"
