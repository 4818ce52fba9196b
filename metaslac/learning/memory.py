"""What a run needs of its device's memory, and whether it fits into what there is, before any work starts.

What one update takes while it runs is estimated in activations.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch

from metaslac.acting.agent import Agent
from metaslac.config.fields import IMAGE_SIZES
from metaslac.config.limits import episodes_kept, room_setting, state_size
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.learning.activations import activation_bytes
from metaslac.learning.faults import UPDATE_SETTINGS, as_they_are
from metaslac.learning.precision import Precision
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.ranks.sharding import Shard, dealt
from metaslac.replay.task_replay import replay_bytes

# Of the estimate of activations, what is needed for certain: the estimate is within a fifth of the tensors
# of updates (tests/metaslac/learning/test_memory.py), but not measured on every device and version of torch.
CERTAIN = 0.7

WEIGHT_SETTINGS = (
    "model.base_depth",
    "model.feature_size",
    "model.hidden_size",
    "actor_critic.hidden_size",
    "task.hidden_size",
)


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


def memory_need(
    config: Config,
    family: SizedFamily,
    device: torch.device,
    recorded: int | None = None,
    ranks: Ranks = ALONE,
) -> MemoryNeed:
    """What a run will need on a device. The libraries themselves and the environments are not counted.

    Of a run on a data set, `recorded` is what that takes. Of several ranks, it is what this one needs.
    """
    per_update = Shard(ranks).share(config.train.tasks_per_update).size
    share = replace(config, train=replace(config.train, tasks_per_update=per_update))
    actions = family.action_size
    states = state_size(config, family)
    return MemoryNeed(
        recorded
        if recorded is not None
        else replay_bytes(
            len(dealt(family.train_tasks, ranks)),
            episodes_kept(config, family.episode_steps),
            family.episode_steps,
            config.family.image_size,
            actions,
            0 if config.on_states else min(config.family.frames, config.family.action_repeat),
            states,
            config.model.feature_size if config.train.freeze_encoder else 0,
        ),
        weight_bytes(config, actions, len(family.param_names), states),
        activation_bytes(share, actions, Precision.of(config.runtime.precision, device), states),
    )


def weight_bytes(config: Config, action_size: int, num_params: int, state_size: int = 0) -> int:
    """Networks, their gradients and the state of Adam, in bytes; nothing is allocated to find out."""
    with torch.device("meta"):
        networks = MetaSLAC(config, action_size, num_params, state_size)
    idle = {"infer": ["task_params"], "oracle": ["context_encoder"]}
    idle["blind"] = [*idle["infer"], *idle["oracle"]]
    resting = idle[config.task.inference] + ["critic"] * config.train.cloning
    resting += ["log_alpha"] * (not config.learns_temperature)
    trained = [
        parameter
        for name, parameter in networks.named_parameters()
        if parameter.requires_grad and name.partition(".")[0] not in resting
    ]
    needed = sum(parameter.nbytes for parameter in networks.parameters())
    # A gradient, two moments, and the number of steps made.
    needed += sum(3 * parameter.nbytes + 4 for parameter in trained)
    if config.train.collect_ahead:
        acting = Agent.from_networks(config, networks, action_size, num_params).networks
        needed += sum(parameter.nbytes for parameter in acting.parameters())
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
    if config.offline:
        return "the data set: record less of it, or on CUDA take --device cpu, which leaves pictures in files"
    train, room = config.train, room_setting(config)
    decisions = config.replay.decisions_per_task
    fewest = max(train.initial_episodes, train.prior_episodes + train.posterior_episodes)
    if decisions:  # how many full episodes those are is not known here
        fewest = max(train.initial_decisions, fewest)
    fitting = (available - need.certain + need.replay) * (decisions or config.replay.episodes_per_task)
    fitting //= need.replay
    if fitting >= fewest:
        to = f" to about {fitting}" if decisions else f" to {fitting} or less"
        return as_they_are(config, [room]) + to
    shrinks = not config.on_states and config.family.image_size > min(IMAGE_SIZES)
    return as_they_are(config, [room, *["family.image_size"] * shrinks, *UPDATE_SETTINGS])


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
