"""What the tests of this folder share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from snags import LONG, SHORT, Snag

from metaslac.envs.pixels import rendering
from metaslac.envs.worlds import supervision


@pytest.fixture
def snag(monkeypatch: pytest.MonkeyPatch) -> Iterator[Snag]:
    """All threads that a test starts have to end once nothing hangs any more."""
    monkeypatch.setattr(supervision, "STEP_SECONDS", LONG)
    monkeypatch.setattr(rendering, "STOP_SECONDS", SHORT)
    before = set(threading.enumerate())
    snag = Snag(monkeypatch)
    yield snag
    snag.release()
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, threading._DummyThread):  # a library's own, known only for what it logged
            continue
        thread.join(LONG)
        assert not thread.is_alive()
