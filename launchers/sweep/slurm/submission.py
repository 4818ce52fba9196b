"""Handing jobs to Slurm through submitit: an extra, imported when it is asked for.

submitit writes the batch script, knows sbatch's options and submits. What it submits is a command line: a
function would be pickled into the sweep's directory and unpickled there by the job.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from metaslac.errors import MetaslacError
from metaslac.launchers.sweep.slurm.resources import SECONDS_BEFORE_THE_END, Resources

ENTRY = "metaslac.launchers.sweep.slurm.job"


def check_library() -> None:
    """Raise MetaslacError unless submitit is there."""
    _library()


def submit(
    folder: Path, name: str, runs: Sequence[str], resources: Resources, threads: int, limit: int
) -> list[str]:
    """Submit an array of jobs, each to carry out the orders in `folder` of one of these runs.

    Args:
        folder: where batch scripts and what jobs print go, on a file system that the nodes share.
        name: of the jobs in Slurm's queue.
        runs: their names, in the order in which they are to begin.
        resources: of each.
        threads: CPU cores of each.
        limit: most of them at a time.

    Returns the id of each. Raises MetaslacError if sbatch refuses.
    """
    submitit = _library()
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(
        job_name=name,
        cpus_per_task=threads,
        use_srun=False,
        stderr_to_stdout=True,
        wckey=None,
        **resources.parameters(),
        additional_parameters={
            **resources.more,
            "array": f"0-{len(runs) - 1}%{limit}",
            "output": str(folder / "%A_%a.out"),
            "requeue": True,
            # To the first process alone, which passes it on and then queues the job again.
            "signal": f"B:USR1@{SECONDS_BEFORE_THE_END}",
        },
    )
    try:
        with redirect_stderr(io.StringIO()):  # submitit prints what sbatch says, and raises it as well
            job = executor._submit_command(_command(folder, runs))
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        raise MetaslacError(f"sbatch: {' '.join(str(error).split())}") from None
    return [f"{job.job_id}_{index}" for index in range(len(runs))]


def _command(folder: Path, runs: Sequence[str]) -> str:
    """A line of shell that becomes the job's first process."""
    # It imports what this process imports, but for a directory that it happens to be called in (-P).
    path = os.pathsep.join(entry for entry in sys.path if entry)
    program = [sys.executable, "-P", "-m", ENTRY, str(folder), *runs]
    return f"exec env {shlex.quote(f'PYTHONPATH={path}')} {shlex.join(program)}"


def _library() -> Any:
    try:
        import submitit
    except ImportError:
        raise MetaslacError('--slurm needs submitit: pip install "metaslac[slurm]"') from None
    return submitit
