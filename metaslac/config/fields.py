"""Fields of a section: a default, one line of help, and the limits of what it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

MOST_UNITS = 16_384  # far beyond any sensible layer: a slip of the keyboard, not a network
MOST_COUNT = 10**9
IMAGE_SIZES = (32, 64, 128)


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[Any] = (),
    older: Any = None,
) -> Any:
    """A dataclass field with its default, its line of help and what it may be (`above` is exclusive).

    `older` is for a new one: the value that runs had which were saved before there was such a setting.
    """
    limits = {"low": low, "high": high, "above": above, "choices": tuple(choices)}
    return field(default=default, metadata={"help": help, "older": older, **limits})


def units(default: int, help: str, low: int = 1, older: int | None = None) -> Any:
    """A setting that is the width of something in a network."""
    return setting(default, help, low=low, high=MOST_UNITS, older=older)


def count(default: int, help: str, low: int = 1, older: int | None = None) -> Any:
    """A setting that counts."""
    return setting(default, help, low=low, high=MOST_COUNT, older=older)
