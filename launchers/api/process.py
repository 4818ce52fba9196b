"""The process that a command or a call runs in: memory allocator, CPU threads and the torch device.

None of it changes what is computed, but for the device.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metaslac.config.runtime import DEVICES
from metaslac.errors import MetaslacError
from metaslac.openmp import WAITING
from metaslac.ranks.environment import local_ranks, started_by_torchrun
from metaslac.ranks.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch

    from metaslac.envs.machine import CpuThreads

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4


def keep_large_blocks() -> None:
    """Let glibc keep freed memory instead of handing it back to the kernel.

    By default malloc maps every large tensor anew and unmaps it when freed, so each update pays the
    page faults of all its activations again. Keeping the memory made updates on a CPU 1.3 to 1.8 times
    as fast. Must run before the first large tensor; does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 256 * 2**20)


def choose_device(name: str) -> torch.device:
    """The torch device for one of DEVICES; on CUDA with several ranks, that of this rank.

    Raises MetaslacError for another name, or when cuda is asked for and not there, or not for every rank.
    """
    import torch

    check_device(name)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise MetaslacError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if not available or name == "cpu":
        return torch.device("cpu")
    number, ranks = local_ranks()
    if ranks == 1:
        return torch.device("cuda")
    if torch.cuda.device_count() < ranks:
        raise MetaslacError(
            f"{ranks} ranks on this machine and {torch.cuda.device_count()} CUDA devices: one rank a device; "
            "lower --nproc-per-node, or take --device cpu"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def check_device(name: str) -> None:
    """Raise MetaslacError for what is none of DEVICES, whether or not they are there."""
    if name not in DEVICES:
        raise MetaslacError(f"device must be one of {', '.join(DEVICES)}, not {name!r}")


def allow_tf32(device: torch.device, precision: str) -> None:
    """Let float32 matrix products on CUDA be TF32's, 10 bits of mantissa, unless float32 was asked for."""
    import torch

    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "auto"


@contextmanager
def tf32_allowed(device: torch.device, precision: str) -> Iterator[None]:
    """Within, matrix products on CUDA are as allow_tf32 has them; then as they were before."""
    import torch

    if device.type != "cuda":
        yield
        return
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    allow_tf32(device, precision)
    try:
        yield
    finally:
        for flag, was in zip(flags, before, strict=True):
            flag.allow_tf32 = was


def draw_on(device: torch.device) -> None:
    """Have pictures drawn on the GPU that computes, where one does and EGL can; before any is drawn."""
    if device.type == "cuda":
        from metaslac.envs.pixels.back_end import draw_on_cuda_device

        draw_on_cuda_device(device.index or 0)


def chosen_threads(asked: int) -> CpuThreads:
    """CPU threads to compute with: as many as were asked for, or for 0 as many as this process may use.

    Of several ranks on a machine each takes its share. torchrun then sets OMP_NUM_THREADS to 1, where the
    user has not set it: that counts as not said.

    Raises MetaslacError for what is no such number.
    """
    from metaslac.envs.machine import CpuThreads, cpu_threads

    check_threads(asked)
    if asked:
        return CpuThreads(asked, "as asked for")
    ranks = local_ranks()[1]
    if ranks == 1:
        return cpu_threads()
    said = {name: value for name, value in os.environ.items() if (name, value) != ("OMP_NUM_THREADS", "1")}
    whole = cpu_threads(environment=said)
    return CpuThreads(max(1, whole.number // ranks), f"a share of {ranks} ranks in {whole.why}")


@contextmanager
def ranks_of_torchrun() -> Iterator[Ranks]:
    """Within, all processes of this run that torchrun started; the stand-in where it has not.

    Raises MetaslacError if they do not find each other.
    """
    if started_by_torchrun() == 1:
        yield ALONE
        return
    from metaslac.ranks.group import joined

    with joined() as ranks:
        yield ranks


def refuse_ranks(command: str) -> None:
    """Raise MetaslacError where torchrun has started several processes of a command that is one."""
    if (ranks := started_by_torchrun()) > 1:
        raise MetaslacError(f"{command} runs in one process, and torchrun has started {ranks}; leave it out")


def check_threads(asked: object) -> None:
    """Raise MetaslacError for what is no number of CPU threads; 0 is as many as this process may use."""
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 0:
        raise MetaslacError(f"threads must be a whole number from 0, not {asked!r}")


def threads_line(chosen: CpuThreads) -> str:
    """How many CPU threads there are, why, and what they do while they wait, in a line."""
    waiting = [f"{name}={os.environ[name]}" for name in WAITING if name in os.environ]
    return "; ".join([f"{chosen.number}: {chosen.why}", *waiting])


@contextmanager
def torch_threads(asked: int) -> Iterator[int]:
    """Within, torch has that many CPU threads, chosen as above; gives how many. Afterwards as before."""
    import torch

    number, before = chosen_threads(asked).number, torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(before)
