"""What one update sees, how that is drawn from what was collected, and what is made of it on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from metaslac.config.sections import Config
from metaslac.networks.latent_models.base import Posterior
from metaslac.ranks.sharding import Shard
from metaslac.replay.experience import Context, Experience, Windows

Parts = TypeVar("Parts", "Windows", "Context", "Decisions")


class Batch(NamedTuple):
    """What one update sees: a meta-batch of K tasks."""

    windows: Windows
    context: Context
    params: Tensor  # (K, P) true task parameters; only the oracle looks at them


class Batches:
    """Draws batches, each task's windows from its whole replay and its context from its pool alone.

    Args:
        config: says how many of each.
        replay: of all training tasks.
        params: (N, P) the true parameters of these tasks.
        generator: all chance is drawn from it, the same on all ranks.
        shard: whose tasks the replay has; None is all of them.
    """

    def __init__(
        self,
        config: Config,
        replay: Experience,
        params: Tensor,
        generator: torch.Generator,
        shard: Shard | None = None,
    ) -> None:
        self.config = config
        self.replay = replay
        self.params = params
        self.generator = generator
        shard = shard or Shard(tasks=len(params))
        self._share = shard.share(config.train.tasks_per_update)
        self._own = torch.tensor(shard.indices, device=params.device)  # numbers of these tasks among all

    def sample(self, windows: int | None = None) -> Batch:
        """`train.tasks_per_update` distinct tasks, so many windows of each; None is what an update takes.

        With several ranks, it is this one's share of them, of its own tasks.
        """
        config, generator, share = self.config, self.generator, self._share
        if windows is None:
            windows = windows_per_update(config)
        order = torch.rand(len(self.params), device=self.params.device, generator=generator)
        tasks = order[self._own].argsort()[: share.size]
        return Batch(
            self.replay.sample_windows(tasks, windows, config.model.window, generator, share),
            self.replay.sample_context(
                tasks,
                config.task.context_segments,
                config.task.context_length,
                generator,
                config.task.count_once,
                share,
            ),
            self.params[self._own[tasks]],
        )

    def ask_ahead(self, windows: int | None = None) -> None:
        """Have the system read what the next batch of so many windows is drawn of, while others work.

        It is drawn twice, the first time without its frames: so nothing is changed, the generator neither,
        and who saves it now goes on with the same batch.
        """
        if self.replay.on_disk and self.replay.features is None:
            state = self.generator.get_state()
            with self.replay.only_asking():
                self.sample(windows)
            self.generator.set_state(state)


class Transitions(NamedTuple):
    """Context transitions as the context encoder takes them, C of each task."""

    f: Tensor  # (K, C, F)
    a: Tensor  # (K, C, A)
    r: Tensor  # (K, C)
    f_next: Tensor  # (K, C, F)
    valid: Tensor  # (K, C) bool: those to infer from
    distinct: Tensor  # (K,) how many different ones there were to draw from


class Seen(NamedTuple):
    """B windows with their features, the m they are seen with, and the latents filtered from them, if any."""

    f: Tensor  # (B, L + 1, F)
    windows: Windows  # flattened over tasks
    m: Tensor  # (B, M)
    posterior: Posterior | None

    def decisions(self) -> Decisions:
        """The last decision of each window."""
        z = None if self.posterior is None else self.posterior.z
        windows = self.windows
        return Decisions(
            self.f,
            windows.a,
            None if z is None else z[:, -2],
            None if z is None else z[:, -1],
            windows.r[:, -1],
            windows.terminated,
            None if windows.state is None else windows.state[:, 0],
            None if windows.state is None else windows.state[:, 1],
        )


class Decisions(NamedTuple):
    """B decisions, or (K, W), as critics and actor see them: the last of each window, or imagined ones."""

    f: Tensor  # (B, L + 1, F) features up to the decision, and of the frame after it
    a: Tensor  # (B, L, A) actions of the window, the decision last
    z: Tensor | None  # (B, Z)
    z_next: Tensor | None  # (B, Z)
    r: Tensor  # (B,)
    terminated: Tensor  # (B,)
    state: Tensor | None  # (B, S), for critics that see it
    state_next: Tensor | None  # (B, S)
    real: Tensor | None = None  # (B,) whether it was played and not imagined; None where all were

    def of_latents(self) -> Decisions:
        """Without features, states and the actions before them, for those that see latents alone."""
        return self._replace(f=self.f[:, :0], a=self.a[:, -1:], state=None, state_next=None)

    def chosen(self, row: Tensor, order: Tensor) -> Decisions:
        """Of decisions (K, W), those at row (K, 1) and order (K, n), flattened over tasks: (K * n,)."""
        return each(self, lambda part: part[row, order].flatten(0, 1))

    def by_task(self, tasks: int) -> Decisions:
        """Decisions (K * W,), task by task, as (K, W)."""
        return each(self, lambda part: part.unflatten(0, (tasks, -1)))


def joined(decided: Sequence[Decisions], tasks: int) -> Decisions:
    """Decisions (K * W,) of several steps as one, (K, W of all)."""
    parts = [decisions.by_task(tasks)._asdict() for decisions in decided]
    there = [name for name, part in parts[0].items() if part is not None]
    return decided[0]._replace(**{name: torch.cat([step[name] for step in parts], 1) for name in there})


def places(chances: Tensor, real: Tensor | None, played: int, steps: int) -> Tensor:
    """Of the decisions (K, W) of so many steps, joined, places of as many as one step has, (K, W / steps).

    They are drawn by numbers from [0, 1), (K, W). Of each kind there are as many as in a step: real ones,
    (K, W) bool with `played` in every row, and those that are imagined.
    """
    if real is None:
        return chances.argsort(1)[:, : chances.shape[1] // steps]
    counts = (real, played), (~real, chances.shape[1] - played)
    drawn = [chances.masked_fill(~kind, 2.0).argsort(1)[:, : count // steps] for kind, count in counts]
    return torch.cat(drawn, 1)


def some(windows: Windows, which: slice) -> Windows:
    """Some of the windows (K, W, ...) of every task."""
    return each(windows, lambda part: part[:, which])


def flat(windows: Windows) -> Windows:
    """Windows (K, W, ...) as (K * W, ...), task by task."""
    return each(windows, lambda part: part.flatten(0, 1))


def each(parts: Parts, change: Callable[[Tensor], Tensor]) -> Parts:
    """With all the tensors that are there changed alike."""
    changed = {name: change(part) for name, part in parts._asdict().items() if part is not None}
    return parts._replace(**changed)


def shifted(frames: Tensor, by: Tensor) -> Tensor:
    """Frames (K, W, ..., H, W, 3) moved down and right by so many pixels (K, W, 2), one move a window.

    What comes into a picture repeats its edge: the random crop of a padded picture of DrQ (Kostrikov et al.
    2020, section 3.1), alike in a window so that only what moved in it moves.
    """
    size, pictures = frames.shape[-2], frames.flatten(0, 1).flatten(1, -4)  # (B, T, H, W, 3)
    edges = torch.arange(size, device=frames.device) - by.flatten(0, 1)[..., None]  # (B, 2, H)
    row, column = edges.clamp(0, size - 1).unbind(1)
    window, time = (torch.arange(n, device=frames.device) for n in pictures.shape[:2])
    at = window[:, None, None, None], time[:, None, None], row[:, None, :, None], column[:, None, None]
    return pictures[at].view(frames.shape)


def expand_tasks(m: Tensor, count: int) -> Tensor:
    """One m per task (K, M) to one per window (K * count, M), task by task."""
    return m.repeat_interleave(count, 0)


def windows_per_update(config: Config) -> int:
    """Windows of each task in an update's batch; extra steps have their own where features are kept."""
    train = config.train
    extra = train.extra_steps if config.keeps_features else 0
    return train.windows // train.steps_per_batch * (train.steps_per_batch + extra)
