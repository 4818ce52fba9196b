"""Per-task replay: whole episodes as tensors on one device, every frame stored once.

Windows and context transitions are drawn by index arithmetic on [task, episode, step].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Episode(NamedTuple):
    """One episode of n steps. a[t] and r[t] belong to the step from frame t to frame t+1."""

    frames: NDArray[np.uint8]  # (n + 1, H, W, 3)
    actions: NDArray[np.float32]  # (n, A)
    rewards: NDArray[np.float32]  # (n,), what the task is judged and inferred by
    dense_rewards: NDArray[np.float32]  # (n,), what is trained on: the same unless the rewards are sparse
    terminated: bool  # a true end of the task, not a time limit


class Windows(NamedTuple):
    """Windows of L transitions; the last one is the actor-critic's.

    A window may begin before its episode: there the first frame is repeated with zero actions and
    rewards, and `valid` is false.
    """

    frames: Tensor  # (K, W, L + 1, H, W, 3) uint8
    a: Tensor  # (K, W, L, A)
    r: Tensor  # (K, W, L), dense
    restart: Tensor  # (K, W, L + 1) bool: the filter starts afresh at this frame
    valid: Tensor  # (K, W, L + 1) bool: this frame is real, not padding
    terminated: Tensor  # (K, W) bool: the last transition ended the task


class Context(NamedTuple):
    """Transitions of each task, in S segments of N consecutive ones so that few frames show many."""

    frames: Tensor  # (K, S, N + 1, H, W, 3) uint8
    a: Tensor  # (K, S, N, A)
    r: Tensor  # (K, S, N), as the task gives them; dense ones would tell what adaptation is not told
    valid: Tensor  # (K, S, N) bool: false where a segment sticks out of its episode


class TaskReplay:
    """A ring of episodes per task; the newest `context_episodes` marked ones are the task's context pool."""

    def __init__(
        self,
        num_tasks: int,
        episodes_per_task: int,
        context_episodes: int,
        episode_steps: int,
        image_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        shape = (num_tasks, episodes_per_task)
        self.device = device
        self.frames = torch.empty(
            *shape, episode_steps + 1, image_size, image_size, 3, dtype=torch.uint8, device=device
        )
        self.actions = torch.zeros(*shape, episode_steps, action_size, device=device)
        self.rewards = torch.zeros(*shape, episode_steps, device=device)
        self.dense_rewards = torch.zeros_like(self.rewards)
        self.lengths = torch.zeros(shape, dtype=torch.long, device=device)
        self.terminated = torch.zeros(shape, dtype=torch.bool, device=device)
        self.in_context = torch.zeros(shape, dtype=torch.bool, device=device)
        self.context_episodes = context_episodes
        self._added = [0] * num_tasks
        self._pools: list[list[int]] = [[] for _ in range(num_tasks)]  # slots, oldest first

    def add(self, task: int, episode: Episode, context: bool) -> None:
        """Store an episode over the task's oldest; `context` marks it for the task's context pool."""
        slot = self._added[task] % self.lengths.shape[1]
        n = len(episode.rewards)
        if not 0 < n <= self.rewards.shape[2]:
            raise ValueError(
                f"an episode of {n} steps does not fit a replay of {self.rewards.shape[2]} a slot"
            )
        self.frames[task, slot, : n + 1] = torch.from_numpy(episode.frames).to(self.device)
        self.actions[task, slot, :n] = torch.from_numpy(episode.actions).to(self.device)
        self.rewards[task, slot, :n] = torch.from_numpy(episode.rewards).to(self.device)
        self.dense_rewards[task, slot, :n] = torch.from_numpy(episode.dense_rewards).to(self.device)
        self.lengths[task, slot] = n
        self.terminated[task, slot] = episode.terminated
        self._added[task] += 1
        pool = [*(other for other in self._pools[task] if other != slot), *([slot] if context else [])]
        self._pools[task] = pool[-self.context_episodes :]
        self.in_context[task] = False
        self.in_context[task, self._pools[task]] = True

    def steps(self) -> int:
        """Transitions stored, all tasks together."""
        return int(self.lengths.sum())

    def sample_windows(self, tasks: Tensor, count: int, window: int, generator: torch.Generator) -> Windows:
        """`count` windows of each task (K,), their last transitions uniform over all that is stored."""
        slot, t = self._draw(self.lengths[tasks], count, generator)  # (K, W)
        steps = torch.arange(window + 1, device=self.device)
        index = t[..., None] + 1 - window + steps  # (K, W, L + 1), negative before the episode
        task, slot_, frame = tasks[:, None, None], slot[..., None], index.clamp_min(0)
        valid = index >= 0
        real = valid[..., :-1]
        return Windows(
            frames=self._gather_frames(task, slot_, frame),
            a=self.actions[task, slot_, frame[..., :-1]] * real[..., None],
            r=self.dense_rewards[task, slot_, frame[..., :-1]] * real,
            restart=(index <= 0) | (steps == 0),
            valid=valid,
            terminated=self.terminated[tasks[:, None], slot] & (t + 1 == self.lengths[tasks[:, None], slot]),
        )

    def sample_context(
        self, tasks: Tensor, segments: int, length: int, generator: torch.Generator
    ) -> Context:
        """Segments of each task (K,), every transition of its context pool as likely as any other."""
        lengths = self.lengths[tasks] * self.in_context[tasks]
        slot, _ = self._draw(lengths, segments, generator)  # (K, S)
        n = lengths.gather(1, slot)
        uniform = torch.rand(slot.shape, dtype=torch.float64, device=self.device, generator=generator)
        # A segment may stick out at either end, so that every transition is as likely as any other.
        start = (uniform * (n + length - 1)).long() - (length - 1)
        index = start[..., None] + torch.arange(length + 1, device=self.device)  # (K, S, N + 1)
        task, slot, n = tasks[:, None, None], slot[..., None], n[..., None]
        valid = (index[..., :-1] >= 0) & (index[..., :-1] < n)
        index = index.clamp_min(0)
        step = index[..., :-1].minimum(n - 1)
        return Context(
            frames=self._gather_frames(task, slot, index.minimum(n)),
            a=self.actions[task, slot, step],
            r=self.rewards[task, slot, step],
            valid=valid,
        )

    def _draw(self, lengths: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Slot and step, both (K, count), uniform over the steps counted by lengths (K, E)."""
        ends = lengths.cumsum(1)
        uniform = torch.rand(
            len(lengths), count, dtype=torch.float64, device=self.device, generator=generator
        )
        position = (uniform * ends[:, -1:]).long()
        slot = torch.searchsorted(ends, position, right=True)
        return slot, position - (ends - lengths).gather(1, slot)

    def _gather_frames(self, task: Tensor, slot: Tensor, step: Tensor) -> Tensor:
        """Frames at broadcast indices, as one row gather from the flat store."""
        _, slots, steps = self.frames.shape[:3]
        index = (task * slots + slot) * steps + step
        rows = self.frames.view(-1, self.frames[0, 0, 0].numel()).index_select(0, index.flatten())
        return rows.view(*index.shape, *self.frames.shape[3:])


def replay_bytes(
    num_tasks: int, episodes_per_task: int, episode_steps: int, image_size: int, action_size: int
) -> int:
    """Memory of a TaskReplay when full, in bytes."""
    frames = (episode_steps + 1) * image_size * image_size * 3
    steps = episode_steps * 4 * (action_size + 2)
    return num_tasks * episodes_per_task * (frames + steps + 10)
