"""Memory that a device has left, asked before any work starts.

What a run needs of it is in metaslac/learning/memory.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metaslac.ranks.environment import local_ranks

if TYPE_CHECKING:
    import torch

NO_LIMIT = 2**60  # bytes: version 1 of control groups writes a number of this size where there is none

# Of a control group, by version: files of its limit and of what is used, and how names in memory.stat begin.
FILES = {
    2: ("memory.max", "memory.current", ""),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def available_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Memory that can still be had on a device, in bytes; None where that cannot be found out.

    On a CPU, the least of what Linux takes for available (MemAvailable of proc(5)) and what the process's
    control groups leave of their limits (cgroups(7), versions 1 and 2); of several ranks on a machine, each
    has its share. `root` is where both are mounted.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    known = [*_machine(root / "proc/meminfo"), *_control_groups(root)]
    return max(0, min(known)) // local_ranks()[1] if known else None


def _machine(meminfo: Path) -> Iterator[int]:
    kibibytes = _table(meminfo).get("MemAvailable:")
    if kibibytes is not None:
        yield 1024 * kibibytes


def _control_groups(root: Path) -> Iterator[int]:
    """What is left in each group that the process is in. Files in memory count as free: they make way."""
    from metaslac.envs.machine import control_groups, read_text

    for version, directory in control_groups("memory", root):
        limit, used, prefix = FILES[version]
        texts = [read_text(directory / name).strip() for name in (limit, used)]
        if all(text.isdecimal() for text in texts):
            most, now = map(int, texts)
            if most < NO_LIMIT:
                table = _table(directory / "memory.stat")
                in_files = (table.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
                yield most - now + sum(in_files)


def _table(path: Path) -> dict[str, int]:
    """A file of names and whole numbers, a pair a line; empty if there is none."""
    from metaslac.envs.machine import read_text

    pairs = (line.split()[:2] for line in read_text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
