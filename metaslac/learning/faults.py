"""What goes wrong while training: the numbers of an update that failed, and what to lower when memory ends.

Who stops, saves or goes on is decided in training/.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metaslac.config.sections import Config
from metaslac.storage.files import write_atomically

# What the memory of an update depends on most.
UPDATE_SETTINGS = ("train.windows", "train.tasks_per_update", "train.model_windows", "model.base_depth")


def write_dump(path: Path, reason: str, batch: Any, networks: nn.Module, config: Config) -> None:
    """Write what may tell why an update was not finite: its batch, parameters and gradients in numbers.

    Args:
        path: a JSON file.
        reason: in words.
        batch: a tuple, of tuples, of tensors.
        networks: as they were when the update failed.
        config: of the run.
    """
    parameters = dict(networks.named_parameters())
    gradients = {name: value.grad for name, value in parameters.items() if value.grad is not None}
    report = {
        "reason": reason,
        "batch": {name: statistics(tensor) for name, tensor in named_tensors(batch)},
        "parameters": {name: statistics(tensor) for name, tensor in parameters.items()},
        "gradients": {name: statistics(tensor) for name, tensor in gradients.items()},
        "lr": {name: getattr(config.train, name) for name in vars(config.train) if name.startswith("lr_")},
    }
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())


def statistics(tensor: Tensor) -> dict[str, Any]:
    """Shape, how many entries are not finite, and least, mean and greatest of those that are."""
    values = tensor.detach().cpu().flatten()
    finite = values[values.isfinite()] if values.is_floating_point() else values
    told: dict[str, Any] = {"shape": list(tensor.shape), "not_finite": len(values) - len(finite)}
    if len(finite):
        told |= {
            "min": finite.min().item(),
            "mean": finite.mean(dtype=torch.float64).item(),
            "max": finite.max().item(),
        }
    return told


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in named tuples within named tuples, by dotted names."""
    if isinstance(value, Tensor):
        yield name, value
    elif hasattr(value, "_asdict"):
        fields: Mapping[str, Any] = value._asdict()
        for field, part in fields.items():
            yield from named_tensors(part, f"{name}.{field}".lstrip("."))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no more memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch has an error of its own for devices, but for the CPU, cuBLAS and cuDNN only these words.
    words = "DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory"
    return isinstance(error, RuntimeError) and any(
        word in str(error) for word in (*words, "STATUS_ALLOC_FAILED")
    )


def what_to_lower(config: Config) -> str:
    """The settings that an update's memory depends on most, with what they are now."""
    return f"in a new run, lower {as_they_are(config, UPDATE_SETTINGS)}"


def as_they_are(config: Config, names: Iterable[str]) -> str:
    """Settings by their names, section.field, with what they are now."""
    return ", ".join(f"{name} (now {operator.attrgetter(name)(config)})" for name in names)
