"""The version of this package and of the libraries a run depends on.

`setup.py` reads the first from here; nothing here imports the libraries it asks about.
"""

from __future__ import annotations

import platform
from importlib import metadata

__version__ = "0.1.0"

LIBRARIES = ("torch", "numpy", "mujoco", "gymnasium", "dm_control", "safetensors")


def library_versions() -> dict[str, str]:
    """Name -> version of metaslac, Python and the libraries that shape a result; absent ones left out."""
    versions = {"metaslac": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
