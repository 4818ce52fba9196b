"""torch's random generators: seeds for streams, states to save, numbers to draw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metaslac.ranks.sharding import ALL, Share

STATE_SHAPES = ((5056,), (16,))  # of torch's generators on a CPU and on CUDA


def torch_seed(seed: int, stream: int) -> int:
    """A seed for torch, 32 bits mixed of both: another seed or stream has the same by one chance in 2^32."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint32)[0])


class Chance:
    """Random numbers in the shapes that are asked for.

    One axis, the first if none is said, goes over the tasks of an update; with several ranks, a rank gets
    its share of the numbers that one alone would have.
    """

    def __init__(self, generator: torch.Generator, device: torch.device, share: Share = ALL) -> None:
        self.generator = generator
        self.device = device
        self._share = share

    def normal(self, *shape: int, axis: int = 0) -> Tensor:
        """Standard normal numbers."""
        draw = partial(torch.randn, device=self.device, generator=self.generator)
        return self._share.cut(draw, *shape, axis=axis)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from [0, 1)."""
        return self._share.cut(partial(torch.rand, device=self.device, generator=self.generator), *shape)

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high, both included."""
        return self._share.cut(partial(self._whole, low, high), *shape)

    def heads(self, count: int, steps: int) -> Tensor | None:
        """Which of an ensemble's heads has each step, (steps,); None, with nothing drawn, of one alone.

        They are the same for all tasks.
        """
        return self._whole(0, count - 1, steps) if count > 1 else None

    def _whole(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, device=self.device, generator=self.generator)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The CPU's default generator seeded for building networks there, and put back as it was.

    Those of other devices are not touched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Set a generator to a saved state; to one that follows from it where that is of another kind of device.

    Raises ValueError, RuntimeError or TypeError for what is no state.
    """
    if state.shape == generator.get_state().shape:
        generator.set_state(state)
    elif state.dtype != torch.uint8 or state.shape not in STATE_SHAPES:
        raise ValueError(f"{tuple(state.shape)} is not the shape of a generator's state")
    else:
        digest = hashlib.sha256(state.numpy().tobytes()).digest()
        generator.manual_seed(int.from_bytes(digest[:4], "big"))
