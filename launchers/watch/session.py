"""An agent that plays for people to watch, as they wish: one thread's work.

What it plays are trials as everywhere else (metaslac/acting/rollout.py), a decision at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from metaslac.acting.inference import Drawing
from metaslac.acting.rollout import reset, rng_of
from metaslac.launchers.media.data_uris import png
from metaslac.launchers.media.film import drawn
from metaslac.launchers.media.filming import FilmedEnv, Take, ways_of_acting
from metaslac.launchers.watch.board import Board, Ended, Shown
from metaslac.launchers.watch.orders import Wishes

if TYPE_CHECKING:
    from metaslac.envs.family import Task
    from metaslac.evidence.probe import StepProbes
    from metaslac.launchers.api.trained import Trained

WATCH_STREAM = 13
BY_HAND = "m by hand"
OF_OTHERS = {"oracle": "what it is told", "blind": "no m: it is blind"}
HOLD_SECONDS = 1.0  # that the end of an episode stays, at least
MOST_SHOWN = 30  # episodes of a trial
LISTEN_SECONDS = 0.2  # at most, until a signal is noticed


class Session:
    """Plays trials, one after the other, as the board's wishes say, and shows them there.

    A wish for a new trial is followed at once; how m is drawn, from the next episode on; the rest at the next
    decision. With m by hand the belief goes on learning.

    Args:
        trained: the agent, which nobody else uses meanwhile.
        board: where wishes come from and pictures go.
        probes: what beliefs are read with, if they can be.
        size: side of the pictures in pixels.
        seed: of start states, m and actions.

    Raises:
        RenderingUnavailable: pictures cannot be drawn.
    """

    def __init__(
        self, trained: Trained, board: Board, probes: StepProbes | None, size: int, seed: int = 0
    ) -> None:
        from metaslac.envs import TaskVectorEnv
        from metaslac.envs.worlds.viewer import Viewer

        self._trained, self._agent, self._board, self._probes = trained, trained.agent, board, probes
        self._sees = trained.family.observation == "pixels"
        self._seed, self._evaluation = seed, trained.config.evaluation
        self._env = TaskVectorEnv(trained.family, 1, trained.threads, raise_on_divergence=False)
        self._viewer = Viewer(self._env, size)
        self._takes: dict[int, Take] = {}
        self._filmed = FilmedEnv(self._env, self._viewer, self._takes, size)
        self._seconds = self._env.worlds.control_seconds * trained.family.action_repeat
        self._trial: int | None = None  # none has begun
        self._over = False

    def play(self, stopped: Callable[[], bool]) -> None:
        """Play at the pace that is wished until `stopped`, which is asked several times a second.

        Where nobody watches nothing goes on, as if it were paused.
        """
        while not stopped():
            began = time.monotonic()
            self.advance()
            self._rest(began, stopped)

    def advance(self) -> None:
        """One decision; or the start of an episode or trial, where that is due.

        Raises MetaslacError where the agent cannot go on.
        """
        wishes = self._board.notice.wishes
        if wishes.trial != self._trial:
            self._begin_trial(wishes)
        elif self._over:
            self._begin_episode(wishes)
        else:
            self._step(wishes)
        self._board.publish(self._shown())

    def close(self) -> None:
        """Free worlds and OpenGL contexts."""
        self._viewer.close()
        self._env.close()

    def _rest(self, began: float, stopped: Callable[[], bool]) -> None:
        """Wait until the next decision is due."""
        while not stopped():
            number, wishes, _, watchers = self._board.notice
            rests = wishes.paused or not watchers
            pause = max(HOLD_SECONDS * self._over, 1.0 / wishes.pace)
            left = began + pause - time.monotonic()
            if wishes.trial != self._trial or (left <= 0 and not rests):
                return
            self._board.wait(number, LISTEN_SECONDS if rests else min(left, LISTEN_SECONDS))

    def _begin_trial(self, wishes: Wishes) -> None:
        family = self._trained.family.with_own_task(wishes.params)
        self._env.family, self._task = family, family.own_tasks[-1]
        self._trial, self._ended, self._seen = wishes.trial, [], 0
        self._agent.begin_task(1, np.array([self._task.params]))
        self._begin_episode(wishes)

    def _begin_episode(self, wishes: Wishes) -> None:
        from metaslac.envs.worlds.viewer import overlay_of

        assert self._trial is not None
        episode, task = len(self._ended), self._task
        self._takes.clear()
        self._takes[task.index] = Take(task, overlay_of(self._env.family, task), self._seconds)
        rngs = [rng_of(self._seed, WATCH_STREAM, self._trial, episode)]
        frames, _ = reset(self._filmed, [task], rngs)
        exploration = self._evaluation.exploration_episodes
        drawing = Drawing(int(wishes.redraw), self._trained.drawing.mean_below)
        self._agent.begin_episode(frames, rngs, episode < exploration, drawing)
        self._drawn, self._over = self._agent.m, False
        usual = ways_of_acting(episode + 1, exploration, drawing.every)[-1]
        self._acts = OF_OTHERS.get(self._trained.config.task.inference, usual)
        self._take_in_hand(wishes)

    def _step(self, wishes: Wishes) -> None:
        self._take_in_hand(wishes)
        actions = self._agent.act(deterministic=not self._evaluation.sample_actions)
        frames, rewards, terminated, truncated, info = self._filmed.step(actions)
        self._over = bool(terminated[0] | truncated[0])
        m, self._agent.m = self._agent.m, self._drawn
        if not info.get("diverged", [False])[0]:
            self._agent.observe(actions, rewards, frames)
            self._seen += 1
        self._drawn = self._agent.m
        self._agent.m = m
        if self._over:
            self._ended.append(Ended(self._acts, self._take.episodes[-1][-1].return_so_far))

    def _take_in_hand(self, wishes: Wishes) -> None:
        """Let the agent act on the m that is wished, or else on its own."""
        self._agent.m = self._drawn
        if wishes.hand is not None:
            self._agent.m = self._drawn.new_tensor([wishes.hand])
            self._acts = BY_HAND

    @property
    def _take(self) -> Take:
        return self._takes[self._task.index]

    def _shown(self) -> Shown:
        mean, std, m = (part[0].tolist() for part in (*self._agent.belief, self._agent.m))
        read = None
        if self._probes is not None:
            read = self._probes.read(np.array(mean), self._seen)
        moments = self._take.episodes[-1]
        picture = drawn(self._take, -1, len(moments) - 1, read)
        assert self._trial is not None
        return Shown(
            trial=self._trial,
            params=self._task.params,
            episode=len(self._ended) - self._over,
            step=len(moments) - 1,
            over=self._over,
            acts=self._acts,
            return_so_far=moments[-1].return_so_far,
            ended=tuple(self._ended[-MOST_SHOWN:]),
            mean=tuple(mean),
            std=tuple(std),
            m=tuple(m),
            picture=png(picture, quick=True),
            seen=png(self._env.render()[0], quick=True) if self._sees else "",
            camera=moments[-1].view.camera,
        )

    _task: Task
    _ended: list[Ended]  # episodes of the trial
    _seen: int  # decisions of the trial that the belief has taken in
    _drawn: torch.Tensor  # the agent's own m (1, M)
    _acts: str
