"""Jobs of one command after the other, so many jobs at a time, until all are over or a stop is asked for.

A single process of them is child.py; what the jobs are for is the business of the caller.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from metaslac.launchers.signals import STOPPED as STOPPED_CODE
from metaslac.launchers.signals import Stop
from metaslac.launchers.sweep.child import lifeline, start_child

# States of a job; while it runs, its state is the name of its step.
WAITING, DONE, FAILED, STOPPED = "waiting", "done", "failed", "stopped"
OVER = (DONE, FAILED, STOPPED)

POLL_SECONDS = 0.1
COMMAND = "$ "  # in front of a command in a log
TAIL_BYTES = 8192


@dataclass(frozen=True)
class Step:
    """A command of metaslac, needed if it is due when its turn comes."""

    name: str
    arguments: Sequence[str]
    due: Callable[[], bool] = lambda: True


@dataclass
class Job:
    """Steps, each started once the one before has ended well."""

    name: str
    log: Path
    steps: Sequence[Step]
    state: str = WAITING
    fault: str = ""  # why it failed, in one line

    @property
    def runs(self) -> bool:
        """Whether a process of it runs."""
        return self.state not in (WAITING, *OVER)


class Workers(Protocol):
    """Where jobs are done."""

    @property
    def limit(self) -> int:
        """Most of them at a time."""

    @property
    def words(self) -> str:
        """How they are done, for people."""

    def left(self) -> str:
        """What is to be said of jobs that go on by themselves after `run`; empty if none does."""

    def run(
        self, jobs: Sequence[Job], stop: Stop, held: Sequence[int] = (), watch: Callable[[], None] = ...
    ) -> None:
        """Return when all are over or what is left of them is not ours to wait for; calls `watch` often."""


@dataclass(frozen=True)
class Here:
    """On this machine, side by side."""

    limit: int
    threads: int

    @property
    def words(self) -> str:
        """How they are done, for people."""
        return f"{self.limit} at a time, {self.threads} thread{'s' * (self.threads != 1)} each"

    def left(self) -> str:
        """Nothing goes on by itself."""
        return ""

    def run(
        self,
        jobs: Sequence[Job],
        stop: Stop,
        held: Sequence[int] = (),
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """As Jobs does."""
        Jobs(jobs, self.limit, self.threads, stop, held).run(watch)


@dataclass
class Jobs:
    """Work through jobs in their order.

    Args:
        jobs: their states are changed here, and nowhere else.
        limit: most of them at a time.
        threads: for each of them.
        stop: asked again and again; once it says yes, processes get SIGTERM and no more are started.
        held: open files that are to stay open as long as any process runs.
    """

    jobs: Sequence[Job]
    limit: int
    threads: int
    stop: Callable[[], bool]
    held: Sequence[int] = ()
    _running: list[_Process] = field(default_factory=list)

    def run(self, watch: Callable[[], None] = lambda: None) -> None:
        """Return when no process runs and none is to be started; calls `watch` several times a second."""
        with lifeline() as stdin:
            while True:
                self._ask_to_stop()
                for process in [process for process in self._running if process.ended()]:
                    self._running.remove(process)
                    self._go_on(process.job, process.later, stdin)
                while self._may_start():
                    job = next(job for job in self.jobs if job.state == WAITING)
                    self._go_on(job, job.steps, stdin)
                watch()
                if not self._running and not self._may_start():
                    return
                time.sleep(POLL_SECONDS)

    def _may_start(self) -> bool:
        waiting = any(job.state == WAITING for job in self.jobs)
        return waiting and len(self._running) < self.limit and not self.stop()

    def _go_on(self, job: Job, steps: Sequence[Step], stdin: int) -> None:
        """Start the first of the steps that is due, unless the job has come to its end."""
        if job.state in OVER:
            return
        for position, step in enumerate(steps):
            if self.stop():
                job.state = STOPPED
                return
            if not step.due():
                continue
            job.state = step.name
            try:
                with job.log.open("ab") as log:
                    log.write(os.fsencode(f"{COMMAND}metaslac {shlex.join(step.arguments)}\n"))
                process = start_child(step.arguments, job.log, stdin, self.threads, self.held)
            except OSError as error:
                job.state, job.fault = FAILED, f"{step.name} does not start: {error.strerror or error}"
                return
            self._running.append(_Process(job, process, steps[position + 1 :]))
            return
        job.state = DONE

    def _ask_to_stop(self) -> None:
        if self.stop():
            for process in self._running:
                process.ask_to_stop()


@dataclass
class _Process:
    """A step that runs, and those that are to follow."""

    job: Job
    process: subprocess.Popen[bytes]
    later: Sequence[Step]
    asked: bool = False

    def ask_to_stop(self) -> None:
        if not self.asked:
            self.asked = True
            self.process.send_signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether it has; then the job's state says how, if that was not well."""
        code = self.process.poll()
        if code is None:
            return False
        if code == STOPPED_CODE or (self.asked and code < 0):
            self.job.state = STOPPED
        elif code:
            how = f"exit code {code}" if code > 0 else f"signal {-code} ({signal.strsignal(-code)})"
            said = _last_line(self.job.log)
            self.job.fault = f"{self.job.state}: {how}" + (f": {said}" if said else "")
            self.job.state = FAILED
        return True


def _last_line(log: Path) -> str:
    """What the last command in a log said last; empty if it said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    last = lines[-1].strip() if lines else ""
    return "" if last.startswith(COMMAND) else last.removeprefix("metaslac: ")
