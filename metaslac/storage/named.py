"""Agents by name: `zoo:NAME` of those shipped with metaslac, `hf:OWNER/NAME` of those on Hugging Face's Hub.

What an exported agent is stands in exported.py; talking to the Hub is hub.py's.
"""

from __future__ import annotations

import os
from pathlib import Path

from metaslac.errors import MetaslacError, nearest
from metaslac.storage.files import user_path
from metaslac.storage.manifest import MANIFEST, is_agent, read_manifest

ZOO_PREFIX, HUB_PREFIX = "zoo:", "hf:"
ZOO = Path(__file__).resolve().parents[1] / "zoo"


def is_named(written: str | os.PathLike[str]) -> bool:
    """Whether it is the name of an agent, and no path; a directory called so is ./zoo:NAME."""
    return os.fspath(written).startswith((ZOO_PREFIX, HUB_PREFIX))


def located(written: str | os.PathLike[str]) -> Path:
    """The directory that is meant: of the agent of that name, downloaded where need be, or a path as it is.

    Raises MetaslacError for an agent that is not there, or not as it was exported.
    """
    text = os.fspath(written)
    if text.startswith(ZOO_PREFIX):
        return shipped_agent(text.removeprefix(ZOO_PREFIX))
    if text.startswith(HUB_PREFIX):
        from metaslac.storage.hub import download

        return download(text.removeprefix(HUB_PREFIX))
    return user_path(written)


def is_exported(path: Path) -> bool:
    """Whether a path given by a person means one. Raises MetaslacError for a damaged manifest."""
    return is_named(path) or (os.path.exists(path / MANIFEST) and is_agent(read_manifest(path)))


def shipped_names() -> list[str]:
    """The names of the agents that come with this version, sorted."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{MANIFEST}"))


def shipped_agent(name: str) -> Path:
    """The directory of one of them. Raises MetaslacError, with their names, if there is none called so."""
    names = shipped_names()
    if name not in names:
        there = f"there are {', '.join(names)}" if names else "none comes with this version"
        raise MetaslacError(f"no agent {ZOO_PREFIX}{name}: {there}{nearest(name, names)}")
    return ZOO / name


def is_kept_by_others(written: str | os.PathLike[str]) -> bool:
    """Whether it is no place for a user's files: a shipped agent, by name or path, or the Hub's cache."""
    return is_named(written) or Path(written).resolve().is_relative_to(ZOO)
