"""Adam as the learner uses it: steps down a loss that is finite, and a state that can be saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metaslac.ranks.sharding import WHOLE, Shard

Optimizers = Mapping[str, torch.optim.Optimizer]


class NonFinite(ArithmeticError):
    """A loss or a gradient is not finite."""

    def __init__(self, whose: str) -> None:
        super().__init__(f"{whose} loss or its gradient is not finite")


class Descent:
    """Steps of named optimisers down losses, each checked to be finite.

    With several ranks they are down the mean of their losses: one sum over the ranks a step.
    """

    def __init__(self, optimizers: Optimizers, device: torch.device, shard: Shard = WHOLE) -> None:
        self._optimizers = optimizers
        self._shard = shard
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    def step(self, whose: str, loss: Tensor, *names: str) -> None:
        """One step of each of these optimisers down the same loss; nobody else's weights get a gradient.

        On a CPU, raises NonFinite before any weight is moved if loss or gradients are not finite, on all
        ranks where they are not on one.
        """
        optimizers = [self._optimizers[name] for name in names]
        parameters = [p for optimizer in optimizers for p in optimizer.param_groups[0]["params"]]
        for parameter in parameters:
            parameter.grad = None
        loss.backward(inputs=parameters)  # and no one else's: the actor's loss goes through the critics
        learning = [p for p in parameters if p.grad is not None]
        mean_loss, *gradients = self._mean([loss.detach(), *(p.grad for p in learning if p.grad is not None)])
        finite = torch.stack([mean_loss, *torch._foreach_norm(gradients)]).isfinite().all()
        if finite.device.type == "cpu":
            if not finite:
                raise NonFinite(f"the {whose}")
        else:  # to be asked for now and then: waiting for the device each time costs more
            self._finite &= finite
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()

    def _mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean over all tasks of what each rank has of its own: of all tensors as one."""
        if self._shard.ranks.size == 1:
            return tensors
        flat = self._shard.ranks.sum_(
            torch.cat([part.flatten() for part in tensors]).mul_(self._shard.weight)
        )
        parts = flat.split([part.numel() for part in tensors])
        return [part.view_as(whole) for part, whole in zip(parts, tensors, strict=True)]

    def check(self) -> None:
        """Raise NonFinite if any loss or gradient so far was; on a CPU, steps have raised it themselves."""
        if not self._finite:
            raise NonFinite("a")


def adam(parameters: list[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam with one fused kernel for all parameters; on CUDA one that a graph can hold, its lr a tensor."""
    device = parameters[0].device
    if device.type == "cuda":
        return torch.optim.Adam(parameters, torch.tensor(lr, device=device), fused=True, capturable=True)
    return torch.optim.Adam(parameters, lr, fused=True)


def falling(progress: float, decay: float) -> float:
    """1, and over the last share `decay` of `progress` in [0, 1] linearly to 0: a factor on step sizes."""
    return min(1.0, (1 - progress) / decay) if decay else 1.0


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
