"""Pictures in one .png: a row per episode, a few moments of it from left to right.

Moving pictures are in `video.py`; both show the same clips.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metaslac.errors import MetaslacError
from metaslac.launchers.media.video import CAPTION, Clip, Frames, enlarge
from metaslac.storage.files import write_atomically

MOMENTS = 8  # frames shown of each episode
TILE = 96  # least height and width of a frame
GAP = 4
SHEET = 70  # grey between the frames of a contact sheet: many skies are black


class Strip(NamedTuple):
    """A row of a contact sheet; it may have fewer frames than there are columns."""

    title: str
    frames: Frames  # (F, H, W, 3)


def check_picture_name(path: Path | None, option: str = "--picture") -> None:
    """Raise MetaslacError unless the file would be a .png; None is fine."""
    if path is not None and path.suffix.lower() != ".png":
        raise MetaslacError(f"{option} {path}: the name must end in .png")


def write_picture(path: Path, clips: Sequence[Clip]) -> None:
    """Write the clips below one another, whole or not at all."""
    rows = [
        part
        for clip in clips
        for number, frames in enumerate(clip.episodes)
        for part in (_heading(clip, number, frames), _tiles(_moments(frames)))
    ]
    _write(path, rows)


def write_sheet(path: Path, headings: Sequence[str], strips: Sequence[Strip]) -> None:
    """Write the strips below one another, a heading over each column, whole or not at all."""
    column = _width(strips[0].frames[:1])
    width = column * len(headings)
    rows = [_words(width, {number * column: text for number, text in enumerate(headings)}, SHEET)]
    for strip in strips:
        tiles = _tiles(strip.frames, SHEET)
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


def _moments(frames: Frames) -> Frames:
    moments: Frames = frames[np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)]
    return moments


def _tiles(frames: Frames, grey: int = 0) -> Frames:
    edges = ((0, GAP), (0, GAP), (0, 0))
    tiles = [np.pad(enlarge(frame, TILE), edges, constant_values=grey) for frame in frames]
    return np.concatenate(tiles, axis=1)


def _heading(clip: Clip, number: int, frames: Frames) -> Frames:
    text = f"episode {number + 1}   return {clip.returns[number]:.1f}" + f"   {clip.title}" * (number == 0)
    return _words(_width(_moments(frames)), {0: text})


def _width(frames: Frames) -> int:
    return len(frames) * (len(enlarge(frames[0], TILE)) + GAP)


def _words(width: int, texts: Mapping[int, str], grey: int = 0) -> Frames:
    """A line of white text: what starts at which column of pixels."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, CAPTION * 2 // 3), (grey, grey, grey))
    for left, text in texts.items():
        ImageDraw.Draw(image).text((left + 4, 4), text, fill="white")
    return np.asarray(image, dtype=np.uint8)
