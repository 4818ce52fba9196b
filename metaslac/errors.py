"""The errors that are meant for the person at the keyboard.

Programming mistakes stay ordinary Python exceptions; nothing here prints or exits.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MetaslacError(ValueError):
    """Something the user can put right; its text is one clear line that says how."""


class TrainingFault(MetaslacError):
    """What stopped a training that had begun; its text says what is safe and what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name most like `name`, or nothing when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
