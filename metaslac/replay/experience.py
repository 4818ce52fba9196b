"""Experience of several tasks: episodes as rows of flat stores, and what is drawn of them.

Windows and context transitions are drawn by index arithmetic on a table of each task's episodes. Who puts the
episodes there is task_replay.py's, as they are played, and recorded.py's, from a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metaslac.ranks.sharding import ALL, Share

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
    distinct: Tensor  # (K,) transitions in the task's pool; those drawn may repeat some of them
    f: Tensor | None = None  # (K, S, N + 1, F) features, where they are kept
    repeated: Tensor | None = None  # (K, S, N) bool: one drawn before is the same; None if not asked for


class Stores(NamedTuple):
    """What is kept of every place, P in all, flat: of all tasks together.

    An episode of n steps takes n + 1 places in a row. There is no step from its last one.
    """

    frames: Tensor  # (P, H, W, 3) uint8, of stacks (P, new pictures, H, W, 3); or (P, S) states as observed
    actions: Tensor  # (P, A), of the step from the frame at a place to the next
    rewards: Tensor  # (P,), as the task gives them
    dense_rewards: Tensor  # (P,)
    states: Tensor  # (P, S) of the simulator, beside the pictures; S = 0 where none are kept


class EpisodeTable(NamedTuple):
    """Where each task's episodes are: a row for each, of length zero where there is none; all (N, E)."""

    offsets: Tensor  # place of its first frame in the stores
    lengths: Tensor
    terminated: Tensor  # bool
    in_context: Tensor  # bool: in the task's context pool


