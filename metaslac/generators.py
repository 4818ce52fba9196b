"""torch's random generators: seeds that no two streams share, and states that are saved and restored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

STATE_SHAPES = ((5056,), (16,))  # of torch's generators on a CPU and on CUDA


def torch_seed(seed: int, stream: int) -> int:
    """A seed for torch that no other seed and stream share."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint32)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's default generator seeded for building networks, and put back as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
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
