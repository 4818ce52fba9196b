"""Settings as text: `section.field=value`, plain dictionaries and YAML, to and from a Config.

What the settings are and which values are allowed is in `sections.py`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError, nearest

DIFFERENCES_SHOWN = 4


@dataclass(frozen=True)
class SettingInfo:
    """One setting as a person meets it."""

    name: str  # section.field
    type: str
    default: Any
    help: str
    choices: tuple[Any, ...]


Changes = Sequence[str] | Mapping[str, Any]  # texts `section.field=value`, or values by name


def apply_settings(config: Config, assignments: Changes) -> Config:
    """A copy with every `section.field=value` applied in order; later ones win. Or values by name.

    Raises MetaslacError for text without `=`, an unknown name (with the nearest one) or the wrong type.
    """
    return with_values(config, values_of(assignments))


def values_of(changes: Changes) -> Mapping[str, Any]:
    """What changes set, by name; raises as apply_settings does."""
    if isinstance(changes, Mapping):
        return changes
    values: dict[str, Any] = {}
    for assignment in changes:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise MetaslacError(f"a setting is written section.field=value, not {assignment!r}")
        name = name.strip()
        values[name] = _parse(name, text.strip(), _field_type(name))
    return values


def assignments_of(values: Mapping[str, Any]) -> list[str]:
    """Values by name as texts `section.field=value`, the inverse of values_of."""
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()
    ]


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with typed values by name, as presets hold them: `{"train.updates": 3000}`."""
    by_section: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, entry = name.partition(".")
        by_section.setdefault(section, {})[entry] = _typed(name, value, _field_type(name))
    sections = {
        section: dataclasses.replace(getattr(config, section), **entries)
        for section, entries in by_section.items()
    }
    return dataclasses.replace(config, **sections)


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Section -> field -> value, in the order of the dataclasses."""
    return dataclasses.asdict(config)


def from_dict(values: object) -> Config:
    """The inverse of `to_dict`: every field must be there, with its type, and nothing else.

    But for settings that are younger than the file, if they say what they were before.
    """
    sections = _fields_of(values, Config, "")
    parts = {}
    for section, section_class in _types(Config).items():
        entries = _fields_of(sections[section], section_class, f"{section}.")
        types = _types(section_class)
        parts[section] = section_class(
            **{name: _typed(f"{section}.{name}", value, types[name]) for name, value in entries.items()}
        )
    return Config(**parts)


def to_yaml(config: Config) -> str:
    """The whole configuration as YAML text, one section after the other."""
    text: str = yaml.safe_dump(to_dict(config), sort_keys=False)
    return text


def from_yaml(text: str) -> Config:
    """The inverse of `to_yaml`; raises MetaslacError for text that is not a whole configuration."""
    return from_dict(_loaded(text))


def settings_in(path: Path) -> dict[str, Any]:
    """Some settings by name from a YAML file: in sections, as `to_yaml` writes them, or `train.updates: 100`.

    Raises MetaslacError, in one line, for what cannot be read, an unknown name or the wrong type.
    """
    try:
        sections = _loaded(path.read_text(encoding="utf-8"))
        if not isinstance(sections, dict):
            raise MetaslacError("not sections with settings, such as `train: {updates: 100}`")
        values: dict[str, Any] = {}
        for section, entries in sections.items():
            if isinstance(entries, dict):
                named = {f"{section}.{entry}": value for entry, value in entries.items()}
            elif "." in str(section):
                named = {str(section): entries}
            else:
                hint = "; presets are asked for by --preset" if section == "preset" else ""
                raise MetaslacError(f"{section} is not a section with settings{hint}")
            if twice := named.keys() & values.keys():
                raise MetaslacError(f"{min(twice)} is there twice")
            for name, value in named.items():
                kind = _field_type(name)
                as_text = isinstance(value, str) and kind is not str  # 1e-3 is text to YAML 1.1
                values[name] = _parse(name, value, kind) if as_text else _typed(name, value, kind)
        return values
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # MetaslacError and bad UTF-8 among them
        raise MetaslacError(f"{path}: {' '.join(str(error).split())}") from None


def describe(config_class: type[Config] = Config) -> list[SettingInfo]:
    """Every setting in order, for a help text."""
    return [
        SettingInfo(
            name=f"{section}.{entry.name}",
            type=_types(section_class)[entry.name].__name__,
            default=entry.default,
            help=entry.metadata["help"],
            choices=entry.metadata["choices"],
        )
        for section, section_class in _types(config_class).items()
        for entry in dataclasses.fields(section_class)
    ]


def differences(first: Config, second: Config) -> list[str]:
    """The names of the settings in which two configurations differ, as `name (first, second)`."""
    one, two = to_dict(first), to_dict(second)
    return [
        f"{section}.{name} ({value}, {two[section][name]})"
        for section, entries in one.items()
        for name, value in entries.items()
        if value != two[section][name]
    ]


def listed(different: Sequence[str]) -> str:
    """The first few differences, and how many more there are."""
    more = len(different) - DIFFERENCES_SHOWN
    return ", ".join(different[:DIFFERENCES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _loaded(text: str) -> object:
    """What is in YAML text. Raises MetaslacError where it is none."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MetaslacError(f"not readable as YAML: {' '.join(str(error).split())}") from None


def _types(cls: type[Any]) -> dict[str, type[Any]]:
    return typing.get_type_hints(cls)


def _field_type(name: str) -> type[Any]:
    known = _field_types()
    if name not in known:
        raise MetaslacError(f"unknown setting {name!r}{nearest(name, known)}")
    return known[name]


@cache  # to find them out takes longer than all the rest of reading a setting
def _field_types() -> dict[str, type[Any]]:
    """The type of every setting, by name."""
    return {
        f"{section}.{name}": kind
        for section, section_class in _types(Config).items()
        for name, kind in _types(section_class).items()
    }


def _parse(name: str, text: str, kind: type[Any]) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise _wrong_type(name, text, kind) from None


def _typed(name: str, value: object, kind: type[Any]) -> Any:
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise _wrong_type(name, value, kind) from None
    if type(value) is not kind:  # not isinstance: True is no int here
        raise _wrong_type(name, value, kind)
    return value


def _wrong_type(name: str, value: object, kind: type[Any]) -> MetaslacError:
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    shown = repr(value)
    return MetaslacError(
        f"{name} must be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
    )


def _fields_of(values: object, cls: type[Any], prefix: str) -> dict[str, Any]:
    """`values` as a mapping with exactly the fields of `cls`.

    Where a file is older than a setting, what runs did before there was one is filled in.
    """
    where = prefix.rstrip(".") or "the configuration"
    if not isinstance(values, dict):
        raise MetaslacError(f"{where} must be a mapping of settings, not {type(values).__name__}")
    known = list(_types(cls))
    unknown = [str(name) for name in values if name not in known]
    if unknown:
        raise MetaslacError(f"unknown setting {prefix + unknown[0]!r}{nearest(unknown[0], known)}")
    older = {
        entry.name: entry.metadata["older"]
        for entry in dataclasses.fields(cls)
        if entry.metadata.get("older") is not None
    }
    values = {**older, **values}
    missing = [prefix + name for name in known if name not in values]
    if missing:
        raise MetaslacError(f"missing setting {', '.join(missing)}")
    return values
