"""Films are a convenience: where there is no ffmpeg, all else is made, and what is missing is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from reports import EPISODES, ONE_THREAD

from metaslac.launchers.cli import cli
from metaslac.launchers.media.video import why_no_films


@pytest.fixture(autouse=True)
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    why_no_films.cache_clear()
    yield
    why_no_films.cache_clear()


def test_a_report_shows_how_episodes_ended(evaluated_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = CliRunner().invoke(cli, ["report", str(evaluated_run), "--out", str(out), *ONE_THREAD])
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("pictures in place of films: ffmpeg cannot be run")
    page = out.read_text(encoding="utf-8")
    assert "<video" not in page and "There was no ffmpeg to make films with" in page
    assert len(re.findall(r'<img src="data:image/png[^>]*, its end">', page)) == 4 * EPISODES


def test_a_demo_is_filmed_as_a_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["demo", "--episodes", "1", *ONE_THREAD])
    assert result.exit_code == 0, result.output
    with Image.open("demo-point_robot.gif") as film:
        assert film.n_frames > 1
