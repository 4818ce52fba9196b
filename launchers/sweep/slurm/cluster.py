"""Slurm's own commands: what is in the queue, signals, cancelling and queueing again.

`squeue` alone is asked for states: unlike `sacct`, it works without an accounting database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from metaslac.errors import MetaslacError

COMMANDS = "sbatch", "squeue", "scancel", "scontrol"
SECONDS = 60.0  # that a controller under load may take to answer

# States of Slurm's in which a job has not begun, or is to begin again, and in which it has.
BEFORE = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
WITHIN = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
CANCELLED = {"CANCELLED", "PREEMPTED", "REVOKED"}


def check_there() -> None:
    """Raise MetaslacError unless Slurm's commands are there."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise MetaslacError(
            f"--slurm: {', '.join(missing)} not found here; call it where jobs are submitted, "
            "or leave --slurm out to run on this machine"
        )


def states(name: str) -> dict[str, str]:
    """The state of each job of this user and name, by id (123_4 in an array), of those just ended too.

    Raises OSError if Slurm does not answer.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}"]
    listed = _answer([*command, f"--name={name}", "--format=%i|%T"])
    return dict(line.strip().split("|", 1) for line in listed.splitlines() if "|" in line)


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue, whether they run or not. Raises OSError if Slurm does not."""
    if ids:
        _answer(["scancel", *ids])


def ask_to_stop(ids: Sequence[str]) -> None:
    """Send SIGTERM to the first process of jobs that run, and to no other. Raises OSError."""
    if ids:
        _answer(["scancel", "--batch", "--signal=TERM", *ids])


def requeue(slurm_id: str) -> None:
    """Have a job that runs end and wait in the queue once more. Raises OSError if Slurm refuses."""
    _answer(["scontrol", "requeue", slurm_id])


def _answer(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} did not answer in {SECONDS:.0f} s") from None
    if done.returncode:
        raise OSError(" ".join(done.stderr.split()) or f"{command[0]} exits with {done.returncode}")
    return done.stdout
