"""What an update sees: a meta-batch of distinct training tasks, drawn from what was collected."""

from __future__ import annotations

import torch
from torch import Tensor

from metaslac.config.sections import Config
from metaslac.learning.batch import Batch, windows_per_update
from metaslac.replay.task_replay import TaskReplay


class Batches:
    """Draws batches, each task's windows from its whole replay and its context from its pool alone.

    Args:
        config: says how many of each.
        replay: of all training tasks.
        params: (N, P) the true parameters of these tasks.
        generator: all chance is drawn from it.
    """

    def __init__(
        self, config: Config, replay: TaskReplay, params: Tensor, generator: torch.Generator
    ) -> None:
        self.config = config
        self.replay = replay
        self.params = params
        self.generator = generator

    def sample(self, windows: int | None = None) -> Batch:
        """`train.tasks_per_update` distinct tasks, so many windows of each; None is what an update takes."""
        config, generator = self.config, self.generator
        if windows is None:
            windows = windows_per_update(config)
        order = torch.rand(len(self.params), device=self.params.device, generator=generator).argsort()
        tasks = order[: config.train.tasks_per_update]
        return Batch(
            self.replay.sample_windows(tasks, windows, config.model.window, generator),
            self.replay.sample_context(
                tasks, config.task.context_segments, config.task.context_length, generator
            ),
            self.params[tasks],
        )