class Experience:
    """Episodes of N tasks, from which windows and contexts are drawn.

    Where the simulator's state is observed, that is what is kept in place of frames, and drawn as features.
    Of a stack of k pictures, those are stored that a decision adds to the stack before it, so that each is
    stored once; stacks are put together again when they are drawn.

    Args:
        stores, table: the episodes.
        device: where what is drawn is, and all of it is kept.
        stack: pictures in a frame, k.
        on_states: whether the frames are states, and there are no pictures.
    """

    def __init__(
        self,
        stores: Stores,
        table: EpisodeTable,
        device: torch.device,
        stack: int = 1,
        on_states: bool = False,
    ) -> None:
        self.device = device
        self.frames, self.actions, self.rewards, self.dense_rewards, self.states = stores
        self.offsets, self.lengths, self.terminated, self.in_context = table
        self.stack = stack
        self.new_pictures = self.frames.shape[1] if stack > 1 else 1
        self.features = self.frames if on_states else None  # (P, F), once features are kept
        self.on_add: Callable[[int, int], None] | None = None  # told first place and places of what is added
        self.on_settle: Callable[[], None] | None = None  # called when a visit is added, on all ranks
        self.on_disk = False  # whether frames may have to be read when they are drawn

    def episodes(self) -> list[tuple[int, int, int]]:
        """Task, first place and number of places of every episode, a task after the other."""
        tasks, rows = self.lengths.nonzero(as_tuple=True)
        found = tasks, self.offsets[tasks, rows], self.lengths[tasks, rows] + 1
        return list(zip(*(column.tolist() for column in found), strict=True))

    @contextmanager
    def only_asking(self) -> Iterator[None]:
        """What is drawn meanwhile is without frames; those that are on the disk are asked for."""
        yield

    def episode_frames(self, place: int, count: int) -> Tensor:
        """The frames of an episode that is stored from a place on, so many, as agents see them."""
        index = torch.arange(count, device=self.device)
        return self._frames(torch.full_like(index, place), index)

    def steps(self) -> int:
        """Transitions stored, all tasks together."""
        return int(self.lengths.sum())

    def settle(self) -> None:
        """A visit has been added, on all ranks."""
        if self.on_settle is not None:
            self.on_settle()

    def sample_windows(
        self, tasks: Tensor, count: int, window: int, generator: torch.Generator, share: Share = ALL
    ) -> Windows:
        """`count` windows of each task (K,), their last transitions uniform over all that is stored.

        The tasks are a rank's `share` of those that `generator` draws for.
        """
        row, t = self._draw(self.lengths[tasks], count, generator, share)  # (K, W)
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
            state=gather(self.states, place[..., -2:]) if self.states.shape[1] else None,
        )

    def sample_context(
        self,
        tasks: Tensor,
        segments: int,
        length: int,
        generator: torch.Generator,
        apart: bool = False,
        share: Share = ALL,
    ) -> Context:
        """Segments of each task (K,), every transition of its context pool as likely as any other.

        With `apart`, they are drawn so that few of them show the same, and which do is told.
        """
        lengths, pooled = self.lengths[tasks], self.in_context[tasks]
        # A segment may stick out of its episode at either end: of the n + length - 1 segments with a
        # transition of an episode, all as likely, `length` show any one of its n transitions.
        shown = (lengths + (length - 1)) * pooled
        row, position = self._draw(shown, segments, generator, share, apart)  # (K, S)
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
            distinct=(lengths * pooled).sum(1),
            f=None if self.features is None else gather(self.features, first + index).float(),
            repeated=valid & repeats(step.masked_fill(~valid, -1).flatten(1)).view_as(valid)
            if apart
            else None,
        )

    def _frames(self, first: Tensor, index: Tensor) -> Tensor:
        """Frames number `index` of episodes whose first frame is at place `first`, of any shape together."""
        if self.stack == 1:
            return gather(self.frames, first + index)
        return gather_stacks(self.frames, first, index, self.stack)

    def _draw(
        self, weights: Tensor, count: int, generator: torch.Generator, share: Share, apart: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Row of the table and position in it, both (K, count), uniform over all positions.

        `weights` (K, E) says how many positions each row has. Those drawn `apart` are one of each of `count`
        equal parts of the positions, from anywhere on and around, and each as uniform (stratified sampling).
        """
        ends = weights.cumsum(1)
        draw = partial(torch.rand, dtype=torch.float64, device=self.device, generator=generator)
        uniform = share.cut(draw, len(weights), count + apart)
        total = ends[:, -1:]
        if apart:
            first, uniform = uniform[:, :1], uniform[:, 1:]
            uniform = (torch.arange(count, device=self.device) + uniform) / count
        position = (uniform * total).long().minimum(total - 1)
        if apart:
            position = (position + (first * total).long()) % total
        row = torch.searchsorted(ends, position, right=True)
        return row, position - ends.gather(1, row) + weights.gather(1, row)

    def _first_place(self, task: Tensor, row: Tensor) -> Tensor:
        """Place of an episode's first frame, (K, C, 1), for its task and row (K, C)."""
        return self.offsets[task, row][..., None]


def gather(store: Tensor, place: Tensor) -> Tensor:
    """Rows of a store (P, ...) at places of any shape, as one row gather."""
    return store.index_select(0, place.flatten()).view(*place.shape, *store.shape[1:])


def gather_stacks(store: Tensor, first: Tensor, index: Tensor, stack: int) -> Tensor:
    """Stacks (..., k, H, W, 3) from a store (P, new pictures, H, W, 3) of what each decision added to them.

    They are number `index` of episodes whose first is at place `first`, of any shape together; before its
    first frame there is but that.
    """
    parts = [gather(store, first + index)]
    missing, back = stack - store.shape[1], 0
    while missing:
        back += 1
        earlier = gather(store, first + (index - back).clamp_min(0))
        parts.append(earlier[..., -missing:, :, :, :])
        missing -= parts[-1].shape[-4]
    return torch.cat(parts[::-1], -4)


def repeats(places: Tensor) -> Tensor:
    """Which of the places (K, C) were in their row before, bool (K, C)."""
    ordered, order = places.sort(dim=1, stable=True)  # so that of equal ones the first stays first
    same = F.pad(ordered.diff(dim=1) == 0, (1, 0))
    return torch.zeros_like(same).scatter(1, order, same)
