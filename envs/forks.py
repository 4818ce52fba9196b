"""What a forked child has not got: the threads of the process that it is a copy of.

Whatever has threads of its own asks here whether they are there; a new one made in the child has its own.
"""

import ctypes
import os
import weakref
from typing import Any

from metaslac.envs.errors import FamilyError


class Origin:
    """The process that is running now, which a child forked later is not."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether that is still the process that is running."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raise FamilyError in a child that was forked since."""
        if not self.is_here:
            raise FamilyError(
                "this environment was made before this process was forked off, and its threads are not here; "
                "make a new one here (in a DataLoader: in its worker, when data are first asked for)"
            )


def keep_in_children(thing: Any) -> None:
    """Have `thing` never freed in a forked child: freeing it there would wait for threads that are gone."""
    _kept.add(thing)


def _never_free() -> None:
    for thing in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))  # a list would be cleared when the child ends


_kept: weakref.WeakSet[Any] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_never_free)
