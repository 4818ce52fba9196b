"""Meta-reinforcement learning from pixels: PEARL's task inference on SLAC's latent model.

Here is what a program that only acts needs; torch is imported when an agent is loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from metaslac.errors import MetaslacError

if TYPE_CHECKING:
    import torch

    from metaslac.single_task import SingleTaskAgent

__all__ = ["MetaslacError", "load"]


def load(path: str | os.PathLike[str], device: str | torch.device = "auto", seed: int = 0) -> SingleTaskAgent:
    """The agent of a checkpoint or run directory, to act in a loop of your own; see SingleTaskAgent.

    Args:
        path: a checkpoint, or a run directory for its last one.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or a torch.device.
        seed: of the noise in episodes that are given no generator.

    Raises:
        MetaslacError: the checkpoint is not exactly as it was saved, or the device is not there.
    """
    from metaslac.single_task import load_single_task

    return load_single_task(path, device, seed)
