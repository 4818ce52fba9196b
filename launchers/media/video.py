"""Episodes as an .mp4: one task, or several side by side, with a caption over each.

What was filmed is decided by the command; frames come as uint8 arrays.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError

PICTURE = 256  # least height and width of one picture; codecs want multiples of 16
CAPTION = 32
FRAMES_PER_SECOND = 20
PARAMETERS_SHOWN = 3
HOLD = 10  # frames the end of an episode stays on the screen

Frames = NDArray[np.uint8]
T = TypeVar("T")


class Clip(NamedTuple):
    """One task's episodes."""

    title: str
    episodes: list[Frames]  # each (T+1, H, W, 3)
    returns: list[float]


def check_video_name(path: Path | None) -> None:
    """Raise MetaslacError unless the file would be an .mp4; None is fine."""
    if path is not None and path.suffix.lower() != ".mp4":
        raise MetaslacError(f"--video {path}: the name must end in .mp4")


def write_video(path: Path, clips: Sequence[Clip]) -> None:
    """Write the episodes one after the other, the clips side by side, whole or not at all."""
    write_frames(path, _pictures(clips))


def write_frames(path: Path, pictures: Iterator[Frames]) -> None:
    """Write pictures (H, W, 3) as H.264 that plays while it loads, whole or not at all.

    Height and width are multiples of 16.
    """
    import imageio_ffmpeg

    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}.mp4")
    first = next(pictures)
    try:
        writer = imageio_ffmpeg.write_frames(
            str(temporary),
            (first.shape[1], first.shape[0]),
            fps=FRAMES_PER_SECOND,
            output_params=["-movflags", "+faststart"],
            ffmpeg_log_level="error",
        )
        writer.send(None)
        writer.send(first.tobytes())
        for picture in pictures:
            writer.send(picture.tobytes())
        writer.close()
        os.replace(temporary, path)
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {' '.join(str(error).split())}") from None
    finally:
        temporary.unlink(missing_ok=True)


def caption(names: Sequence[str], values: Sequence[float]) -> str:
    """Task parameters in a line; of many, the first few and how many there are."""
    shown = [f"{name} {value:.2f}" for name, value in zip(names, values, strict=True)][:PARAMETERS_SHOWN]
    more = [f"... ({len(names)})"] * (len(names) > PARAMETERS_SHOWN)
    return "  ".join([*shown, *more])


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spaced over the whole list."""
    number = min(most, len(items))
    return [items[round(i * (len(items) - 1) / max(number - 1, 1))] for i in range(number)]


def enlarge(frame: Frames, least: int) -> Frames:
    """A frame (H, W, 3) with every pixel repeated until it is at least so high."""
    factor = math.ceil(least / frame.shape[0])
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def _pictures(clips: Sequence[Clip]) -> Iterator[Frames]:
    for episode in range(len(clips[0].episodes)):
        captions = [_caption(clip, episode) for clip in clips]
        last = max(len(clip.episodes[episode]) for clip in clips) - 1
        for step in [*range(last + 1), *[last] * HOLD]:
            yield _grid(
                [
                    np.concatenate([caption, _picture(clip.episodes[episode], step)])
                    for caption, clip in zip(captions, clips, strict=True)
                ]
            )


def _picture(frames: Frames, step: int) -> Frames:
    return enlarge(frames[min(step, len(frames) - 1)], PICTURE)


def _caption(clip: Clip, episode: int) -> Frames:
    from PIL import Image, ImageDraw

    size = clip.episodes[0].shape[1]
    width = size * math.ceil(PICTURE / size)
    image = Image.new("RGB", (width, CAPTION))
    text = f"episode {episode + 1}   return {clip.returns[episode]:.1f}\n{clip.title}"
    ImageDraw.Draw(image).multiline_text((4, 2), text, fill="white", spacing=2)
    return np.asarray(image, dtype=np.uint8)


def _grid(tiles: Sequence[Frames]) -> Frames:
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    padded = [*tiles, *[np.zeros_like(tiles[0])] * (rows * columns - len(tiles))]
    return np.concatenate(
        [np.concatenate(padded[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    )
