"""Collection ahead of learning: visits are played in a thread of their own during the updates before them.

What a visit is lives in collection.py, when one is due in online.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from metaslac.acting.agent import Agent, load_weights
from metaslac.acting.rollout import Interruptible, VectorEnv
from metaslac.training.collection import Collector, Played

SECONDS_BETWEEN_QUESTIONS = 0.1  # whether to stop, while a visit is waited for


class CollectorAhead:
    """Plays each visit with the weights of when the one before was due, during the updates between the two.

    What comes into the replay, and when, depends on counts alone, never on which thread is faster. The
    first visit has none before it: it is played when it is due, with the weights of that moment.

    Args:
        collector: whose visits are played. While one is, no other use of it may count episodes.
        agent: that goes on learning; a copy of it plays.
    """

    def __init__(self, collector: Collector, agent: Agent) -> None:
        self._collector = collector
        self._agent = agent
        self._copy = agent.copy()
        # On the learner's stream every action would wait for all updates queued there.
        cuda = agent.device.type == "cuda"
        self._stream = torch.cuda.Stream(agent.device, priority=-1) if cuda else None
        self._thread: ThreadPoolExecutor | None = None
        self._playing: Future[list[Played]] | None = None
        self._ended = threading.Event()

    def visit(self, env: VectorEnv, between: Callable[[], None] = lambda: None) -> int:
        """Take the visit that is due into the replay; the next one will be played with the weights of now.

        Gives how many decisions were kept. `between` is called while the visit is waited for; should it
        raise, the visit is still due. Errors of the thread are raised here.
        """
        if self._collector.visits:
            self.wait(env, between)
            assert self._playing is not None
            playing, self._playing = self._playing, None
            played = playing.result()
        else:
            played = self._collector.play(env, self._agent)
        kept = self._collector.keep(played)
        if self._stream is not None:
            torch.cuda.current_stream(self._agent.device).wait_stream(self._stream)
        self._copy.networks.load_state_dict(self._agent.networks.state_dict())
        return kept

    def start(self, env: VectorEnv) -> None:
        """Have the next visit played from now on, unless it is; `env` is the thread's until it is taken."""
        if self._playing is not None or not self._collector.visits:
            return
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._agent.device))
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "metaslac-ahead")
        self._playing = self._thread.submit(self._play, Interruptible(env, self._check_ended))

    def wait(self, env: VectorEnv, between: Callable[[], None] = lambda: None) -> None:
        """Wait until the visit that is due is played, if one is ahead; `between` as of `visit`."""
        if not self._collector.visits:
            return
        self.start(env)
        assert self._playing is not None
        while not wait([self._playing], SECONDS_BETWEEN_QUESTIONS).done:
            between()

    def state(self) -> dict[str, Tensor]:
        """The weights that the next visit is played with; there are none before the first one."""
        return self._copy.networks.state_dict() if self._collector.visits else {}

    def load_state(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """The inverse of `state`, after the collector's own.

        Raises MetaslacError, with the path of their file, or ValueError for weights that do not belong here.
        """
        if self._collector.visits:
            load_weights(self._copy.networks, tensors, path)
        elif tensors:
            raise ValueError("it has weights to play with before the first visit")

    def close(self) -> None:
        """End the thread at its next step, and wait for that; of a visit that it plays nothing is kept."""
        if self._thread is not None:
            self._ended.set()
            self._thread.shutdown()
            self._ended.clear()
            self._thread = self._playing = None

    def _play(self, env: VectorEnv) -> list[Played]:
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            return self._collector.play(env, self._copy)

    def _check_ended(self) -> None:
        if self._ended.is_set():
            raise Ended


class Ended(Exception):
    """The visit is not wanted any more."""
