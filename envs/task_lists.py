"""Whether a family has the same task lists in another process, as whoever goes on with a run will need them.

`python -m metaslac.envs.task_lists OPTIONS` prints what it has there. What a family does at every call of its
hooks is checked in family.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from metaslac.envs.errors import FamilyError

if TYPE_CHECKING:
    from metaslac.envs.family import Family

MOST_SECONDS = 120.0


def check_frozen(family: Family, name: str) -> None:
    """Make the family called `name` in a new process as well; it takes the seconds that its imports take.

    Says nothing of a family that cannot be made there, such as one in a notebook.

    Raises:
        FamilyError: its task lists are others there.
    """
    options = {
        "name": name,
        "image_size": family.image_size,
        "action_repeat": family.action_repeat,
        "observation": family.observation,
        "frames": family.frames,
    }
    path = os.pathsep.join(entry for entry in sys.path if entry)
    found = _lists_elsewhere(json.dumps(options), path)
    if found is not None and found != _lists(family):
        from metaslac.envs.family import HOW_TO_FREEZE

        raise FamilyError(f"{family.name}: its tasks are others in every process; {HOW_TO_FREEZE}")


def _lists(family: Family) -> list[str]:
    return [family.task_hash, family.validation_hash]


@cache  # as imports are
def _lists_elsewhere(options: str, path: str) -> Any:
    """What a new process prints last, from JSON; None if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "metaslac.envs.task_lists", options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": path},
            timeout=MOST_SECONDS,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, LookupError, ValueError):
        return None


def main() -> None:
    """Print the hashes of the task lists of a family, named with its options as JSON."""
    from metaslac.envs.registry import make_family

    print("\n" + json.dumps(_lists(make_family(**json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
