"""Files that commands leave, as a strict reader takes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from metaslac.errors import MetaslacError
from metaslac.launchers.outputs import check_writable, free_name, write_json


def test_json_holds_nothing_that_json_cannot_say(tmp_path: Path) -> None:
    """NaN and Infinity, which Python would write, are an error or zero to others."""
    values = {"returns": [1.5, math.nan, -math.inf], "deep": [{"mean": math.nan}, (2, True, "NaN", None)]}
    write_json(tmp_path / "table.json", values)
    told = json.loads((tmp_path / "table.json").read_text(), parse_constant=pytest.fail)
    assert told == {"returns": [1.5, None, None], "deep": [{"mean": None}, [2, True, "NaN", None]]}


def test_directories_on_the_way_are_made_when_the_file_is_written_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "table.json"
    check_writable(path)
    assert not list(tmp_path.iterdir())
    write_json(path, {})
    assert path.is_file()
    with pytest.raises(MetaslacError, match=r"table\.json is not a directory"):
        check_writable(path / "further" / "down.json")


def test_a_free_name_is_one_of_nothing_that_is_there(tmp_path: Path) -> None:
    film = tmp_path / "demo.mp4"
    assert free_name(film) == film
    film.touch()
    (tmp_path / "demo-2.mp4").symlink_to("nowhere")
    assert free_name(film) == tmp_path / "demo-3.mp4"
