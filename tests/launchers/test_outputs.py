"""Files that commands leave, as a strict reader takes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from metaslac.launchers.outputs import write_json


def test_json_holds_nothing_that_json_cannot_say(tmp_path: Path) -> None:
    """NaN and Infinity, which Python would write, are an error or zero to others."""
    values = {"returns": [1.5, math.nan, -math.inf], "deep": [{"mean": math.nan}, (2, True, "NaN", None)]}
    write_json(tmp_path / "table.json", values)
    told = json.loads((tmp_path / "table.json").read_text(), parse_constant=pytest.fail)
    assert told == {"returns": [1.5, None, None], "deep": [{"mean": None}, [2, True, "NaN", None]]}
