"""The README against the files behind it."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("family", ["point_robot", "cheetah_vel"])
def test_its_tables_are_those_of_the_raw_returns(family: str) -> None:
    spec = importlib.util.spec_from_file_location("table", ROOT / "results/table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.table(family)
    assert table.count("\n") > 3 and table in (ROOT / "README.md").read_text()


def test_its_picture_and_links_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("docs/adaptation.png", "Makefile"):
        assert f"]({name})" in text and (ROOT / name).is_file()
