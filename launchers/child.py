"""The `metaslac` command as a child of a sweep: it ends when its standard input does, and saves before.

How such children are started is in sweep/child.py.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from metaslac.launchers.cli import main

STDIN = 0
# Far longer than a checkpoint takes; a child that hangs must not outlive its parent for good.
SECONDS_TO_SAVE = 300.0
STILL_THERE = 128 + signal.SIGKILL


def _end_with_parent() -> None:
    while os.read(STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(STILL_THERE)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
