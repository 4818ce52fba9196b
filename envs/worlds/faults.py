"""How worlds that cannot go on are told of: which they are, what they played, and why."""

import warnings
from collections.abc import Mapping, Sequence

from metaslac.envs.family import Family, Task

_PARAMS_NAMED = 3  # in a message; randomised bodies have dozens


def named(family: Family, world: int, task: Task | None) -> str:
    """What a world is, for a message."""
    if task is None:
        return f"world {world}"
    params = list(zip(family.param_names, task.params, strict=True))
    values = [f"{name}={value:.4g}" for name, value in params[:_PARAMS_NAMED]]
    if len(params) > _PARAMS_NAMED:
        values.append(f"and {len(params) - _PARAMS_NAMED} more")
    return f"world {world} ({family.name} task {task.index}{': ' * bool(values)}{', '.join(values)})"


class Faults:
    """Says which worlds of a family failed; where nothing is raised, each reason once, as a warning."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._warned: set[str] = set()

    def message(self, failed: Mapping[int, str], tasks: Sequence[Task | None]) -> str:
        """Of a step in which worlds failed, world -> reason; `tasks` are those of all worlds."""
        each = [f"{named(self._family, world, tasks[world])}: {failed[world]}" for world in sorted(failed)]
        return f"the simulation diverged in {'; '.join(each)}"

    def warn(self, failed: Mapping[int, str], tasks: Sequence[Task | None]) -> None:
        """Warn of those reasons that were not given before."""
        new: dict[int, str] = {}
        for world, reason in failed.items():
            if reason not in self._warned:
                new[world] = reason
                self._warned.add(reason)
        if new:
            message = self.message(new, tasks)
            # Explicit, for no line of the program is to blame, and the one that called may be a thread's.
            warnings.warn_explicit(f"{message}; such episodes end there", RuntimeWarning, "metaslac", 0)
