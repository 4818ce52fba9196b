"""Per-task replay: whole episodes as tensors on one device, every frame stored once.

Windows and context transitions are drawn by index arithmetic on a table of each task's episodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

FEATURE_TYPE = torch.float16  # of kept features: a few per cent of their frames, and precise enough


class Episode(NamedTuple):
    """One episode of n steps. a[t] and r[t] belong to the step from frame t to frame t+1.

    A frame is what the agent sees: one picture, a stack of the last k control steps' pictures,
    (n + 1, k, H, W, 3), or the simulator's state, (n + 1, S).
    """

    frames: NDArray[Any]  # (n + 1, H, W, 3) uint8
    actions: NDArray[np.float32]  # (n, A)
    rewards: NDArray[np.float32]  # (n,), what the task is judged and inferred by
    dense_rewards: NDArray[np.float32]  # (n,), what is trained on: the same unless the rewards are sparse
    terminated: bool  # a true end of the task, not a time limit
    diverged: bool  # the simulation failed in the step after the last one here
    control_steps: int  # made in all, those of a step that failed included
    lost: bool = (
        False  # a worker died or hung: the rest of the episode is not known, and it is not to be used
    )
    states: NDArray[np.float32] | None = None  # (n + 1, S), the simulator's, where critics are to see them
    film: NDArray[np.uint8] | None = None  # (n + 1, H, W, 3), where states are seen and people are to watch

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The newest picture of every frame, (n + 1, H, W, 3)."""
        if self.film is not None:
            return self.film
        assert self.frames.dtype == np.uint8, "states were seen, and nobody filmed"
        return self.frames if self.frames.ndim == 4 else self.frames[:, -1]


class Windows(NamedTuple):
    """Windows of L transitions; the last one is the actor-critic's.

    A window may begin before its episode: there the first frame is repeated with zero actions and
    rewards, and `valid` is false.
    """

    frames: Tensor | None  # (K, W, L + 1, H, W, 3) or (..., k, H, W, 3) uint8; None where f is there
    a: Tensor  # (K, W, L, A)
    r: Tensor  # (K, W, L), dense
    restart: Tensor  # (K, W, L + 1) bool: the filter starts afresh at this frame
    valid: Tensor  # (K, W, L + 1) bool: this frame is real, not padding
    terminated: Tensor  # (K, W) bool: the last transition ended the task
    f: Tensor | None = None  # (K, W, L + 1, F) features, where they are kept
    state: Tensor | None = None  # (K, W, 2, S) at the last transition's frames, where they are kept


class Context(NamedTuple):
    """Transitions of each task, in S segments of N consecutive ones so that few frames show many."""

    frames: Tensor | None  # (K, S, N + 1, H, W, 3) or (..., k, H, W, 3) uint8; None where f is there
    a: Tensor  # (K, S, N, A)
    r: Tensor  # (K, S, N), as the task gives them; dense ones would tell what adaptation is not told
    valid: Tensor  # (K, S, N) bool: false where a segment sticks out of its episode
    repeated: Tensor  # (K, S, N) bool: of the task's drawn ones an earlier one is the same transition
    f: Tensor | None = None  # (K, S, N + 1, F) features, where they are kept


class StoredEpisode(NamedTuple):
    """What the host knows of an episode in the replay."""

    number: int  # counted per task, from 0
    row: int  # in the table
    offset: int  # place of its first frame
    length: int
    marked: bool  # for the task's context pool


