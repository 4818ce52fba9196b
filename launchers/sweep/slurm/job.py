"""What a job of Slurm's is: it carries out its orders, says how far it is, and queues itself again.

python -m metaslac.launchers.sweep.slurm.job FOLDER RUN... does those of the run whose number in the array it
has. Shortly before the time is over Slurm sends SIGUSR1; SIGTERM is of one who wants it to end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from metaslac.launchers.errors import BAD_INPUT, FAULT
from metaslac.launchers.signals import STOPPED as STOPPED_CODE
from metaslac.launchers.signals import stop_requested
from metaslac.launchers.sweep.jobs import DONE, FAILED, STOPPED, WAITING, Jobs
from metaslac.launchers.sweep.slurm import cluster
from metaslac.launchers.sweep.slurm.orders import Orders, Said, read_orders, write_said


def main(folder: Path, runs: Sequence[str]) -> int:
    """Carry out the orders of a run; returns the exit code."""
    try:
        array, number = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
        name, slurm_id = runs[int(number)], f"{array}_{number}"
        orders = read_orders(folder, name)
    except (KeyError, IndexError, ValueError) as error:  # MetaslacError among them
        print(f"metaslac: no job of a sweep: {error}", file=sys.stderr)
        return BAD_INPUT
    return Worker(folder, slurm_id, orders).work()


class Worker:
    """A job of Slurm's at work."""

    def __init__(self, folder: Path, slurm_id: str, orders: Orders) -> None:
        self.folder, self.slurm_id, self.orders = folder, slurm_id, orders
        self._said = Said()

    def work(self) -> int:
        """Do what is ordered; returns the exit code."""
        job = self.orders.job
        with stop_requested() as stop:
            Jobs([job], 1, self.orders.threads, stop).run(self._say_what_runs)
            if job.state in (STOPPED, WAITING) and stop.number == signal.SIGUSR1:
                self._queue_again()
            else:
                self._say(STOPPED if job.state == WAITING else job.state, job.fault)
        return {DONE: 0, FAILED: FAULT}.get(self._said.state, STOPPED_CODE)

    def _say_what_runs(self) -> None:
        if self.orders.job.runs:
            self._say(self.orders.job.state)

    def _queue_again(self) -> None:
        times = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if times >= self.orders.requeues:
            self._say(FAILED, f"out of time, after being queued again {times} times (--requeues)")
            return
        self._say(WAITING)  # before Slurm ends this process
        try:
            cluster.requeue(self.slurm_id)
        except OSError as error:
            print(f"metaslac: not queued again: {error}", file=sys.stderr)
            self._say(STOPPED)

    def _say(self, state: str, fault: str = "") -> None:
        said = Said(self.slurm_id, state, fault)
        if said == self._said:
            return
        self._said = said
        try:
            write_said(self.folder, self.orders.job.name, said)
        except OSError as error:
            print(f"metaslac: cannot say {state}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
