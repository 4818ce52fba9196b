"""tqdm's bar without what it does to the process: it may be drawn in a program that is somebody else's."""

from __future__ import annotations

import threading
from typing import Any

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[misc, unused-ignore]
    """A bar that leaves no thread behind and does not settle how multiprocessing starts processes.

    tqdm's lock is one among processes as well: making it has multiprocessing.set_start_method refused from
    then on. Its thread draws bars whose updates come later than expected; with `miniters=1` none is expected.
    """

    monitor_interval = 0

    def __init__(self, **options: Any) -> None:
        """Options are tqdm's."""
        super().__init__(miniters=1, **options)


ProgressBar.set_lock(threading.RLock())
