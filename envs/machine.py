"""What Linux leaves this process of the machine: CPU threads, and the control groups it is in.

Of those, only the CPU's quota is read here.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Most threads of OpenMP, as the user has set them; a list in the first is by depth of nesting.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")


class CpuThreads(NamedTuple):
    """How many threads may be busy at once, and what limits them."""

    number: int
    why: str


def cpu_threads(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> CpuThreads:
    """The least of affinity, the quotas of control groups, and what the user has set for OpenMP; at least 1.

    A quota (cpu.max, or cpu.cfs_quota_us of version 1) is rounded to whole cores. `root` is where /proc and
    /sys are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [CpuThreads(cores, "the cores it may run on")]
    for quota in _quotas(root):
        found.append(CpuThreads(max(1, int(quota + 0.5)), f"its CPU quota of {quota:g} cores"))
    for name in THREAD_VARIABLES:
        asked = environment.get(name, "").partition(",")[0].strip()
        if asked.isdecimal() and int(asked) > 0:
            found.append(CpuThreads(int(asked), f"{name}={asked}"))
    return min(found, key=lambda limit: limit.number)


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """Each control group that limits this process by `controller`, and those around it (cgroups(7)).

    Yields the version, 1 or 2, and the directory; in a container only the last of these may be there.
    """
    mount = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            for top in (mount, mount / "unified"):
                yield from ((2, directory) for directory in _upwards(top, group))
        elif controller in controllers.split(","):
            yield from ((1, directory) for directory in _upwards(mount / controller, group))


def read_text(path: Path) -> str:
    """What is in a file of the system; nothing where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each group pays for, where it has a quota."""
    for version, directory in control_groups("cpu", root):
        if version == 2:
            quota, _, period = read_text(directory / "cpu.max").strip().partition(" ")
        else:
            quota, period = (
                read_text(directory / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
            )
        if quota.isdecimal() and period.isdecimal() and int(period):  # not "max" or "-1"
            yield int(quota) / int(period)


def _upwards(top: Path, group: str) -> Iterator[Path]:
    """The directory of a group, and those above it."""
    directory = top / group.lstrip("/")
    while directory != top and top in directory.parents:
        yield directory
        directory = directory.parent
    yield top
