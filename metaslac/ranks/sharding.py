"""What is whose: tasks are dealt to the ranks in turn, and so are the tasks of each update and of each visit.

All of it is a function of the number of ranks: nothing of it is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metaslac.ranks.ranks import ALONE, Ranks

Item = TypeVar("Item")


class Share(NamedTuple):
    """A rank's tasks of an update's meta-batch: `size` of `total`, from number `first` on."""

    first: int
    size: int
    total: int

    def cut(self, draw: Callable[..., Tensor], *shape: int, axis: int = 0) -> Tensor:
        """What `draw` gives for this rank's share of an axis that goes over tasks, task by task.

        Drawn for all tasks and cut: so all ranks draw the same, and their generators stay alike.
        """
        if self.size == self.total:
            return draw(*shape)
        each = shape[axis] // self.size
        whole = *shape[:axis], each * self.total, *shape[axis + 1 :]
        return draw(*whole).narrow(axis, each * self.first, each * self.size)


ALL = Share(0, 1, 1)


class Shard(NamedTuple):
    """A rank's training tasks: every `ranks.size`-th of so many."""

    ranks: Ranks = ALONE
    tasks: int = 1

    @property
    def indices(self) -> range:
        """Of this rank's tasks, among all."""
        return self.of(self.ranks.rank)

    @property
    def weight(self) -> float:
        """Of this rank's mean in the mean over all tasks: each counts alike, however they are dealt."""
        return len(self.indices) / self.tasks

    def number(self, task: int) -> int:
        """Of a task among this rank's own."""
        return self.indices.index(task)

    def of(self, rank: int) -> range:
        """The tasks of any rank."""
        return range(rank, self.tasks, self.ranks.size)

    def share(self, total: int) -> Share:
        """Of a meta-batch of so many tasks."""
        counts = [len(range(rank, total, self.ranks.size)) for rank in range(self.ranks.size)]
        return Share(sum(counts[: self.ranks.rank]), counts[self.ranks.rank], total)

    def visited(self, total: int, number: int) -> list[int]:
        """How many tasks each rank visits in visit `number`, of so many in all.

        The slots of one visit after the other are dealt in turn: none is at an advantage for long.
        """
        slots = range(number * total, (number + 1) * total)
        counts = [0] * self.ranks.size
        for slot in slots:
            counts[slot % self.ranks.size] += 1
        return [min(count, len(self.of(rank))) for rank, count in enumerate(counts)]

    def most_visited(self, total: int) -> int:
        """The most tasks that this rank visits at a time."""
        return min(-(-total // self.ranks.size), len(self.indices))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over all tasks of what each rank has of its own."""
        if self.ranks.size == 1:
            return values
        told = self.ranks.tell([self.weight, list(values.values())])
        sums = [sum(weight * each[i] for weight, each in told) for i in range(len(values))]
        return dict(zip(values, sums, strict=True))


WHOLE = Shard()


class GatheredRows(torch.autograd.Function):
    """Rows of all ranks; a row's gradient is that of the mean over tasks of all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shard: Shard, share: Share) -> Tensor:
        each = len(rows) // share.size
        ctx.shard, ctx.place = shard, (each * share.first, len(rows))
        everything = rows.new_zeros(each * share.total, *rows.shape[1:])
        everything.narrow(0, *ctx.place).copy_(rows)
        return shard.ranks.sum_(everything)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.shard.weight
        summed = ctx.shard.ranks.sum_(gradient * weight)
        return summed.narrow(0, *ctx.place) / weight, None, None


def rows_of_all(shard: Shard, share: Share, rows: Tensor) -> tuple[Tensor, int]:
    """Rows (B, ...), task by task, with those of other ranks around them; and where they begin.

    Each rank's loss is later weighted by `Shard.weight`, and its rows have a gradient from all of them.
    """
    if share.size == share.total:
        return rows, 0
    gathered: Tensor = GatheredRows.apply(rows, shard, share)  # type: ignore[no-untyped-call]
    return gathered, len(rows) // share.size * share.first


def dealt(items: Sequence[Item], ranks: Ranks) -> Sequence[Item]:
    """Those of this rank."""
    return items[ranks.rank :: ranks.size]
