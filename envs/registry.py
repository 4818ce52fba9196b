"""From a name to a family, for this package and for gymnasium.

What a family is stands in family.py; the families stand in a file per body, other packages' in plugins.py.
"""

import difflib

import gymnasium

from envs.ant import AntDir, AntGoal
from envs.cheetah import CheetahDir, CheetahVel
from envs.errors import FamilyError, UnknownFamilyError
from envs.family import Family, TaskFamily
from envs.hopper import HopperRandParams
from envs.humanoid import HumanoidDir
from envs.plugins import NAME, Offer, from_module, offers
from envs.point_robot import PointRobot, SparsePointRobot
from envs.reacher import ReacherGoal
from envs.suite import PREFIX, suite_family
from envs.walker import WalkerRandParams

_BUILT_IN: tuple[type[TaskFamily], ...] = (
    AntDir,
    AntGoal,
    CheetahDir,
    CheetahVel,
    HopperRandParams,
    HumanoidDir,
    PointRobot,
    ReacherGoal,
    SparsePointRobot,
    WalkerRandParams,
)


def family_names() -> tuple[str, ...]:
    """The names of the families here and of those that installed packages offer, sorted; imports no package.

    Names of the form 'dmc:<domain>-<task>' and 'module:attribute' are not among them.
    """
    return tuple(sorted((*_built_in(), *_offered()[0])))


def make_family(
    name: str, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels"
) -> Family:
    """The family called `name`: one of family_names(), 'dmc:<domain>-<task>' or 'module:attribute'.

    Raises:
        UnknownFamilyError: there is none; the message lists the names and the nearest one.
        FamilyError: an option is out of its range, or another package's family cannot be used.
    """
    name = str(name)
    if name.startswith(PREFIX):
        return suite_family(name, image_size, action_repeat, observation)
    return _family(name)(image_size, action_repeat, observation)


def names_a_module(name: str) -> bool:
    """Whether `name` has the form module:attribute, so that making the family imports what it names."""
    return ":" in name and not name.startswith(PREFIX)


def is_built_in(name: str) -> bool:
    """Whether the family of that name is made by this package's own code."""
    return name in _built_in() or name.startswith(PREFIX)


def refused_offers() -> tuple[str, ...]:
    """A line for each family of another package that is refused for its name alone."""
    return tuple(_offered()[1].values())


def gymnasium_id(name: str) -> str:
    """The id under which gymnasium.make knows a family: 'cheetah_vel' is 'metaslac/CheetahVel-v0'."""
    return f"metaslac/{''.join(word.capitalize() for word in name.split('_'))}-v0"


def register_with_gymnasium() -> None:
    """Make every family known to gymnasium.make; done when the package is imported. Imports no other."""
    for name in (*_built_in(), *_offered()[0]):  # ours first, should two names make the same id
        if gymnasium_id(name) not in gymnasium.registry:
            gymnasium.register(
                gymnasium_id(name), entry_point="envs.vector_env:TaskEnv", kwargs={"family": name}
            )


def _family(name: str) -> type[Family]:
    built_in = _built_in()
    if name in built_in:
        return built_in[name]
    if names_a_module(name):
        found = from_module(name)
        if built_in.get(found.name, found) is not found:
            raise FamilyError(f"family {name!r} calls itself {found.name!r}, which is a family of metaslac")
        return found
    usable, refused = _offered()
    if name in usable:
        return usable[name].load()
    if name in refused:
        raise FamilyError(refused[name])
    known = (*built_in, *usable)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownFamilyError(f"unknown family {name!r}; the families are {', '.join(sorted(known))}{hint}")


def _built_in() -> dict[str, type[TaskFamily]]:
    return {family.name: family for family in _BUILT_IN}


def _offered() -> tuple[dict[str, Offer], dict[str, str]]:
    """What other packages offer, by name, and a line for each name that is refused without importing it."""
    by_name: dict[str, list[Offer]] = {}
    for offer in offers():
        by_name.setdefault(offer.name or offer.package, []).append(offer)
    reasons = {name: _objection(name, same) for name, same in by_name.items()}
    refused = {name: f"{by_name[name][0]}: {reason}" for name, reason in reasons.items() if reason}
    return {name: same[0] for name, same in by_name.items() if name not in refused}, refused


def _objection(name: str, same: list[Offer]) -> str:
    """What speaks against offers of one name; empty if nothing does."""
    if same[0].fault:
        return same[0].fault
    if name in _built_in():
        return "metaslac has a family of that name"
    if not NAME.fullmatch(name):
        return "a name is lower-case letters, digits and _"
    if len(same) > 1:
        return f"package {', '.join(repr(other.package) for other in same[1:])} has a family of that name too"
    return ""
