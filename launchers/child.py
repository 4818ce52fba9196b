"""The `metaslac` command as a child process that ends with its parent, however that ends.

How many there are at a time, and what comes of them, is the business of jobs.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STDIN = 0
# Far longer than a checkpoint takes; a child that hangs must not outlive its parent for good.
SECONDS_TO_SAVE = 300.0
STILL_THERE = 128 + signal.SIGKILL


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
            [sys.executable, "-P", "-m", "launchers.child", *arguments],
            stdin=stdin,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            pass_fds=held,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which passes it on
        )


def _end_with_parent() -> None:
    while os.read(STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(STILL_THERE)


if __name__ == "__main__":
    from launchers.cli import main  # which imports this file

    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
