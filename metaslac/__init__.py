"""Meta-reinforcement learning from pixels: PEARL's task inference on SLAC's latent model.

What a program does with it is here; torch and the simulator are imported when something is done.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from metaslac.errors import MetaslacError
from metaslac.openmp import let_waiting_threads_sleep
from metaslac.storage.version import __version__

if TYPE_CHECKING:
    import torch

    from metaslac.acting.single_task import SingleTaskAgent
    from metaslac.launchers.api.adaptation import adapt
    from metaslac.launchers.api.data_sets import record
    from metaslac.launchers.api.evaluation import evaluate
    from metaslac.launchers.api.exporting import export
    from metaslac.launchers.api.offline import offline_train
    from metaslac.launchers.api.training import meta_train

__all__ = [
    "MetaslacError",
    "__version__",
    "adapt",
    "evaluate",
    "export",
    "load",
    "meta_train",
    "offline_train",
    "record",
]

_LATER = {
    "adapt": "metaslac.launchers.api.adaptation",
    "evaluate": "metaslac.launchers.api.evaluation",
    "export": "metaslac.launchers.api.exporting",
    "meta_train": "metaslac.launchers.api.training",
    "offline_train": "metaslac.launchers.api.offline",
    "record": "metaslac.launchers.api.data_sets",
}


def load(
    path: str | os.PathLike[str],
    device: str | torch.device = "auto",
    seed: int = 0,
    redraw_every: int | None = None,
    mean_below: float | None = None,
) -> SingleTaskAgent:
    """The agent of a checkpoint or run directory, to act in a loop of your own; see SingleTaskAgent.

    Args:
        path: a checkpoint, or a run directory for its last one; or an exported agent, by directory or name,
            `zoo:NAME` of those shipped and `hf:OWNER/NAME[@REVISION]` of those on Hugging Face's Hub.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or a torch.device.
        seed: of the noise in episodes that are given no generator.
        redraw_every: decisions after which m is drawn anew from the belief, 0 once an episode; None is
            `evaluation.redraw_every` of the run.
        mean_below: standard deviation of the belief under which its mean is acted on; None likewise.

    Raises:
        MetaslacError: the checkpoint is not exactly as it was saved, the device is not there, or a number is
            out of its range.
    """
    from metaslac.acting.single_task import load_single_task

    return load_single_task(path, device, seed, redraw_every, mean_below)


let_waiting_threads_sleep()


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
