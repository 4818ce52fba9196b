"""`metaslac adapt`: let a trained agent adapt to held-out tasks, and show what came of it.

The work is in api/adaptation.py; statistics over trials are `metaslac evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metaslac.config.schedule import LARGEST_SEED
from metaslac.config.sections import caveat
from metaslac.errors import MetaslacError
from metaslac.launchers.api import adaptation as api
from metaslac.launchers.api.adaptation import Adapted
from metaslac.launchers.media.film import Film
from metaslac.launchers.media.filming import Filming
from metaslac.launchers.media.picture import check_picture_name, write_picture
from metaslac.launchers.media.video import (
    CODEC_STEP,
    PICTURE,
    Clip,
    Reel,
    caption,
    check_video,
    spread,
    write_video,
)
from metaslac.launchers.options import (
    TakesParams,
    UserPath,
    checkpoint_option,
    device_options,
    drawing_options,
    params_option,
    same_family_option,
)
from metaslac.launchers.outputs import check_writable, make_room, table, tell, write_json

if TYPE_CHECKING:
    from metaslac.envs.family import Family

MOST_TILES = 9
MOST_ROWS = 3
MOST_COLUMNS = 4  # of task parameters


@click.command(cls=TakesParams, short_help="Adapt to held-out tasks and show the returns.")
@checkpoint_option
@same_family_option
@click.option(
    "--episodes", type=click.IntRange(min=1), default=2, show_default=True, help="Episodes on each task."
)
@click.option(
    "--task", "task_index", type=int, show_default="all held-out tasks", help="Index of one held-out task."
)
@params_option
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True, help="Seed of the trial."
)
@click.option(
    "--video",
    type=UserPath(dir_okay=False),
    show_default="none",
    help=f"Write an .mp4 or .gif of --task, or of {MOST_TILES} held-out tasks side by side.",
)
@click.option(
    "--picture",
    type=UserPath(dir_okay=False),
    help="Write a .png of --task, or of a few held-out tasks: a row of frames per episode.  [default: none]",
)
@click.option(
    "--size",
    type=click.IntRange(192, 1024),
    default=PICTURE,
    show_default=True,
    help=f"Height and width of the pictures of --video and --picture, a multiple of {CODEC_STEP}.",
)
@click.option(
    "--plain",
    is_flag=True,
    show_default="off",
    help="Show in --video and --picture what the agent sees, with nothing drawn on it for people.",
)
@click.option(
    "--json",
    "json_path",
    type=UserPath(dir_okay=False),
    show_default="none",
    help="Write the table as JSON.",
)
@drawing_options
@device_options
def adapt(
    checkpoint: Path,
    family: str | None,
    episodes: int,
    task_index: int | None,
    params: list[float] | None,
    seed: int,
    video: Path | None,
    picture: Path | None,
    size: int,
    plain: bool,
    json_path: Path | None,
    redraw_every: int | None,
    mean_below: float | None,
    device: str,
    threads: int,
) -> None:
    """Let a trained agent adapt to one or all held-out tasks of its family, or to a task of your own.

    Shows the return of every episode and how the belief about the task narrowed, of agents that infer it:
    the standard deviation of the task variable after each episode, averaged over its dimensions; it is 1
    before the first.

    Videos and pictures show people what the agent is not told: the goal or what else the task is, and what it
    believes of that, read from its belief by a linear probe that is fitted on a few trials of training tasks.
    """
    if size % CODEC_STEP:
        raise MetaslacError(f"--size {size}: must be a multiple of {CODEC_STEP}")
    check_writable(json_path)
    _check_no_other_result(json_path)
    check_writable(video)
    check_writable(picture)
    check_video(video)
    check_picture_name(picture)
    filmed = bool(video or picture)
    filming = Filming(size, MOST_TILES if video else MOST_ROWS) if filmed and not plain else None
    adapted = api.adapt(
        checkpoint,
        episodes=episodes,
        task=task_index,
        params=params,
        seed=seed,
        family=family,
        device=device,
        threads=threads,
        redraw_every=redraw_every,
        mean_below=mean_below,
        keep_frames=filmed and plain,
        filming=filming,
    )
    report = _report(adapted, checkpoint)
    tell(_as_table(adapted.family, report, adapted.infers))
    if words := caveat(adapted.family.observation, adapted.privileged):
        tell(words)
    if json_path is not None:
        write_json(json_path, report)
        tell(f"the table as JSON: {json_path}")
    if video is not None:
        make_room(video)
        write_video(video, _reels(adapted, filming, MOST_TILES, size))
        tell(f"video: {video}")
    if picture is not None:
        make_room(picture)
        write_picture(picture, _reels(adapted, filming, MOST_ROWS, size))
        tell(f"picture: {picture}")


def _check_no_other_result(path: Path | None) -> None:
    """Raise MetaslacError if a file is there that is no table of this command's: it may have taken hours."""
    if path is None or not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not (isinstance(found, dict) and "mean_returns" in found):
        raise MetaslacError(
            f"--json {path}: what is there is not a table of adapt's; choose another name, or delete it"
        )


def _report(adapted: Adapted, checkpoint: Path) -> dict[str, Any]:
    family, results, privileged = adapted
    by_episode = zip(*(result.returns for result in results), strict=True)
    return {
        "family": family.name,
        "checkpoint": str(checkpoint),
        "task_hash": family.task_hash,
        "observation": family.observation,
        "privileged": privileged,
        "tasks": [
            {
                "index": None if result.task in family.own_tasks else result.task.index,
                "params": [float(value) for value in result.task.params],
                "returns": [float(value) for value in result.returns],
                "belief_std": [float(value) for value in result.belief_width[1:]],
            }
            for result in results
        ],
        "mean_returns": [float(sum(returns) / len(results)) for returns in by_episode],
    }


def _as_table(family: Family, report: dict[str, Any], infers: bool) -> str:
    episodes = range(1, len(report["mean_returns"]) + 1)
    shown = family.param_names[:MOST_COLUMNS]
    more = ["..."] * (len(shown) < len(family.param_names))
    header = [
        "task",
        *shown,
        *more,
        *(f"return {e}" for e in episodes),
        *(f"belief {e}" for e in episodes if infers),
    ]
    rows = [
        [
            "own" if task["index"] is None else str(task["index"]),
            *(f"{value:.3f}" for value in task["params"][:MOST_COLUMNS]),
            *more,
            *(f"{value:.2f}" for value in task["returns"]),
            *(f"{value:.3f}" for value in task["belief_std"] if infers),
        ]
        for task in report["tasks"]
    ]
    blank = [""] * (len(shown) + len(more))
    means = [f"{value:.2f}" for value in report["mean_returns"]]
    rows.append(["mean", *blank, *means, *[""] * len(episodes) * infers])
    return table(header, rows)


def _reels(adapted: Adapted, filming: Filming | None, most: int, size: int) -> Sequence[Reel]:
    if filming is None:
        return [
            Clip(
                caption(adapted.family.param_names, result.task.params),
                list(result.frames),
                [float(value) for value in result.returns],
                size,
            )
            for result in spread(adapted.tasks, most)
        ]
    filmed = [result for result in adapted.tasks if result.task.index in filming.takes]
    return [
        Film(
            filming.takes[result.task.index],
            result.returns,
            result.step_means,
            result.step_width if adapted.infers else None,
            filming.acts if adapted.infers else (),
            filming.probes,
        )
        for result in spread(filmed, most)
    ]
