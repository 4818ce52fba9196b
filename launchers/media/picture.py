"""Pictures in one .png: a row per episode, a few moments of it from left to right.

Moving pictures are in `video.py`; both show the same reels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metaslac.errors import MetaslacError
from metaslac.launchers.media.marks import Marked, draw_marks
from metaslac.launchers.media.video import CAPTION, TILE, Frames, Reel, enlarge
from metaslac.storage.files import write_atomically

MOMENTS = 8  # frames shown of each episode
GAP = 4
SHEET = 70  # grey between the frames of a contact sheet: many skies are black


class Strip(NamedTuple):
    """A row of a contact sheet; it may have fewer frames than there are columns."""

    title: str
    frames: Frames  # (F, H, W, 3)
    marked: Sequence[Marked] = ()  # what is drawn on each, enlarged; () is nothing


def check_picture_name(path: Path | None, option: str = "--picture") -> None:
    """Raise MetaslacError unless the file would be a .png; None is fine."""
    if path is not None and path.suffix.lower() != ".png":
        raise MetaslacError(f"{option} {path}: the name must end in .png")


def write_picture(path: Path, reels: Sequence[Reel]) -> None:
    """Write the reels below one another, whole or not at all."""
    rows: list[Frames] = []
    for reel in reels:
        for episode, length in enumerate(reel.lengths):
            tiles = _beside([reel.still(episode, step) for step in moments(length)])
            rows += [reel.heading(episode, tiles.shape[1]), tiles]
    _write(path, rows)


def write_sheet(path: Path, headings: Sequence[str], strips: Sequence[Strip]) -> None:
    """Write the strips below one another, a heading over each column, whole or not at all."""
    column = len(enlarge(strips[0].frames[0], TILE)) + GAP
    width = column * len(headings)
    rows = [_words(width, {number * column: text for number, text in enumerate(headings)}, SHEET)]
    for strip in strips:
        tiles = _beside([_marked(strip, number) for number in range(len(strip.frames))], SHEET)
        rows.append(_words(width, {0: strip.title}, SHEET))
        rows.append(np.pad(tiles, ((0, 0), (0, width - tiles.shape[1]), (0, 0)), constant_values=SHEET))
    _write(path, rows)


def _write(path: Path, rows: Sequence[Frames]) -> None:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(data, "PNG")
    try:
        write_atomically(path, data.getvalue())
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None


def moments(length: int) -> list[int]:
    """The steps of an episode of so many pictures that are shown."""
    steps: list[int] = np.linspace(0, length - 1, MOMENTS).round().astype(int).tolist()
    return steps


def _marked(strip: Strip, number: int) -> Frames:
    picture = enlarge(strip.frames[number], TILE)
    return draw_marks(picture, strip.marked[number]) if strip.marked else picture


def _beside(pictures: Sequence[Frames], grey: int = 0) -> Frames:
    edges = ((0, GAP), (0, GAP), (0, 0))
    tiles = [np.pad(picture, edges, constant_values=grey) for picture in pictures]
    return np.concatenate(tiles, axis=1)


def _words(width: int, texts: Mapping[int, str], grey: int = 0) -> Frames:
    """A line of white text: what starts at which column of pixels."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, CAPTION * 2 // 3), (grey, grey, grey))
    for left, text in texts.items():
        ImageDraw.Draw(image).text((left + 4, 4), text, fill="white")
    return np.asarray(image, dtype=np.uint8)
