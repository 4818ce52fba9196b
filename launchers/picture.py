"""Episodes as one .png: a row per episode, a few moments of it from left to right.

Moving pictures are in `video.py`; both show the same clips.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from launchers.video import CAPTION, Clip, Frames, enlarge
from metaslac.errors import MetaslacError
from metaslac.files import write_atomically

MOMENTS = 8  # frames shown of each episode
TILE = 96  # least height and width of a frame
GAP = 4


def check_picture_name(path: Path | None) -> None:
    """Raise MetaslacError unless the file would be a .png; None is fine."""
    if path is not None and path.suffix.lower() != ".png":
        raise MetaslacError(f"--picture {path}: the name must end in .png")


def write_picture(path: Path, clips: Sequence[Clip]) -> None:
    """Write the clips below one another, whole or not at all."""
    from PIL import Image

    rows = [
        part
        for clip in clips
        for number, frames in enumerate(clip.episodes)
        for part in (_heading(clip, number, _width(frames)), _moments(frames))
    ]
    data = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(data, "PNG")
    try:
        write_atomically(path, data.getvalue())
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None


def _moments(frames: Frames) -> Frames:
    steps = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)
    tiles = [np.pad(enlarge(frames[step], TILE), ((0, GAP), (0, GAP), (0, 0))) for step in steps]
    return np.concatenate(tiles, axis=1)


def _width(frames: Frames) -> int:
    return MOMENTS * (len(enlarge(frames[0], TILE)) + GAP)


def _heading(clip: Clip, number: int, width: int) -> Frames:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, CAPTION * 2 // 3))
    text = f"episode {number + 1}   return {clip.returns[number]:.1f}" + f"   {clip.title}" * (number == 0)
    ImageDraw.Draw(image).text((4, 4), text, fill="white")
    return np.asarray(image, dtype=np.uint8)
