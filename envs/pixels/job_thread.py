"""A thread that does one job after the other and may be left behind when one of them hangs."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from metaslac.envs.forks import Origin


class JobThread:
    """Does jobs in the order they come in, and at last `cleanup`, all in one thread.

    Unlike concurrent.futures' pools, it is a daemon: a driver that hangs must not keep the process from
    ending.
    """

    def __init__(self, name: str, cleanup: Callable[[], None]) -> None:
        self._origin = Origin()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(cleanup,), name=name, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """Of the thread, as in threading."""
        return self._thread.ident

    def submit(self, job: Callable[[], Any]) -> "Future[Any]":
        """Have a job done; what it returns or raises.

        Raises FamilyError in a forked child, which has not got the thread.
        """
        self._origin.check()
        future: Future[Any] = Future()
        self._jobs.put((job, future))
        return future

    def stop(self) -> None:
        """End the thread after the job that runs, if that ever ends. Waits for nothing."""
        if self._origin.is_here:
            self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the end, not longer than that."""
        if self._origin.is_here:
            self._thread.join(seconds)

    def _run(self, cleanup: Callable[[], None]) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                future.set_result(job())
            except BaseException as error:  # handed to the thread that waits for the result
                future.set_exception(error)
            del item, job, future
        cleanup()
