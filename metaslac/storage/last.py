"""`last`, which leads to the newest checkpoint beside it: a link, or its name in a text file without links.

What a checkpoint is stands in checkpoint.py, which mends `last` as well.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from pathlib import Path

from metaslac.storage.files import sync_directory, write_synced
from metaslac.storage.manifest import MANIFEST

LAST = "last"

NAME = re.compile(r"[\w-]+(\.[\w-]+)*")  # of a directory beside it
MOST_NAME = 255  # bytes

# Said by file systems that have no symbolic links: FAT, some network shares and FUSE.
NO_LINKS = errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP


def followed(path: Path) -> Path | None:
    """The checkpoint that is at `path`, or that a `last` there leads to; None if neither."""
    if os.path.exists(path / MANIFEST):  # unlike Path.exists, False where it may not be looked at
        return path.resolve()
    if path.name != LAST or not os.path.isfile(path):
        return None
    try:
        with path.open("rb") as file:
            name = file.read(MOST_NAME + 2).decode().removesuffix("\n")
    except (OSError, ValueError):
        return None
    beside = path.with_name(name) if NAME.fullmatch(name) else None
    return beside.resolve() if beside is not None and os.path.exists(beside / MANIFEST) else None


def last_in(parent: Path) -> Path | None:
    """The checkpoint that `last` in a folder of checkpoints leads to; None if it leads to none."""
    return followed(parent / LAST)


def point_last_at(directory: Path) -> None:
    """Make `last` lead to a checkpoint beside it. Raises OSError if the disk refuses."""
    temporary = directory.with_name(f".{LAST}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(directory.name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        write_synced(temporary, f"{directory.name}\n".encode())
    os.replace(temporary, directory.with_name(LAST))
    sync_directory(directory.parent)


def command_to_point_at(directory: Path) -> str:
    """What a person types to have `last` lead to a checkpoint beside it, in the way that works there."""
    last = directory.with_name(LAST)
    path = shlex.quote(str(last))
    return f"echo {directory.name} > {path}" if os.path.isfile(last) else f"ln -sfn {directory.name} {path}"
