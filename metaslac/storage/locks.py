"""One process at a time: the kernel's lock on a file or, where there is none, a file that says who has it.

What is locked, and for what, is decided by the callers.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout

# Said by file systems without locks: NFS without its lock daemon, Lustre without -o flock, some FUSE.
NO_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL
OWNER = ".owner"  # added to a lock's name


class InUse(Exception):
    """Another process has the lock; its text is empty, or begins with a space and says which."""


@contextmanager
def lock(path: Path, warn: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of this file, which is made and stays; gives its descriptor, for children to hold too.

    The kernel ends a lock with the last process that holds it. Where the file system has none, `warn` is
    told, and a file beside it names host and process. It is taken from a process of this host that has ended,
    where the file system can exchange two names; children do not hold it.

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
    soft = SoftFileLock(path, timeout=0)
    try:
        soft.acquire()
    except Timeout:
        who = f"process {soft.pid}, " if soft.pid else ""
        raise InUse(f" ({who}says {path}; if it has ended, delete that file)") from None
    try:
        yield
    finally:
        soft.release()
