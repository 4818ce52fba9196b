"""Per-task replay: a ring of whole episodes as they are played, as tensors on one device.

What is drawn of them is experience.py's.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from metaslac.replay.experience import FEATURE_TYPE, Episode, EpisodeTable, Experience, Stores


class StoredEpisode(NamedTuple):
    """What the host knows of an episode in the replay."""

    number: int  # counted per task, from 0
    row: int  # in the table
    offset: int  # place of its first frame, in its task's ring
    length: int
    marked: bool  # for the task's context pool


class TaskReplay(Experience):
    """A ring of frames per task, which holds as many of its newest episodes as fit.

    The ring has `episodes_per_task * (episode_steps + 1)` places: that many episodes of full length, or
    more shorter ones. An episode of n steps takes n + 1 places in a row; where they would run over the
    end of the ring, it begins at the start. What is in its way is forgotten, whole episodes, oldest first.

    The context pool of a task is its newest marked episodes that together hold at least
    `context_episodes * episode_steps` transitions, or all marked ones while they hold fewer. Where later
    episodes have left none that is marked, it is the newest of those.

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
        self.episode_steps = episode_steps
        self.context_steps = context_episodes * episode_steps
        self.places = episodes_per_task * (episode_steps + 1)  # of each task
        everywhere = num_tasks * self.places
        if on_states:
            frames, state_size = torch.zeros(everywhere, state_size, device=device), 0
        else:
            pictures = (min(new_pictures, stack),) if stack > 1 else ()
            shape = everywhere, *pictures, image_size, image_size, 3
            frames = torch.empty(shape, dtype=torch.uint8, device=device)
        stores = Stores(
            frames,
            actions=torch.zeros(everywhere, action_size, device=device),
            rewards=torch.zeros(everywhere, device=device),
            dense_rewards=torch.zeros(everywhere, device=device),
            states=torch.zeros(everywhere, state_size, device=device),
        )
        # Rows are taken in turn, and as no episode has fewer than two frames, there are enough.
        rows = num_tasks, self.places // 2
        table = EpisodeTable(
            offsets=torch.zeros(rows, dtype=torch.long, device=device),
            lengths=torch.zeros(rows, dtype=torch.long, device=device),
            terminated=torch.zeros(rows, dtype=torch.bool, device=device),
            in_context=torch.zeros(rows, dtype=torch.bool, device=device),
        )
        super().__init__(stores, table, device, stack, on_states)
        self.added = [0] * num_tasks  # episodes ever stored
        self.next_place = [0] * num_tasks  # in each task's ring
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
        first = self.place(task, offset)
        steps = slice(first, first + n)
        places = slice(first, first + n + 1)
        pictures = episode.frames[:, -self.new_pictures :] if self.stack > 1 else episode.frames
        self.frames[places] = torch.from_numpy(pictures).to(self.device)
        if episode.states is not None:
            self.states[places] = torch.from_numpy(episode.states).to(self.device)
        self.actions[steps] = torch.from_numpy(episode.actions).to(self.device)
        self.rewards[steps] = torch.from_numpy(episode.rewards).to(self.device)
        self.dense_rewards[steps] = torch.from_numpy(episode.dense_rewards).to(self.device)
        self.offsets[task, row] = first
        self.lengths[task, row] = n
        self.terminated[task, row] = episode.terminated
        self.added[task] = number + 1
        self.next_place[task] = offset + n + 1
        self.stored[task].append(StoredEpisode(number, row, offset, n, context))
        self.choose_pool(task)
        if self.on_add is not None:
            self.on_add(first, n + 1)

    def place(self, task: int, offset: int) -> int:
        """In the flat stores, of what is at `offset` in a task's ring."""
        return task * self.places + offset

    def stores(self) -> dict[str, Tensor]:
        """What is kept of every place and cannot be made again, by name, (N, places, ...)."""
        names = ["frames", "actions", "rewards", "dense_rewards", *["states"] * (self.states.shape[1] > 0)]
        return {name: self.by_task(getattr(self, name)) for name in names}

    def by_task(self, store: Tensor) -> Tensor:
        """A store (N * places, ...) as the tasks' rings, (N, places, ...); a view of it."""
        return store.view(-1, self.places, *store.shape[1:])

    def episodes(self) -> list[tuple[int, int, int]]:
        """As of any experience; of each task the oldest first."""
        return [
            (task, self.place(task, episode.offset), episode.length + 1)
            for task, stored in enumerate(self.stored)
            for episode in stored
        ]

    def episode(self, task: int, stored: StoredEpisode) -> Episode:
        """One of them, as it was played; how many control steps were made is not known any more."""
        place, n = self.place(task, stored.offset), stored.length
        steps, beside = slice(place, place + n), self.states.shape[1] > 0
        return Episode(
            self.episode_frames(place, n + 1).cpu().numpy(),
            actions=self.actions[steps].cpu().numpy(),
            rewards=self.rewards[steps].cpu().numpy(),
            dense_rewards=self.dense_rewards[steps].cpu().numpy(),
            terminated=bool(self.terminated[task, stored.row]),
            diverged=False,
            control_steps=n,
            states=self.states[place : place + n + 1].cpu().numpy() if beside else None,
        )

    def choose_pool(self, task: int) -> None:
        """Mark the rows of the task's context pool in the table."""
        self.in_context[task] = False
        self.in_context[task, self._pool(task)] = True

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
        return rows or [entry.row for entry in list(self.stored[task])[-1:]]


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
