"""From a family to its worlds: the one place that knows which kind belongs to which."""

from metaslac.envs.errors import FamilyError
from metaslac.envs.families.of_gymnasium import GymnasiumFamily
from metaslac.envs.families.suite import SuiteFamily
from metaslac.envs.family import Family, TaskFamily
from metaslac.envs.worlds.kinds.batch import BatchWorlds
from metaslac.envs.worlds.kinds.of_gymnasium import GymnasiumWorlds
from metaslac.envs.worlds.kinds.suite import SuiteWorlds
from metaslac.envs.worlds.protocol import Worlds


def make_worlds(family: Family, num_worlds: int, threads: int) -> Worlds:
    """`num_worlds` worlds of a family; only those of a TaskFamily are stepped on `threads` threads."""
    if isinstance(family, TaskFamily):
        return BatchWorlds(family, num_worlds, threads)
    if isinstance(family, SuiteFamily):
        return SuiteWorlds(family.name, num_worlds)
    if isinstance(family, GymnasiumFamily):
        return GymnasiumWorlds(family, num_worlds)
    raise FamilyError(
        f"{family.name}: there are no worlds for a {type(family).__name__}; "
        "derive TaskFamily or GymnasiumFamily"
    )
