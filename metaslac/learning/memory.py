"""What a run needs of its device's memory and what there is, asked before any work starts.

What one update takes while it runs is estimated in activations.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from metaslac.config.sections import IMAGE_SIZES, Config
from metaslac.errors import MetaslacError
from metaslac.learning.activations import activation_bytes
from metaslac.learning.faults import UPDATE_SETTINGS, as_they_are
from metaslac.learning.precision import Precision
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.replay.task_replay import replay_bytes

# Of the estimate of activations, what is needed for certain: the estimate is within a fifth of the tensors
# of updates (tests/metaslac/test_memory.py), but not measured on every device and version of torch.
CERTAIN = 0.7

WEIGHT_SETTINGS = (
    "model.base_depth",
    "model.feature_size",
    "model.hidden_size",
    "actor_critic.hidden_size",
    "task.hidden_size",
)

NO_LIMIT = 2**60  # bytes: version 1 of control groups writes a number of this size where there is none


class SizedFamily(Protocol):
    """What decides the size of a family's replay and networks."""

    @property
    def episode_steps(self) -> int: ...
    @property
    def action_size(self) -> int: ...
    @property
    def state_size(self) -> int: ...
    @property
    def param_names(self) -> Sequence[str]: ...
    @property
    def train_tasks(self) -> Sequence[object]: ...


class MemoryNeed(NamedTuple):
    """Memory of a run on its device, in bytes."""

    replay: int  # when it is full: its pages are touched one after the other
    weights: int  # with targets, gradients and the state of the optimisers
    activations: int  # of the largest update, an estimate

    @property
    def certain(self) -> int:
        """What the run cannot do without."""
        return self.replay + self.weights + int(CERTAIN * self.activations)


def memory_need(config: Config, family: SizedFamily, device: torch.device) -> MemoryNeed:
    """What a run will need on a device. The libraries themselves and the environments are not counted."""
    actions = family.action_size
    states = family.state_size if config.privileged else 0
    return MemoryNeed(
        replay_bytes(
            len(family.train_tasks),
            config.replay.episodes_per_task,
            family.episode_steps,
            config.family.image_size,
            actions,
            min(config.family.frames, config.family.action_repeat),
            states,
            config.model.feature_size if config.train.freeze_encoder else 0,
        ),
        weight_bytes(config, actions, len(family.param_names), states),
        activation_bytes(config, actions, Precision.of(config.runtime.precision, device)),
    )


def weight_bytes(config: Config, action_size: int, num_params: int, state_size: int = 0) -> int:
    """Networks, their gradients and the state of Adam, in bytes; nothing is allocated to find out."""
    with torch.device("meta"):
        networks = MetaSLAC(config, action_size, num_params, state_size)
    idle = {"infer": ["task_params"], "oracle": ["context_encoder"]}
    idle["blind"] = [*idle["infer"], *idle["oracle"]]
    trained = [
        parameter
        for name, parameter in networks.named_parameters()
        if parameter.requires_grad and name.partition(".")[0] not in idle[config.task.inference]
    ]
    needed = sum(parameter.nbytes for parameter in networks.parameters())
    # A gradient, two moments, and the number of steps made.
    needed += sum(3 * parameter.nbytes + 4 for parameter in trained)
    if config.train.collect_ahead:
        acting = networks.encoder, networks.context_encoder, networks.actor, networks.task_params
        needed += sum(parameter.nbytes for network in acting for parameter in network.parameters())
    return needed


def check_memory(
    need: MemoryNeed,
    available: int | None,
    config: Config,
    device: torch.device,
    resuming: bool = False,
) -> None:
    """Raise MetaslacError, with what is needed and what to lower, if a run certainly does not fit.

    Args:
        need: of the run.
        available: bytes, None if not known: then nothing is refused.
        config: of the run.
        device: for the words of the error only.
        resuming: whether the run has begun, so that its size cannot be changed any more.
    """
    if available is None or need.certain <= available:
        return
    settings = settings_to_lower(need, available, config)
    remedy = (
        f"go on where there is more, or in a new run lower {settings}" if resuming else f"lower {settings}"
    )
    raise MetaslacError(
        f"the run does not fit: {parts(need)}, and {device.type} has {size(available)} available; {remedy}"
    )


def settings_to_lower(need: MemoryNeed, available: int, config: Config) -> str:
    """The settings that the largest part of a run's memory depends on, with what they are now."""
    if need.weights == max(need):
        return as_they_are(config, WEIGHT_SETTINGS)
    if need.activations == max(need):
        return as_they_are(config, UPDATE_SETTINGS)
    train, episodes = config.train, config.replay.episodes_per_task
    fewest = max(train.initial_episodes, train.prior_episodes + train.posterior_episodes)
    fitting = (available - need.certain + need.replay) * episodes // need.replay
    if fitting >= fewest:
        return as_they_are(config, ["replay.episodes_per_task"]) + f" to {fitting} or less"
    smaller = ["family.image_size"] if config.family.image_size > min(IMAGE_SIZES) else []
    return as_they_are(config, ["replay.episodes_per_task", *smaller, *UPDATE_SETTINGS])


def memory_line(need: MemoryNeed, available: int | None, device: torch.device) -> str:
    """What a run needs and what there is, in a line."""
    line = f"memory on {device.type}: {parts(need)}"
    if available is None:
        return line
    doubt = "; this may not be enough" if sum(need) > available else ""
    return f"{line}, of {size(available)} available{doubt}"


def parts(need: MemoryNeed) -> str:
    """A need in words."""
    return ", ".join(f"{name} {size(value)}" for name, value in need._asdict().items())


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def available_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Memory that can still be had on a device, in bytes; None where that cannot be found out.

    On a CPU, the least of what Linux takes for available (MemAvailable of proc(5)) and what the process's
    control groups leave of their limits (cgroups(7), versions 1 and 2). `root` is where both are mounted.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [*_machine(root / "proc/meminfo"), *_control_groups(root)]
    return max(0, min(known)) if known else None


def _machine(meminfo: Path) -> Iterator[int]:
    kibibytes = _table(meminfo).get("MemAvailable:")
    if kibibytes is not None:
        yield 1024 * kibibytes


def _control_groups(root: Path) -> Iterator[int]:
    """What is left in each group that the process is in, and in those around it."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            for top in (mount, mount / "unified"):
                for directory in _upwards(top, group):
                    yield from _left(directory, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            for directory in _upwards(mount / "memory", group):
                yield from _left(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _upwards(top: Path, group: str) -> Iterator[Path]:
    """The directory of a group, and those above it. In a container only the last may be there."""
    directory = top / group.lstrip("/")
    while directory != top and top in directory.parents:
        yield directory
        directory = directory.parent
    yield top


def _left(directory: Path, limit: str, used: str, prefix: str) -> Iterator[int]:
    """What a group's limit leaves. Files in memory count as free, since they make way."""
    texts = [_read(directory / name).strip() for name in (limit, used)]
    if all(text.isdecimal() for text in texts):
        most, now = map(int, texts)
        if most < NO_LIMIT:
            table = _table(directory / "memory.stat")
            yield most - now + sum(table.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))


def _table(path: Path) -> dict[str, int]:
    """A file of names and whole numbers, a pair a line; empty if there is none."""
    pairs = (line.split()[:2] for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
