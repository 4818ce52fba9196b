"""What an update has to do at least, from the shapes of its operations, and what a device can do at best."""

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Round = dict[str, float]


class Work(TorchDispatchMode):
    """Counts, of all that is done within, floating-point operations and bytes.

    The former are those of matrix products and convolutions, by type; for the latter every operation that
    makes something new reads its inputs and writes its outputs once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop: dict[torch.dtype, float] = defaultdict(float)
        self.bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if func._overloadpacket in flop_registry:
            result = next(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            count = flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
            self.flop[result.dtype] += count
        return out


def timed(work: Callable[[], object], seconds: float, device: torch.device) -> Round:
    """Do the work again and again for about so many seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()  # with what came before
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    while not count or time.perf_counter() - start < seconds:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        count += 1
    wall = time.perf_counter() - start
    return {"count": count, "wall_seconds": wall, "cpu_seconds": time.process_time() - cpu}


def limits(device: torch.device) -> dict[str, float]:
    """FLOP/s of a large matrix product in either type, bytes/s of a large copy; the best of three tries."""
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    works: dict[str, tuple[Callable[[], object], float]] = {
        "bytes_per_second": (lambda: target.copy_(source), 2.0 * 4 * 2**26)
    }
    for dtype in (torch.float32, torch.bfloat16, torch.float64):  # the last for beliefs, which are small
        a = square(dtype, device)
        works[f"{dtype}_flop_per_second"] = (partial(torch.mm, a, a), 2.0 * len(a) ** 3)
    found = {}
    for name, (work, amount) in works.items():
        tries = [timed(work, 0.3, device) for _ in range(3)]
        found[name] = amount * max(one["count"] / one["wall_seconds"] for one in tries)
    return found


def square(dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix so large that a launch is nothing beside its product with itself.

    On a CPU no larger than that product takes half a second: one without instructions for bfloat16 is some
    300 times slower at it.
    """
    for size in (8192,) if device.type == "cuda" else (256, 512, 1024, 2048):
        a = torch.randn(size, size, device=device).to(dtype)
        if 8 * timed(partial(torch.mm, a, a), 0.0, device)["wall_seconds"] > 0.5:
            break  # the next would take eight times as long
    return a


def floor_seconds(work: Work, ceiling: dict[str, float]) -> float:
    """How long the matrix products and convolutions take at the device's best."""
    return sum(count / ceiling[f"{dtype}_flop_per_second"] for dtype, count in work.flop.items())
