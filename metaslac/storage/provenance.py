"""Where a result comes from: the commit of the code and the machine it ran on.

Versions of libraries are in version.py.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).resolve().parent
CHANGED = "-changed"
COMMIT_FILE = "commit.txt"  # beside this file where it was built from a repository: setup.py writes it


@functools.cache
def source_commit() -> str | None:
    """The commit of the repository that this package is run from, or was built in where it is installed.

    It ends in `-changed` if files of the repository differed from it. None where neither is known.
    """
    name = _git("ls-files", "--error-unmatch", "version.py")
    commit = _git("rev-parse", "HEAD") if name else None
    if not commit:
        return _built_from()
    status = _git("status", "--porcelain", "--untracked-files=no")
    return commit + CHANGED * (status != "")  # also where git cannot say


def hardware(device: torch.device) -> dict[str, Any]:
    """The machine, and the device that computed."""
    import torch

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {**machine(), "device": where}


def machine() -> dict[str, Any]:
    """Processor, and number of its cores that this process may run on."""
    return {"processor": _processor(), "cores": _cores()}


def _built_from() -> str | None:
    try:
        return (HERE / COMMIT_FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _git(*words: str) -> str | None:
    """What git says to these words, None if it fails or is not there."""
    try:
        done = subprocess.run(
            ("git", "-C", str(HERE), *words), capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
