"""Adam as the learner uses it, and its state as tensors that can be saved and loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

Optimizers = Mapping[str, torch.optim.Optimizer]


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam with one fused kernel for all parameters; on CUDA one that a graph can hold, its lr a tensor."""
    parameters = list(parameters)
    device = parameters[0].device
    if device.type == "cuda":
        return torch.optim.Adam(parameters, torch.tensor(lr, device=device), fused=True, capturable=True)
    return torch.optim.Adam(parameters, lr, fused=True)


def set_steps(optimizers: Optimizers, steps: Mapping[str, float]) -> None:
    """Set the step size of each optimiser that is named."""
    for name, size in steps.items():
        for group in optimizers[name].param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(size)
            else:
                group["lr"] = size


def optimizer_state(optimizers: Optimizers) -> dict[str, Tensor]:
    """Moments and step counts, as name/number of the parameter/entry."""
    return {
        f"{name}/{number}/{key}": value
        for name, optimizer in optimizers.items()
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def load_optimizer_state(optimizers: Optimizers, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`.

    Raises KeyError, IndexError, ValueError or RuntimeError for the state of other optimisers or networks.
    """
    states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in optimizers}
    for key, tensor in tensors.items():
        name, parameter, entry = key.split("/")
        states[name].setdefault(int(parameter), {})[entry] = tensor
    for name, optimizer in optimizers.items():
        parameters = optimizer.param_groups[0]["params"]
        for number, entries in states[name].items():
            if {"exp_avg", "exp_avg_sq", "step"} != entries.keys():
                raise ValueError(f"the {name} optimiser's state is not Adam's")
            shapes = {entries[key].shape for key in ("exp_avg", "exp_avg_sq")}
            if shapes != {parameters[number].shape}:
                raise ValueError(f"the {name} optimiser's state is that of other networks")
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states[name]})
