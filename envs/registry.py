"""From a name to a family; importing this file imports no simulator.

What a family is stands in family.py; the families stand in families/, other packages' in plugins.py, and
gymnasium's ids in gymnasium_ids.py.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from metaslac.envs.errors import FamilyError, UnknownFamilyError
from metaslac.envs.names import BUILT_IN, SUITE_PREFIX
from metaslac.envs.plugins import NAME, Offer, from_module, offers

if TYPE_CHECKING:
    from metaslac.envs.family import Family


def family_names() -> tuple[str, ...]:
    """The names of the families here and of those that installed packages offer, sorted; imports no package.

    Names of the form 'dmc:<domain>-<task>' and 'module:attribute' are not among them.
    """
    return tuple(sorted((*BUILT_IN, *_offered()[0])))


def make_family(
    name: str, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels", frames: int = 1
) -> Family:
    """The family called `name`: one of family_names(), 'dmc:<domain>-<task>' or 'module:attribute'.

    Raises:
        UnknownFamilyError: there is none; the message lists the names and the nearest one.
        FamilyError: an option is out of its range, or another package's family cannot be used.
    """
    name = str(name)
    if name.startswith(SUITE_PREFIX):
        from metaslac.envs.families.suite import SuiteFamily

        return SuiteFamily(name, image_size, action_repeat, observation, frames)
    found = _family(name)
    if frames == 1:  # not passed on, for another package's constructor may not know it
        return found(image_size, action_repeat, observation)
    return found(image_size, action_repeat, observation, frames)


def check_name(name: str) -> None:
    """Raise UnknownFamilyError for what can be no family's name, as make_family would; imports no package."""
    if ":" not in name and name not in (*BUILT_IN, *_offered()[0]):
        raise _unknown(name)


def names_a_module(name: str) -> bool:
    """Whether `name` has the form module:attribute, so that making the family imports what it names."""
    return ":" in name and not name.startswith(SUITE_PREFIX)


def is_built_in(name: str) -> bool:
    """Whether the family of that name is made by this package's own code."""
    return name in BUILT_IN or name.startswith(SUITE_PREFIX)


def refused_offers() -> tuple[str, ...]:
    """A line for each family of another package that is refused for its name alone."""
    return tuple(_offered()[1].values())


def _family(name: str) -> type[Family]:
    if name in BUILT_IN:
        return _built_in(name)
    if names_a_module(name):
        found = from_module(name)
        if found.name in BUILT_IN and _built_in(found.name) is not found:
            raise FamilyError(f"family {name!r} calls itself {found.name!r}, which is a family of metaslac")
        return found
    usable, refused = _offered()
    if name in usable:
        return usable[name].load()
    if name in refused:
        raise FamilyError(refused[name])
    raise _unknown(name)


def _unknown(name: str) -> UnknownFamilyError:
    known = family_names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UnknownFamilyError(f"unknown family {name!r}; the families are {', '.join(known)}{hint}")


def _built_in(name: str) -> type[Family]:
    place = BUILT_IN[name]
    family: type[Family] = getattr(importlib.import_module(place.module), place.attribute)
    return family


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
    if name in BUILT_IN:
        return "metaslac has a family of that name"
    if not NAME.fullmatch(name):
        return "a name is lower-case letters, digits and _"
    if len(same) > 1:
        return f"package {', '.join(repr(other.package) for other in same[1:])} has a family of that name too"
    return ""
