"""What the agent saw and did, as pictures and films for the page.

Where the frames come from is recordings.py; charts are plots.py's.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaslac.envs import Task
from metaslac.evidence.reconstruction import Sheet
from metaslac.launchers.media.data_uris import data_uri, png
from metaslac.launchers.media.film import Film as Reel
from metaslac.launchers.media.filming import Filming
from metaslac.launchers.media.video import (
    HOLD,
    Frames,
    caption,
    frames_per_second,
    why_no_films,
    write_frames,
)
from metaslac.launchers.report.recordings import (
    Sample,
    Trial,
    first_action_spread,
    long_exposure,
)
from metaslac.launchers.report.words import number

SIDE = 256  # pixels of a film's pictures
ACTIONS_SHOWN = 3  # numbers of an action
MOST_FRAMES = 250  # of a film; of longer episodes, one in so many


@dataclass(frozen=True)
class Film:
    """An episode as a film."""

    source: str  # empty where none can be made
    poster: str  # its first frame; without a film its last
    words: str  # for those who cannot see it
    episode_return: float


@dataclass(frozen=True)
class FilmRow:
    """A trial, episode by episode."""

    index: int  # of the task
    params: str
    films: Sequence[Film]


@dataclass(frozen=True)
class Row:
    """A row of pictures."""

    title: str
    pictures: Sequence[tuple[str, str]]  # source and words of each


@dataclass(frozen=True)
class Reconstructions:
    """Rows of the same moments: truth, posterior, prior."""

    index: int
    params: str
    steps: Sequence[int]
    conditioned: int
    rows: Sequence[Row]


@dataclass(frozen=True)
class Exploration:
    """A row for each sample of m: long exposure, then a few moments."""

    index: int
    params: str
    spread: float
    columns: Sequence[str]
    rows: Sequence[Row]


def film_rows(
    trials: Sequence[Trial], filming: Filming, infers: bool, names: Sequence[str], step: int
) -> list[FilmRow]:
    """A film of every episode of every trial, one frame in `step`; without ffmpeg its last picture alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        return [
            FilmRow(
                trial.task.index,
                caption(names, trial.task.params),
                _films(path, trial, filming, infers, step),
            )
            for trial in trials
        ]


def _films(path: Path, trial: Trial, filming: Filming, infers: bool, step: int) -> list[Film]:
    reel = Reel(
        filming.takes[trial.task.index],
        [entry.episode_return for entry in trial.episodes],
        trial.beliefs,
        trial.width if infers else None,
        filming.acts if infers else (),
        filming.probes,
    )
    return [
        Film(
            "" if why_no_films() else _film(path, reel, episode, step),
            png(reel.tile(episode, reel.lengths[episode] - 1 if why_no_films() else 0)),
            f"Episode {episode + 1} on task {trial.task.index}, return {number(earned)}",
            earned,
        )
        for episode, earned in enumerate(reel.returns)
    ]


def film_step(frames: int) -> int:
    """Of episodes with so many frames at most, one in how many is in a film."""
    return math.ceil(frames / MOST_FRAMES)


def reconstructions(sheet: Sheet, task: Task, names: Sequence[str]) -> Reconstructions:
    """What the model sees of an episode of a task, below what there was."""
    titles = {
        "truth": sheet.truth,
        "posterior": sheet.posterior,
        "prior": sheet.prior,
    }
    rows = [
        Row(
            title,
            [(png(frame), f"{title}, step {step}") for step, frame in zip(sheet.steps, frames, strict=True)],
        )
        for title, frames in titles.items()
    ]
    words = caption(names, task.params)
    return Reconstructions(task.index, words, sheet.steps, sheet.conditioned, rows)


def exploration(samples: Sequence[Sample], index: int, params: str, background: Frames) -> Exploration:
    """A row of pictures for each sample; `background` is what is seen where nothing moves."""
    columns = ("long exposure", "first", "middle", "last")
    rows = []
    for order, sample in enumerate(samples, 1):
        frames = sample.frames
        shown = (long_exposure(frames, background), frames[0], frames[len(frames) // 2], frames[-1])
        pairs = zip(columns, shown, strict=True)
        pictures = [(png(frame), f"sample {order}, {column}") for column, frame in pairs]
        rows.append(Row(f"m {order}: {_beginning(sample)}, return {number(sample.episode_return)}", pictures))
    return Exploration(index, params, first_action_spread(samples), columns, rows)


def _beginning(sample: Sample) -> str:
    values = [number(float(value)) for value in sample.first_action[:ACTIONS_SHOWN]]
    more = ["..."] * (len(sample.first_action) > ACTIONS_SHOWN)
    return f"first action ({', '.join([*values, *more])})"


def _film(path: Path, reel: Reel, episode: int, step: int) -> str:
    length = reel.lengths[episode]
    shown = [*range(0, length, step), *[length - 1] * HOLD]
    pictures = (reel.tile(episode, number) for number in shown)
    write_frames(path, pictures, frames_per_second(max(reel.lengths) // step))
    return data_uri("video/mp4", path.read_bytes())
