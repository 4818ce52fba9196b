"""Videos: sizes a codec accepts, captions that are there, no half-written file."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from metaslac.errors import MetaslacError
from metaslac.launchers.media.picture import write_picture
from metaslac.launchers.media.video import (
    CAPTION,
    HOLD,
    PICTURE,
    Clip,
    check_video,
    frames_per_second,
    spread,
    why_no_films,
    write_video,
)


def clip(size: int = 32, steps: int = 3, episodes: int = 2) -> Clip:
    frames = np.full((steps + 1, size, size, 3), 200, dtype=np.uint8)
    return Clip("goal 0.50", [frames] * episodes, [-1.5] * episodes)


@pytest.mark.parametrize(("clips", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (9, 3, 3)])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_clips_form_a_grid_of_large_pictures(
    tmp_path: Path, clips: int, columns: int, rows: int, size: int
) -> None:
    path = tmp_path / "grid.mp4"
    write_video(path, [clip(size)] * clips)
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    assert (width, height) == (PICTURE * columns, (PICTURE + CAPTION) * rows)
    pictures = [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]
    assert len(pictures) == 2 * (4 + HOLD)
    assert pictures[0][CAPTION + 20, 20].min() > 180  # the picture itself
    assert pictures[0][:CAPTION].max() > 180 > pictures[0][:CAPTION].mean()  # white words on black


def test_a_video_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no codec")

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", broken)
    with pytest.raises(MetaslacError, match="no codec"):
        write_video(tmp_path / "out.mp4", [clip()])
    assert list(tmp_path.iterdir()) == []


def test_a_video_whose_end_ffmpeg_could_not_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all pictures, fails at its end, and says so to nobody but the terminal."""
    write_video(tmp_path / "whole.mp4", [clip()])
    most = (tmp_path / "whole.mp4").stat().st_size // 2
    within = "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    within += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); "
    within += "os.execv(sys.argv[1], sys.argv[1:])"
    ffmpeg = tmp_path / "ffmpeg"
    words = sys.executable, "-c", within, imageio_ffmpeg.get_ffmpeg_exe()
    ffmpeg.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(ffmpeg))
    with pytest.raises(MetaslacError, match="cannot write .*out.mp4: ffmpeg has written 0 of 28 pictures"):
        write_video(tmp_path / "out.mp4", [clip()])
    assert {path.name for path in tmp_path.iterdir()} == {"whole.mp4", "ffmpeg"}


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("/nowhere/ffmpeg", r"ffmpeg cannot be run \(.*No such file"),
        ("/bin/false", "/bin/false does not work as ffmpeg"),
        (None, "no ffmpeg was found"),
    ],
)
def test_without_ffmpeg_a_film_is_refused_before_it_is_played(
    monkeypatch: pytest.MonkeyPatch, program: str | None, why: str
) -> None:
    def not_found() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    why_no_films.cache_clear()
    try:
        check_video(Path("a.mp4"))
        why_no_films.cache_clear()
        if program is None:
            monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", not_found)
        else:
            monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
        with pytest.raises(
            MetaslacError, match=f"--video a.mp4: {why}.*; install ffmpeg, name it in IMAGEIO"
        ):
            check_video(Path("a.mp4"))
        check_video(Path("a.gif"))
        check_video(None)
    finally:
        why_no_films.cache_clear()


def test_a_gif_shows_every_picture_as_long_as_it_lasts(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    write_video(path, [clip(steps=2, episodes=1)])
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(path) as gif:
        assert gif.size == (PICTURE, PICTURE + CAPTION) and gif.info["loop"] == 0
        lasts = []
        for number in range(gif.n_frames):
            gif.seek(number)
            lasts.append(gif.info["duration"])
        assert sum(lasts) == (3 + HOLD) * 200  # milliseconds: at five a second
        assert abs(np.asarray(gif.convert("RGB"))[-20, 20].astype(int) - 200).max() < 4


def test_of_long_episodes_a_gif_has_one_picture_in_so_many_and_the_last(tmp_path: Path) -> None:
    frames = np.zeros((601, 32, 32, 3), dtype=np.uint8)
    for step, frame in enumerate(frames):
        frame.reshape(-1, 3)[:step] = 250
    path = tmp_path / "a.gif"
    write_video(path, [Clip("", [frames], [0.0])])
    with Image.open(path) as gif:
        lasts, last = [], 0
        for number in range(gif.n_frames):
            gif.seek(number)
            lasts.append(gif.info["duration"])
            last = int((np.asarray(gif.convert("RGB"))[CAPTION:][::8, ::8, 0] > 125).sum())
    assert len(lasts) == 201 and last == 600
    assert sum(lasts) == pytest.approx((601 + HOLD) * 50, rel=0.01)  # as long as all of it


def test_a_gif_keeps_what_moves(tmp_path: Path) -> None:
    frames = np.zeros((5, 32, 32, 3), dtype=np.uint8)
    for step in range(5):
        frames[step, 8:12, 6 * step : 6 * step + 4] = (250, 120, 10)
    path = tmp_path / "a.gif"
    write_video(path, [Clip("", [frames], [0.0])])
    with Image.open(path) as gif:
        assert gif.n_frames == 5
        for step in range(5):
            gif.seek(step)
            shown = np.asarray(gif.convert("RGB"))[CAPTION:][::8, ::8]
            assert abs(shown.astype(int) - frames[step]).max() < 12


@pytest.mark.parametrize(("frames", "rate"), [(3, 5), (21, 7), (51, 17), (201, 20)])
def test_short_episodes_are_shown_slowly(frames: int, rate: int) -> None:
    assert frames_per_second(frames) == rate


def test_spread_takes_both_ends() -> None:
    assert spread(range(30), 9)[0] == 0 and spread(range(30), 9)[-1] == 29
    assert len(set(spread(range(30), 9))) == 9
    assert spread(range(3), 9) == [0, 1, 2]
    assert spread([5], 9) == [5]


def test_a_picture_shows_each_episode_from_its_first_frame_to_its_last(tmp_path: Path) -> None:
    episodes = [np.full((21, 32, 32, 3), 100 * n, dtype=np.uint8) for n in (1, 2)]
    for frames in episodes:
        frames += np.arange(21, dtype=np.uint8)[:, None, None, None]
    write_picture(tmp_path / "a.png", [Clip("goal 0.5", episodes, [-3.0, -1.0])])
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    half = len(picture) // 2
    moments = [0, 3, 6, 9, 11, 14, 17, 20]
    assert picture[half - 50, ::100, 0].tolist() == [100 + t for t in moments]
    assert picture[-50, ::100, 0].tolist() == [200 + t for t in moments]
    assert picture[:20].max() > 200 and picture[half : half + 20].max() > 200  # the headings
