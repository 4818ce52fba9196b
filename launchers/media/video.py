"""Episodes as an .mp4 or a .gif: one task, or several side by side, with words over each.

What was filmed is decided by the command; frames come as uint8 arrays.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.launchers.media.gif import write_gif

CODEC_STEP = 16  # pixels, of which codecs want multiples
PICTURE = 256  # height and width of one picture
CAPTION = 32
TILE = 96  # likewise of a still
FRAMES_PER_SECOND = 20  # at most
SLOWEST = 5
LEAST_SECONDS = 3  # of an episode, if that is not slower still: people have to see what happens
PARAMETERS_SHOWN = 3
MOST_IN_GIF = 250  # pictures, but for those that are held
HOLD = 10  # frames the end of an episode stays on the screen

Frames = NDArray[np.uint8]
T = TypeVar("T")


class Reel(Protocol):
    """One task's episodes, to be shown. Of steps after an episode's end it shows the last."""

    @property
    def lengths(self) -> Sequence[int]:
        """Pictures of each episode."""

    def tile(self, episode: int, step: int) -> Frames:
        """A picture of the moving ones, with words: (H, W, 3), both multiples of 16."""

    def still(self, episode: int, step: int) -> Frames:
        """The same for a row of them, without words."""

    def heading(self, episode: int, width: int) -> Frames:
        """The words above a row of so many pixels."""


@dataclass(frozen=True)
class Clip:
    """One task's episodes as the agent saw them, enlarged to at least `size` pixels."""

    title: str
    episodes: list[Frames]  # each (T+1, H, W, 3)
    returns: list[float]
    size: int = PICTURE

    @property
    def lengths(self) -> list[int]:
        """Pictures of each episode."""
        return [len(frames) for frames in self.episodes]

    def tile(self, episode: int, step: int) -> Frames:
        """A frame under its caption."""
        frame = enlarge(self._frame(episode, step), self.size)
        words = f"episode {episode + 1}   return {self.returns[episode]:.1f}\n{self.title}"
        return np.concatenate([_lettered(CAPTION, frame.shape[1], words), frame])

    def still(self, episode: int, step: int) -> Frames:
        """A frame, smaller than in a film: pixels are all there is to see."""
        return enlarge(self._frame(episode, step), TILE)

    def heading(self, episode: int, width: int) -> Frames:
        """What is above a row of frames."""
        title = f"   {self.title}" * (episode == 0)
        return _lettered(
            CAPTION * 2 // 3, width, f"episode {episode + 1}   return {self.returns[episode]:.1f}{title}"
        )

    def _frame(self, episode: int, step: int) -> Frames:
        frames = self.episodes[episode]
        frame: Frames = frames[min(step, len(frames) - 1)]
        return frame


def check_video_name(path: Path | None) -> None:
    """Raise MetaslacError unless the file would be an .mp4 or a .gif; None is fine."""
    if path is not None and path.suffix.lower() not in (".mp4", ".gif"):
        raise MetaslacError(f"--video {path}: the name must end in .mp4 or .gif")


def check_video(path: Path | None) -> None:
    """Raise MetaslacError unless such a file can be written: an .mp4 takes ffmpeg. None is fine."""
    check_video_name(path)
    if path is not None and path.suffix.lower() == ".mp4" and (why := why_no_films()):
        raise MetaslacError(
            f"--video {path}: {why}; install ffmpeg, name it in IMAGEIO_FFMPEG_EXE, or ask for a .gif"
        )


@lru_cache
def why_no_films() -> str:
    """Why there is no ffmpeg to make an .mp4 with, in words; empty if there is one."""
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run([program, "-version"], capture_output=True, check=False, timeout=60)
    except RuntimeError:
        return "no ffmpeg was found"
    except (OSError, subprocess.SubprocessError) as error:
        return f"ffmpeg cannot be run ({' '.join(str(error).split())})"
    return f"{program} does not work as ffmpeg" if done.returncode else ""


def write_video(path: Path, reels: Sequence[Reel]) -> None:
    """Write the episodes one after the other, the reels side by side, whole or not at all.

    Of long ones a .gif has one picture in so many.
    """
    rate = frames_per_second(max(length for reel in reels for length in reel.lengths))
    if path.suffix.lower() == ".gif":
        every = -(-sum(_lengths(reels)) // MOST_IN_GIF)
        write_gif(path, _moments(reels, every), partial(_picture, reels), round(1000 * every / rate))
    else:
        write_frames(path, (_picture(reels, moment) for moment in _moments(reels)), rate)


def frames_per_second(frames: int) -> int:
    """How fast an episode of so many pictures is shown."""
    return min(FRAMES_PER_SECOND, max(SLOWEST, round(frames / LEAST_SECONDS)))


def write_frames(path: Path, pictures: Iterator[Frames], rate: int = FRAMES_PER_SECOND) -> None:
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
            fps=rate,
            output_params=["-movflags", "+faststart"],
            ffmpeg_log_level="error",
        )
        writer.send(None)
        sent = 0
        for picture in itertools.chain([first], pictures):
            writer.send(picture.tobytes())
            sent += 1
        writer.close()
        _check_whole(temporary, sent)
        os.replace(temporary, path)
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {' '.join(str(error).split())}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _check_whole(path: Path, pictures: int) -> None:
    """Raise OSError unless a film has so many; how ffmpeg ended nobody tells."""
    import imageio_ffmpeg

    try:
        found = imageio_ffmpeg.count_frames_and_secs(str(path))[0]
    except RuntimeError:  # it cannot be read at all
        found = 0
    if found != pictures:
        raise OSError(f"ffmpeg has written {found} of {pictures} pictures")


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


def _lengths(reels: Sequence[Reel]) -> list[int]:
    """Pictures of each episode, until the last of the reels is over."""
    return [max(lengths) for lengths in zip(*(reel.lengths for reel in reels), strict=True)]


def _moments(reels: Sequence[Reel], every: int = 1) -> list[tuple[int, int]]:
    """Episode and step of what is shown one after the other."""
    return [
        (episode, step)
        for episode, length in enumerate(_lengths(reels))
        for step in [*range(0, length - 1, every), *[length - 1] * (1 + -(-HOLD // every))]
    ]


def _picture(reels: Sequence[Reel], moment: tuple[int, int]) -> Frames:
    return _grid([reel.tile(*moment) for reel in reels])


def _lettered(height: int, width: int, text: str) -> Frames:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height))
    ImageDraw.Draw(image).multiline_text((4, 2), text, fill="white", spacing=2)
    return np.asarray(image, dtype=np.uint8)


def _grid(tiles: Sequence[Frames]) -> Frames:
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    padded = [*tiles, *[np.zeros_like(tiles[0])] * (rows * columns - len(tiles))]
    return np.concatenate(
        [np.concatenate(padded[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    )
