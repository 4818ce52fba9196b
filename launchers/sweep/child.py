"""The `metaslac` command as a child process that ends with its parent, however that ends.

How many there are at a time, and what comes of them, is the business of jobs.py; what runs in them is
../child.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ENTRY = "metaslac.launchers.child"  # by name: it is above all commands


@contextmanager
def lifeline() -> Iterator[int]:
    """What children have as standard input: a pipe whose other end only this process holds.

    The kernel closes that when this process ends, kill -9 included. Unlike a signal on the parent's death
    (PR_SET_PDEATHSIG) this needs no code between fork and exec, is there on every system, cannot come too
    early, and lets a training write its checkpoint.
    """
    reading, writing = os.pipe()  # neither is inherited unless it is passed on
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)


def start_child(
    arguments: Sequence[str], log: Path, stdin: int, threads: int, held: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `metaslac ARGUMENTS`; all it prints is added to `log`.

    Args:
        arguments: of the command.
        log: file to add to.
        stdin: of `lifeline`.
        threads: for libraries that have CPU threads of their own.
        held: further open files to be held by the child, such as locks.

    Raises OSError if there is no log or no process to be had.
    """
    # It imports what this process imports, but for a directory that it happens to be called in (-P).
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", ENTRY, *arguments],
            stdin=stdin,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            pass_fds=held,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which passes it on
        )
