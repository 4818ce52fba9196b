"""Whether the memory will do for the runs of a sweep, as far as is known before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.launchers.api import memory
from metaslac.launchers.sweep.slurm.resources import Resources

if TYPE_CHECKING:
    from metaslac.envs.family import Family


def check_memory_of(jobs: int, configs: Sequence[Config], family: Family) -> None:
    """Raise MetaslacError if so many runs certainly do not fit into the CPU's memory together.

    A replay takes its memory only as it fills, so that runs that begin together do not see each other.
    """
    import torch

    from metaslac.learning.memory import check_memory, memory_need, size

    device = torch.device("cpu")
    available = memory.available_bytes(device)
    config = max(configs, key=lambda config: memory_need(config, family, device).certain)
    need = memory_need(config, family, device)
    check_memory(need, available, config, device)
    if available is not None and jobs * need.certain > available:
        raise MetaslacError(
            f"{jobs} runs side by side do not fit: each needs {size(need.certain)} and {size(available)} "
            f"are available; lower --jobs to {available // need.certain}"
        )


def check_asked_memory(resources: Resources, configs: Sequence[Config], family: Family) -> None:
    """Raise MetaslacError if a run on CPUs certainly does not fit into the memory that was asked for it."""
    import torch

    from metaslac.learning.memory import memory_need, size

    asked = resources.memory_bytes()
    need = max(memory_need(config, family, torch.device("cpu")).certain for config in configs)
    if asked is not None and not resources.gpus and need > asked:
        raise MetaslacError(f"--memory {resources.memory}: each run needs {size(need)}")
