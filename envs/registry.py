"""From a name to a family, for this package and for gymnasium.

What a family is stands in family.py; the families stand in a file per body.
"""

import difflib

import gymnasium

from envs.cheetah import CheetahVel
from envs.errors import UnknownFamilyError
from envs.family import TaskFamily
from envs.point_robot import PointRobot

_BUILT_IN: tuple[type[TaskFamily], ...] = (CheetahVel, PointRobot)


def family_names() -> tuple[str, ...]:
    """The names that make_family knows, sorted."""
    return tuple(sorted(_families()))


def make_family(
    name: str, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels"
) -> TaskFamily:
    """The family called `name`.

    Raises:
        UnknownFamilyError: there is none; the message lists the names and the nearest one.
        FamilyError: an option is out of its range.
    """
    families = _families()
    if name not in families:
        near = difflib.get_close_matches(str(name), families, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(family_names())
        raise UnknownFamilyError(f"unknown family {name!r}; the families are {known}{hint}")
    return families[name](image_size, action_repeat, observation)


def gymnasium_id(name: str) -> str:
    """The id under which gymnasium.make knows a family: 'cheetah_vel' is 'metaslac/CheetahVel-v0'."""
    return f"metaslac/{''.join(word.capitalize() for word in name.split('_'))}-v0"


def register_with_gymnasium() -> None:
    """Make every family known to gymnasium.make; done when the package is imported."""
    for name in family_names():
        if gymnasium_id(name) not in gymnasium.registry:
            gymnasium.register(
                gymnasium_id(name), entry_point="envs.vector_env:TaskEnv", kwargs={"family": name}
            )


def _families() -> dict[str, type[TaskFamily]]:
    # The one place that knows where families come from: those of other packages join here.
    return {family.name: family for family in _BUILT_IN}