class TaskReplay:
    """A ring of frames per task, which holds as many of its newest episodes as fit.

    The ring has `episodes_per_task * (episode_steps + 1)` places: that many episodes of full length, or
    more shorter ones. An episode of n steps takes n + 1 places in a row; where they would run over the
    end of the ring, it begins at the start. What is in its way is forgotten, whole episodes, oldest first.

    The context pool of a task is its newest marked episodes that together hold at least
    `context_episodes * episode_steps` transitions, or all marked ones while they hold fewer.

    Where the simulator's state is observed, that is what is kept in place of frames, and drawn as features.
    Of a stack of k pictures, those are stored that a decision adds to the stack before it, so that each is
    stored once; stacks are put together again when they are drawn.

    Args:
        num_tasks: how many training tasks.
        episodes_per_task, context_episodes: as above.
        episode_steps: decisions in a whole episode.
        image_size, action_size: of a picture and of an action.
        device: where all of it is.
        stack: pictures in a frame, k.
        new_pictures: of them, those that a decision adds: an action repeat adds that many, at most k.
        state_size: of the simulator's states; 0 keeps none.
        on_states: whether they are what is observed, and there are no pictures.
    """

    def __init__(
        self,
        num_tasks: int,
        episodes_per_task: int,
        context_episodes: int,
        episode_steps: int,
        image_size: int,
        action_size: int,
        device: torch.device,
        stack: int = 1,
        new_pictures: int = 1,
        state_size: int = 0,
        on_states: bool = False,
    ) -> None:
        self.device = device
        self.stack, self.new_pictures = stack, min(new_pictures, stack)
        self.episode_steps = episode_steps
        self.context_steps = context_episodes * episode_steps
        self.places = episodes_per_task * (episode_steps + 1)
        shape = (num_tasks, self.places)
        pictures = (self.new_pictures,) if stack > 1 else ()
        picture = image_size, image_size, 3
        self.features: Tensor | None = None  # (N, places, F), once features are kept
        if on_states:
            self.frames = self.features = torch.zeros(*shape, state_size, device=device)
            state_size = 0
        else:
            self.frames = torch.empty(*shape, *pictures, *picture, dtype=torch.uint8, device=device)
        self.states = torch.zeros(*shape, state_size, device=device)
        self.on_add: Callable[[int, int, int], None] | None = None  # told task, first place and places
        # The step from the frame at a place to the next; there is none from an episode's last frame.
        self.actions = torch.zeros(*shape, action_size, device=device)
        self.rewards = torch.zeros(shape, device=device)
        self.dense_rewards = torch.zeros_like(self.rewards)
        # The table: a row per episode, of length zero where there is none. Rows are taken in turn, and
        # as no episode has fewer than two frames, there are enough.
        table = (num_tasks, self.places // 2)
        self.offsets = torch.zeros(table, dtype=torch.long, device=device)
        self.lengths = torch.zeros(table, dtype=torch.long, device=device)
        self.terminated = torch.zeros(table, dtype=torch.bool, device=device)
        self.in_context = torch.zeros(table, dtype=torch.bool, device=device)
        self.added = [0] * num_tasks  # episodes ever stored
        self.next_place = [0] * num_tasks
        self.stored: list[deque[StoredEpisode]] = [deque() for _ in range(num_tasks)]  # oldest first

    def add(self, task: int, episode: Episode, context: bool) -> None:
        """Store an episode over the task's oldest; `context` marks it for the task's context pool.

        An episode without a single step is ignored.
        """
        n = len(episode.rewards)
        if n > self.episode_steps:
            raise ValueError(f"an episode of {n} steps is too long for a replay of {self.episode_steps}")
        if n == 0:
            return
        offset = self._make_room(task, n + 1)
        number = self.added[task]
        row = number % self.lengths.shape[1]
        steps = slice(offset, offset + n)
        places = slice(offset, offset + n + 1)
        pictures = episode.frames[:, -self.new_pictures :] if self.stack > 1 else episode.frames
        self.frames[task, places] = torch.from_numpy(pictures).to(self.device)
        if episode.states is not None:
            self.states[task, places] = torch.from_numpy(episode.states).to(self.device)
        self.actions[task, steps] = torch.from_numpy(episode.actions).to(self.device)
        self.rewards[task, steps] = torch.from_numpy(episode.rewards).to(self.device)
        self.dense_rewards[task, steps] = torch.from_numpy(episode.dense_rewards).to(self.device)
        self.offsets[task, row] = offset
        self.lengths[task, row] = n
        self.terminated[task, row] = episode.terminated
        self.added[task] = number + 1
        self.next_place[task] = offset + n + 1
        self.stored[task].append(StoredEpisode(number, row, offset, n, context))
        self.choose_pool(task)
        if self.on_add is not None:
            self.on_add(task, offset, n + 1)

    def stores(self) -> dict[str, Tensor]:
        """What is kept of every place and cannot be made again, by name, (N, places, ...)."""
        names = ["frames", "actions", "rewards", "dense_rewards", *["states"] * (self.states.shape[2] > 0)]
        return {name: getattr(self, name) for name in names}

    def episode_frames(self, task: int, offset: int, count: int) -> Tensor:
        """The frames of an episode that is stored from a place on, so many, as agents see them."""
        index = torch.arange(count, device=self.device)
        first = torch.full_like(index, task * self.places + offset)
        return self._frames(first, index)

    def choose_pool(self, task: int) -> None:
        """Mark the rows of the task's context pool in the table."""
        self.in_context[task] = False
        self.in_context[task, self._pool(task)] = True

    def steps(self) -> int:
        """Transitions stored, all tasks together."""
        return int(self.lengths.sum())

    def sample_windows(self, tasks: Tensor, count: int, window: int, generator: torch.Generator) -> Windows:
        """`count` windows of each task (K,), their last transitions uniform over all that is stored."""
        row, t = self._draw(self.lengths[tasks], count, generator)  # (K, W)
        at = tasks[:, None], row
        steps = torch.arange(window + 1, device=self.device)
        index = t[..., None] + 1 - window + steps  # (K, W, L + 1), negative before the episode
        first, within = self._first_place(*at), index.clamp_min(0)
        place = first + within
        valid = index >= 0
        real = valid[..., :-1]
        return Windows(
            frames=self._frames(first, within) if self.features is None else None,
            a=gather(self.actions, place[..., :-1]) * real[..., None],
            r=gather(self.dense_rewards, place[..., :-1]) * real,
            restart=(index <= 0) | (steps == 0),
            valid=valid,
            terminated=self.terminated[at] & (t + 1 == self.lengths[at]),
            f=None if self.features is None else gather(self.features, place).float(),
            state=gather(self.states, place[..., -2:]) if self.states.shape[2] else None,
        )

    def sample_context(
        self, tasks: Tensor, segments: int, length: int, generator: torch.Generator
    ) -> Context:
        """Segments of each task (K,), every transition of its context pool as likely as any other.

        They are drawn apart, so that few of them show the same.
        """
        lengths, pooled = self.lengths[tasks], self.in_context[tasks]
        # A segment may stick out of its episode at either end: of the n + length - 1 segments with a
        # transition of an episode, all as likely, `length` show any one of its n transitions.
        shown = (lengths + (length - 1)) * pooled
        row, position = self._draw(shown, segments, generator, apart=True)  # (K, S)
        at = tasks[:, None], row
        n = self.lengths[at][..., None]
        index = (position - (length - 1))[..., None] + torch.arange(length + 1, device=self.device)
        valid = (index[..., :-1] >= 0) & (index[..., :-1] < n)
        first, index = self._first_place(*at), index.clamp_min(0)  # (K, S, 1) and (K, S, N + 1)
        step, index = first + index[..., :-1].minimum(n - 1), index.minimum(n)
        return Context(
            frames=self._frames(first, index) if self.features is None else None,
            a=gather(self.actions, step),
            r=gather(self.rewards, step),
            valid=valid,
            repeated=valid & repeats(step.masked_fill(~valid, -1).flatten(1)).view_as(valid),
            f=None if self.features is None else gather(self.features, first + index).float(),
        )

    def _frames(self, first: Tensor, index: Tensor) -> Tensor:
        """Frames number `index` of episodes whose first frame is at place `first`, of any shape together."""
        frames = gather(self.frames, first + index)
        if self.stack == 1:
            return frames
        missing, back = self.stack - self.new_pictures, 0
        parts = [frames]
        while missing:
            back += 1
            earlier = gather(self.frames, first + (index - back).clamp_min(0))
            parts.append(earlier[..., -missing:, :, :, :])
            missing -= parts[-1].shape[-4]
        return torch.cat(parts[::-1], -4)

    def _draw(
        self, weights: Tensor, count: int, generator: torch.Generator, apart: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Row of the table and position in it, both (K, count), uniform over all positions.

        `weights` (K, E) says how many positions each row has. Those drawn `apart` are one of each of `count`
        equal parts of the positions, and together as uniform (stratified sampling).
        """
        ends = weights.cumsum(1)
        uniform = torch.rand(
            len(weights), count, dtype=torch.float64, device=self.device, generator=generator
        )
        if apart:
            uniform = (torch.arange(count, device=self.device) + uniform) / count
        position = (uniform * ends[:, -1:]).long().minimum(ends[:, -1:] - 1)
        row = torch.searchsorted(ends, position, right=True)
        return row, position - ends.gather(1, row) + weights.gather(1, row)

    def _first_place(self, task: Tensor, row: Tensor) -> Tensor:
        """Place of an episode's first frame in the flat stores, (K, C, 1), for its task and row (K, C)."""
        return (task * self.places + self.offsets[task, row])[..., None]

    def _make_room(self, task: int, size: int) -> int:
        """The first of `size` places in a row, with nothing stored there any more."""
        start = self.next_place[task]
        if start + size > self.places:
            self._forget(task, start, self.places)  # or these would outlive newer ones
            start = 0
        self._forget(task, start, start + size)
        return start

    def _forget(self, task: int, start: int, end: int) -> None:
        """Drop the episodes that begin in these places. What lies ahead in the ring is the oldest."""
        stored, rows = self.stored[task], []
        while stored and start <= stored[0].offset < end:
            rows.append(stored.popleft().row)
        self.lengths[task, rows] = 0

    def _pool(self, task: int) -> list[int]:
        """Rows of the task's context pool."""
        rows: list[int] = []
        steps = 0
        for entry in reversed(self.stored[task]):
            if steps >= self.context_steps:
                break
            if entry.marked:
                rows.append(entry.row)
                steps += entry.length
        return rows


def gather(store: Tensor, place: Tensor) -> Tensor:
    """Rows of a store (tasks, places, ...) at flat places of any shape, as one row gather."""
    rows = store.flatten(0, 1).index_select(0, place.flatten())
    return rows.view(*place.shape, *store.shape[2:])


def repeats(places: Tensor) -> Tensor:
    """Which of the places (K, C) were in their row before, bool (K, C)."""
    ordered, order = places.sort(dim=1, stable=True)  # so that of equal ones the first stays first
    same = F.pad(ordered.diff(dim=1) == 0, (1, 0))
    return torch.zeros_like(same).scatter(1, order, same)


def replay_bytes(
    num_tasks: int,
    episodes_per_task: int,
    episode_steps: int,
    image_size: int,
    action_size: int,
    pictures: int = 1,
    state_size: int = 0,
    feature_size: int = 0,
) -> int:
    """Memory of a TaskReplay in bytes, with so many pictures a decision, none where states are observed.

    With `feature_size`, features are kept too.
    """
    places = episodes_per_task * (episode_steps + 1)
    frame, step, row = pictures * image_size * image_size * 3, 4 * (action_size + 2), 8 + 8 + 1 + 1
    kept = 4 * state_size + FEATURE_TYPE.itemsize * feature_size
    return num_tasks * (places * (frame + step + kept) + places // 2 * row)
