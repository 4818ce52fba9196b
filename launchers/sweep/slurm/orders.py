"""Files through which a sweep and its jobs on other machines know of each other, all in OUT/slurm.

NAME.json says what a run's job is to do, NAME.state.json how far the job is, queued.json which job of Slurm's
a run has. They hold plain words; the only program that they can start is `metaslac`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metaslac.errors import MetaslacError
from metaslac.launchers.sweep.jobs import Job, Step
from metaslac.storage.files import write_atomically

FORMAT = 1
QUEUED = "queued.json"


class Orders(NamedTuple):
    """What a job of Slurm's is to do."""

    job: Job
    threads: int
    requeues: int


class Said(NamedTuple):
    """What a job of Slurm's has last said about itself."""

    slurm_id: str = ""  # who said it: a run may have had others before
    state: str = ""
    fault: str = ""


def write_orders(folder: Path, job: Job, steps: Sequence[Step], threads: int, requeues: int) -> None:
    """Have these steps of a job done. Raises OSError."""
    values = {
        "log": str(job.log.absolute()),
        "steps": [[step.name, *step.arguments] for step in steps],
        "threads": threads,
        "requeues": requeues,
    }
    _write(folder / f"{job.name}.json", values)


def read_orders(folder: Path, name: str) -> Orders:
    """What a run's job is to do. Raises MetaslacError if the file is not as written."""
    path = folder / f"{name}.json"
    values = _read(path)
    steps, threads, requeues = (values.get(key) for key in ("steps", "threads", "requeues"))
    sound = (
        isinstance(values.get("log"), str)
        and isinstance(threads, int)
        and isinstance(requeues, int)
        and isinstance(steps, list)
        and all(isinstance(step, list) and len(step) > 1 for step in steps)
        and all(isinstance(word, str) for step in steps for word in step)
    )
    if not sound:
        raise MetaslacError(f"{path} is not as the sweep has written it")
    job = Job(name, Path(values["log"]), [Step(first, words) for first, *words in values["steps"]])
    return Orders(job, values["threads"], values["requeues"])


def write_said(folder: Path, name: str, said: Said) -> None:
    """Let the sweep know. Raises OSError."""
    _write(folder / f"{name}.state.json", said._asdict())


def read_said(folder: Path, name: str) -> Said:
    """What the job of a run has said; nothing, if it has not or it cannot be read."""
    try:
        values = _read(folder / f"{name}.state.json")
    except MetaslacError:
        return Said()
    words = [values.get(field, "") for field in Said._fields]
    return Said(*words) if all(isinstance(word, str) for word in words) else Said()


def write_queued(folder: Path, ids: Mapping[str, str]) -> None:
    """Keep which job of Slurm's each run has. Raises OSError."""
    _write(folder / QUEUED, {"jobs": dict(ids)})


def read_queued(folder: Path) -> dict[str, str]:
    """The last job of Slurm's that each run had. Raises MetaslacError if the file is not as written."""
    path = folder / QUEUED
    if not path.exists():
        return {}
    jobs = _read(path).get("jobs")
    if not isinstance(jobs, dict) or not all(isinstance(value, str) for value in jobs.values()):
        raise MetaslacError(f"{path} is not as the sweep has written it")
    return jobs


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps({"format": FORMAT, **values}, indent=2) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise MetaslacError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise MetaslacError(f"{path} is not as a sweep of this version has written it")
    return values
