"""Whether a run fits its family and its device, asked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from metaslac.config import Config
from metaslac.errors import MetaslacError
from metaslac.replay import replay_bytes

GIB = 2**30
HEADROOM = 0.9  # of what is free; the rest is for weights, activations and everybody else


class SizedFamily(Protocol):
    """What decides the size of a family's replay."""

    @property
    def episode_steps(self) -> int: ...
    @property
    def action_size(self) -> int: ...
    @property
    def train_tasks(self) -> Sequence[object]: ...


def check_tasks(config: Config, family: SizedFamily) -> None:
    """Raise MetaslacError if a visit or a meta-batch asks for more distinct tasks than there are."""
    tasks = len(family.train_tasks)
    for name in ("tasks_per_visit", "tasks_per_update"):
        if (asked := getattr(config.train, name)) > tasks:
            raise MetaslacError(
                f"train.{name} is {asked}, but {config.family.name} has {tasks} training tasks"
            )


def check_memory(config: Config, family: SizedFamily, device: torch.device) -> None:
    """Raise MetaslacError, with the size needed and the setting to lower, if the full replay cannot fit."""
    episodes = config.replay.episodes_per_task
    needed = replay_bytes(
        len(family.train_tasks), episodes, family.episode_steps, config.family.image_size, family.action_size
    )
    free = free_bytes(device)
    if needed > HEADROOM * free:
        most = int(HEADROOM * free / needed * episodes)
        raise MetaslacError(
            f"the replay needs {needed / GIB:.1f} GiB and {device.type} has {free / GIB:.1f} GiB "
            f"free: lower replay.episodes_per_task from {episodes} to {most} or less"
            + ("" if most else ", and family.image_size with it")
        )


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device, in bytes, this process's container limit included."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return free
