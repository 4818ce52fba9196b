"""Counts the memory of an update's tensors while it runs, on batches of nothing of any size."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metaslac.config.sections import Config
from metaslac.learning.learner import Batch
from metaslac.networks.meta_slac import feature_size
from metaslac.replay.experience import Context, Windows

ACTIONS, PARAMS, STATES = 3, 2, 20


class LiveTensors(TorchDispatchMode):
    """Bytes of all tensors that are alive: every storage that an operation returns, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.count(result)
        return result

    def count(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._freed, storage._cdata)

    def _freed(self, key: int) -> None:
        self.now -= self._alive.pop(key)


def batch_of_nothing(config: Config, device: torch.device, windows: int, kept: bool = False) -> Batch:
    """A batch as the replay draws it, of frames, or of features where those are kept."""
    task, size = config.task, config.family.image_size
    tasks, steps = config.train.tasks_per_update, config.model.window
    segments, length = task.context_segments, task.context_length

    def flags(*shape: int) -> Tensor:
        return torch.ones(shape, dtype=torch.bool, device=device)

    def frames(*shape: int) -> Tensor:
        stack = (config.family.frames,) if config.family.frames > 1 else ()
        return torch.zeros(*shape, *stack, size, size, 3, dtype=torch.uint8, device=device)

    def numbers(*shape: int) -> Tensor:
        return torch.zeros(shape, device=device)

    return Batch(
        Windows(
            None if kept else frames(tasks, windows, steps + 1),
            numbers(tasks, windows, steps, ACTIONS),
            numbers(tasks, windows, steps),
            flags(tasks, windows, steps + 1),
            flags(tasks, windows, steps + 1),
            flags(tasks, windows),
            numbers(tasks, windows, steps + 1, feature_size(config, STATES)) if kept else None,
        ),
        Context(
            None if kept else frames(tasks, segments, length + 1),
            numbers(tasks, segments, length, ACTIONS),
            numbers(tasks, segments, length),
            flags(tasks, segments, length),
            torch.full((tasks,), segments * length, device=device),
            numbers(tasks, segments, length + 1, feature_size(config, STATES)) if kept else None,
        ),
        numbers(tasks, PARAMS),
    )
