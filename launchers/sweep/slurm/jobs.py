"""Jobs of a sweep as jobs of Slurm's: submitted, watched, found again, stopped.

How far one is, it says itself (orders.py); whether it is still there, the queue does (cluster.py).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metaslac.errors import MetaslacError, TrainingFault
from metaslac.launchers.signals import Stop
from metaslac.launchers.sweep.jobs import DONE, FAILED, OVER, STOPPED, WAITING, Job
from metaslac.launchers.sweep.slurm import cluster
from metaslac.launchers.sweep.slurm.orders import read_queued, read_said, write_orders, write_queued
from metaslac.launchers.sweep.slurm.resources import Resources
from metaslac.launchers.sweep.slurm.submission import check_library, submit

FOLDER = "slurm"  # in the sweep's own
STARTING = "starting"
LEAVE = signal.SIGHUP, signal.SIGUSR1  # leave jobs alone

POLL_SECONDS = 0.1
SECONDS_BETWEEN_READINGS = 1.0
SECONDS_BETWEEN_QUESTIONS = 10.0  # controllers are shared
ANSWERS_TO_THE_END = 3  # for what a job said last to be seen through a shared file system
PATIENCE_SECONDS = 600.0


@dataclass
class OnSlurm:
    """On a cluster, as Workers of a sweep.

    Args:
        out: the sweep's directory.
        resources: of each job.
        limit: most of them at a time.
        threads: CPU cores of each.
        detach: do not wait for them.

    Raises MetaslacError if Slurm or submitit is not there.
    """

    out: Path
    resources: Resources
    limit: int
    threads: int
    detach: bool = False
    _ids: dict[str, str] = field(default_factory=dict)  # of those that are not over, by name
    _jobs: dict[str, Job] = field(default_factory=dict)
    _found: set[str] = field(default_factory=set)  # submitted by an earlier call
    _gone: dict[str, int] = field(default_factory=dict)  # answers since it left the queue without an end
    _asked: set[str] = field(default_factory=set)  # to stop

    def __post_init__(self) -> None:
        if "%" in str(self.out):
            raise MetaslacError(
                f"--slurm: Slurm has a meaning of its own for % in {self.out}; choose another --out"
            )
        cluster.check_there()
        check_library()
        self._folder = self.out.absolute() / FOLDER
        self._name = f"metaslac-{self.out.absolute().name}"
        self._heard = 0.0

    @property
    def words(self) -> str:
        """How jobs are done, for people."""
        each = f"{self.threads} core{'s' * (self.threads != 1)}{', 1 GPU' * self.resources.gpus} each"
        return f"jobs of Slurm's named {self._name}, {self.limit} at a time, {each}"

    def left(self) -> str:
        """What is to be said of jobs that are still Slurm's; empty if none is."""
        if not self._ids:
            return ""
        return (
            f"{len(self._ids)} job{'s' * (len(self._ids) != 1)} left with Slurm; "
            f"the same command {'without --detach ' * self.detach}watches, and reports in the end"
        )

    def run(
        self,
        jobs: Sequence[Job],
        stop: Stop,
        held: Sequence[int] = (),
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """Submit what is not there yet, and return when all are over or are to be left alone."""
        self._jobs |= {job.name: job for job in jobs}
        self._heard = time.monotonic()
        self._find(jobs)
        self._submit([job for job in jobs if job.name not in self._ids])
        read, asked, stopping = 0.0, time.monotonic(), False
        states: dict[str, str] | None = None
        while self._ids and not (self.detach or stop.number in LEAVE):
            now = time.monotonic()
            if now - asked >= SECONDS_BETWEEN_QUESTIONS or stop() > stopping:
                states, asked, stopping = self._states(), now, stop()
                if stopping:
                    self._ask_to_stop(states or {})
            if states is not None or now - read >= SECONDS_BETWEEN_READINGS:
                read = now
                for name in list(self._ids):
                    self._look_at(self._jobs[name], states)
                states = None
            watch()
            time.sleep(POLL_SECONDS)

    def _find(self, jobs: Sequence[Job]) -> None:
        """Those that an earlier call has submitted and that are still there."""
        queued = read_queued(self._folder)
        states = self._states() if queued else {}
        if states is None:
            raise MetaslacError("Slurm does not answer squeue, and jobs of this sweep may be in its queue")
        for job in jobs:
            there = states.get(queued.get(job.name, ""), "")
            if there in cluster.BEFORE | cluster.WITHIN:
                self._ids[job.name] = queued[job.name]
                self._found.add(job.name)

    def _submit(self, jobs: Sequence[Job]) -> None:
        due = {job.name: [step for step in job.steps if step.due()] for job in jobs}
        for job in jobs:
            job.state = WAITING if due[job.name] else DONE
        names = [name for name, steps in due.items() if steps]
        if not names:
            return
        try:
            self._folder.mkdir(exist_ok=True)
            for name in names:
                write_orders(self._folder, self._jobs[name], due[name], self.threads, self.resources.requeues)
            ids = submit(self._folder, self._name, names, self.resources, self.threads, self.limit)
            self._ids |= dict(zip(names, ids, strict=True))
            write_queued(self._folder, {**read_queued(self._folder), **self._ids})
        except OSError as error:
            raise MetaslacError(f"cannot write {self._folder}: {error.strerror or error}") from None

    def _states(self) -> dict[str, str] | None:
        """Slurm's, None if it does not answer; TrainingFault if it has not for long."""
        try:
            states = cluster.states(self._name)
        except OSError as error:
            if time.monotonic() - self._heard > PATIENCE_SECONDS:
                raise TrainingFault(
                    f"Slurm has not answered for {PATIENCE_SECONDS / 60:.0f} minutes ({error}); its jobs are "
                    "left alone, the same command watches them again"
                ) from None
            return None
        self._heard = time.monotonic()
        return states

    def _ask_to_stop(self, states: dict[str, str]) -> None:
        """Cancel what waits, which ends it, and have what runs write its checkpoint."""
        new = {name: states.get(slurm_id, "") for name, slurm_id in self._ids.items()}
        waiting = [name for name, state in new.items() if state in cluster.BEFORE]
        running = [name for name, state in new.items() if state in cluster.WITHIN and name not in self._asked]
        try:
            cluster.cancel([self._ids[name] for name in waiting])
            cluster.ask_to_stop([self._ids[name] for name in running])
        except OSError:
            return  # the next time
        self._asked.update(running)
        for name in waiting:
            begun = read_said(self._folder, name).slurm_id == self._ids[name]
            self._end(self._jobs[name], STOPPED if begun else WAITING)

    def _look_at(self, job: Job, states: dict[str, str] | None) -> None:
        """See how far a job is, by what it has said and, if Slurm was asked, by that."""
        slurm_id = self._ids[job.name]
        said = read_said(self._folder, job.name)
        state = said.state if said.slurm_id == slurm_id else ""
        if state in OVER and (state != STOPPED or job.name in self._asked):
            self._end(job, state, said.fault)
            return
        if states is None:  # one that was stopped by Slurm may be in its queue again
            if state not in ("", STOPPED):
                job.state = state
            return
        slurm = states.get(slurm_id, "")
        if slurm in cluster.BEFORE:
            job.state = WAITING
        elif slurm in cluster.WITHIN:
            job.state = job.state if state == STOPPED else state or STARTING
        elif state == STOPPED or slurm in cluster.CANCELLED:
            self._end(job, STOPPED if state else WAITING)
        else:
            self._gone[job.name] = self._gone.get(job.name, 0) + 1
            if self._gone[job.name] >= ANSWERS_TO_THE_END:
                how = slurm.lower().replace("_", " ") or "no longer in the queue"
                self._end(job, FAILED, f"{how}, says Slurm; see {self._folder / slurm_id}.out")

    def _end(self, job: Job, state: str, fault: str = "") -> None:
        del self._ids[job.name]
        self._gone.pop(job.name, None)
        job.state, job.fault = state, fault
        # One that was found had the orders of an earlier call.
        if state == DONE and job.name in self._found and any(step.due() for step in job.steps):
            self._found.discard(job.name)
            self._submit([job])
