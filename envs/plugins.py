"""Families of other packages, found by entry points or named as module:attribute; imported when asked for.

The families of this package and the one way from a name to a family are in registry.py.
"""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from metaslac.envs.errors import FamilyError

if TYPE_CHECKING:
    from metaslac.envs.family import Family

ENTRY_POINTS = "metaslac.families"
NAME = re.compile("[a-z][a-z0-9_]*")

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")  # of a module, or of an attribute in one
_NOT_THEIRS = ("<", __file__, importlib.__file__)
_SIZES = ("action_size", "state_size", "horizon", "frame_skip")
_SIZES_OF_ENVIRONMENTS = ("action_size", "state_size")  # of gymnasium's, which say themselves


class Offer(NamedTuple):
    """A family that an installed package says it has; without a name where what it says cannot be read."""

    name: str
    package: str
    target: str  # module:attribute
    fault: str = ""

    def __str__(self) -> str:
        package = f"package {self.package!r}"
        return f"family {self.name!r} of {package}" if self.name else package

    def load(self) -> type[Family]:
        """Import the family; raises FamilyError, in one line, if it cannot be used."""
        found = _imported(self.target, str(self))
        if found.name != self.name:
            raise FamilyError(f"{self}: {self.target} calls itself {found.name!r}")
        return found


def offers() -> list[Offer]:
    """What the installed packages offer, by name; nothing is imported."""
    found: dict[tuple[str, str], Offer] = {}
    for distribution in metadata.distributions():
        # Looked for in the text first: another package's unreadable entry points are not our business.
        if ENTRY_POINTS in _entry_points_text(distribution):
            for offer in _offered(distribution):
                package = re.sub("[-_.]+", "-", offer.package).lower()
                found.setdefault((offer.name, package), offer)  # met twice on the path, the first counts
    return sorted(found.values())


def from_module(name: str) -> type[Family]:
    """The family called module:attribute; raises FamilyError, in one line, if it cannot be used."""
    return _imported(name, f"family {name!r}")


def blame(error: BaseException) -> str:
    """An error of somebody else's code in one line: its type, what it says, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    said = " ".join(str(error).split())
    where = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    return f"{type(error).__name__}: {said}{where}"


def _entry_points_text(distribution: metadata.Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError:
        return ""


def _offered(distribution: metadata.Distribution) -> Iterator[Offer]:
    package = str(distribution.metadata["Name"])
    try:
        entries = distribution.entry_points.select(group=ENTRY_POINTS)
    except Exception as error:  # whatever the parser trips over
        yield Offer("", package, "", f"its entry_points.txt cannot be read: {blame(error)}")
        return
    for entry in entries:
        yield Offer(entry.name, package, entry.value)


def _imported(target: str, what: str) -> type[Family]:
    # Here, so that names alone load no simulator; and before the module, so that OpenGL is chosen first.
    from metaslac.envs.families.of_gymnasium import GymnasiumFamily
    from metaslac.envs.family import Family, TaskFamily

    module_name, _, attribute = (part.strip() for part in target.partition(":"))
    if not (_PATH.fullmatch(module_name) and _PATH.fullmatch(attribute)):
        raise FamilyError(f"{what}: write module:attribute, as in my_package.maze:Maze, not {target!r}")
    found: object = _module(module_name, what)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise FamilyError(f"{what}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Family)) or found in (
        *(Family, TaskFamily, GymnasiumFamily),
    ):
        raise FamilyError(
            f"{what}: {target} is no family, which is a class derived from TaskFamily or GymnasiumFamily of "
            "metaslac.envs"
        )
    _check(found, f"{what}: {target}")
    return found


def _module(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise FamilyError(f"{what}: there is no module {error.name!r}") from error
        raise FamilyError(f"{what}: cannot import {name}: {blame(error)}") from error
    except (Exception, SystemExit) as error:  # anything can happen in somebody else's module
        raise FamilyError(f"{what}: cannot import {name}: {blame(error)}") from error


def _check(family: type[Family], where: str) -> None:
    from metaslac.envs.families.of_gymnasium import GymnasiumFamily
    from metaslac.envs.family import Family, TaskFamily

    bases = [base for base in (Family, TaskFamily) if issubclass(family, base)]
    declared = [attribute for base in bases for attribute in inspect.get_annotations(base)]
    told = _SIZES_OF_ENVIRONMENTS if issubclass(family, GymnasiumFamily) else ()
    missing = [name for name in declared if not hasattr(family, name) and name not in told]
    missing += sorted(family.__abstractmethods__)
    if missing:
        raise FamilyError(f"{where} lacks {', '.join(missing)}")
    for attribute in _SIZES:
        size = getattr(family, attribute, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise FamilyError(f"{where}: {attribute} must be a positive integer, not {size!r}")
    if not isinstance(family.name, str) or not family.name:
        raise FamilyError(f"{where}: name must be text, not {family.name!r}")
    names = family.param_names
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise FamilyError(f"{where}: param_names must be a tuple of names, not {names!r}")
