"""`metaslac families`: which task families there are, and what they look like.

The families themselves are in `envs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from metaslac.config.sections import FamilyConfig
from metaslac.errors import MetaslacError
from metaslac.launchers import completion
from metaslac.launchers.api.family import blamed_on, open_family
from metaslac.launchers.media.marks import Marked
from metaslac.launchers.media.picture import MOMENTS, Strip, check_picture_name, write_sheet
from metaslac.launchers.media.video import Frames, caption, spread
from metaslac.launchers.options import UserPath
from metaslac.launchers.outputs import check_writable, make_room, table

if TYPE_CHECKING:
    from metaslac.envs.family import Family, Task
    from metaslac.envs.overlay import Overlay
    from metaslac.envs.worlds.viewer import View

SUITE = "dmc:<domain>-<task> makes any task of dm_control's suite a family of one task"
NAMES_WIDTH = 32  # of all parameters' names together; of more, the first is listed
HOLD = 5  # decisions that each random action is held for

SPLITS = {"train": "training", "validation": "validation", "test": "held out"}

Flags = NDArray[np.bool_]


@click.command(short_help="List the task families, or draw one.")
@click.option(
    "--suite", is_flag=True, show_default="off", help="List the names of dm_control's suite instead."
)
@click.option(
    "--show",
    metavar="NAME",
    shell_complete=completion.families,
    show_default="none",
    help="Draw a contact sheet of a family instead.",
)
@click.option("--out", type=UserPath(), show_default="none", help="Where --show writes its .png.")
@click.option(
    "--tasks", type=click.IntRange(min=1), default=4, show_default=True, help="Tasks that --show draws."
)
@click.option(
    "--plain", is_flag=True, show_default="off", help="Leave out what --show marks for people alone."
)
@click.option(
    "--image-size",
    type=int,
    default=FamilyConfig().image_size,
    show_default=True,
    help="Height and width of the pixels that --show draws.",
)
@click.option(
    "--action-repeat",
    type=int,
    default=FamilyConfig().action_repeat,
    show_default=True,
    help="Control steps per action in --show.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the start and the random actions in --show.",
)
def families(
    suite: bool,
    show: str | None,
    out: Path | None,
    tasks: int,
    plain: bool,
    image_size: int,
    action_repeat: int,
    seed: int,
) -> None:
    """List every task family: parameters, numbers of tasks, episode length and task-list hash.

    Tasks are to train on, to choose settings on (validation), or to judge on (held out).

    With --show, draw some tasks of one as the agent sees them: a row for each, from the same start under the
    same random actions. Goals and the like are marked on these pictures for people; no agent sees the marks.
    """
    if (show is None) != (out is None):
        raise MetaslacError("--show NAME and --out FILE.png go together")
    if suite and show is not None:
        raise MetaslacError("--suite and --show do not go together")
    if suite:
        _list_suite()
    elif show is None or out is None:
        _list_families()
    else:
        check_picture_name(out, "--out")
        check_writable(out)
        family = open_family(show, image_size=image_size, action_repeat=action_repeat)
        with blamed_on(show):
            chosen = spread(family.train_tasks + family.test_tasks, tasks)
            headings, strips = contact_sheet(family, chosen, seed, plain)
        make_room(out)
        write_sheet(out, headings, strips)


def contact_sheet(
    family: Family, tasks: Sequence[Task], seed: int, plain: bool = True
) -> tuple[list[str], list[Strip]]:
    """Headings of the columns and a strip for each task: the same moments of each, until it is over.

    Unless `plain`, with marks for people.
    """
    from metaslac.envs.worlds.viewer import overlay_of

    overlays = [overlay_of(family, task) for task in tasks]
    # Played twice, as nobody knows before how long an episode is, and all its frames may not fit in memory.
    follows = [overlay.follows for overlay in overlays]
    played = [(flags, views) for _, flags, views in _play(family, tasks, seed, follows)]
    over = np.array([flags for flags, _ in played])  # (steps + 1, tasks)
    steps = np.linspace(0, len(over) - 1, MOMENTS).round().astype(int)
    ends = (~over).sum(axis=0)  # the first step at which each is over
    again = enumerate(_play(family, tasks, seed, follows))
    frames = {step: pictures for step, (pictures, _, _) in again if step in steps}
    strips = []
    for row, (task, end, overlay) in enumerate(zip(tasks, ends, overlays, strict=True)):
        kept = [step for step in steps.tolist() if step <= end]
        shown = np.stack([frames[step][row] for step in kept])
        views = [view[row] for _, view in played]
        marked = [] if plain else [_marked(overlay, views[: step + 1]) for step in kept]
        strips.append(Strip(_title(family, task, int(end), overlay), shown, marked))
    return [f"step {step}" for step in steps], strips


def _marked(overlay: Overlay, views: Sequence[View]) -> Marked:
    path = [view.place for view in views if view.place is not None]
    return Marked(overlay, views[-1], path)


def _play(
    family: Family, tasks: Sequence[Task], seed: int, follows: Sequence[str]
) -> Iterator[tuple[Frames, Flags, list[View]]]:
    """Frames (tasks, H, W, 3), which tasks are over, and views: at the start and after each decision."""
    from metaslac.envs import make_vector_env
    from metaslac.envs.worlds.viewer import Viewer

    rng = np.random.default_rng((seed, 1))
    action = np.zeros(family.action_size)
    over: Flags = np.zeros(len(tasks), dtype=bool)
    with closing(make_vector_env(family, len(tasks))) as env, closing(Viewer(env)) as viewer:

        def views() -> list[View]:
            return [viewer.view(world, geom) for world, geom in enumerate(follows)]

        options = {"task": [task.index for task in tasks]}
        frames, _ = env.reset(seed=[seed] * len(tasks), options=options)
        yield np.asarray(frames, dtype=np.uint8), over, views()
        for step in range(family.episode_steps):
            if over.all():
                return
            if step % HOLD == 0:
                action = rng.uniform(-1.0, 1.0, family.action_size)
            frames, _, terminated, truncated, _ = env.step(np.tile(action, (len(tasks), 1)))
            over = terminated | truncated
            yield np.asarray(frames, dtype=np.uint8), over, views()


def _title(family: Family, task: Task, end: int, overlay: Overlay) -> str:
    split = SPLITS[task.split]
    ended = f"over after {end} steps" if end < family.episode_steps else ""
    facts = "   ".join(f"{name} {value}" for name, value in overlay.facts)
    parts = [f"task {task.index} ({split})", facts or caption(family.param_names, task.params), ended]
    return "   ".join(part for part in parts if part)


def _list_suite() -> None:
    from metaslac.envs.families.suite import suite_names

    names = suite_names()
    click.echo("\n".join(names))
    click.echo(f"{SUITE}: these are {len(names)}")


def _list_families() -> None:
    from metaslac.envs import FamilyError, family_names
    from metaslac.envs.registry import refused_offers

    options = FamilyConfig()
    rows, faults = [], list(refused_offers())
    for name in family_names():
        try:
            family = open_family(name, image_size=options.image_size, action_repeat=options.action_repeat)
        except FamilyError as error:
            faults.append(str(error))
        else:
            rows.append(_row(name, family))
    header = ("family", "parameters", "train", "validation", "held out", "horizon", "actions", "task list")
    click.echo(table(header, rows))
    click.echo(f"{SUITE}; `metaslac families --suite` lists them")
    for fault in faults:
        click.echo(f"metaslac: {fault}", err=True)


def _row(name: str, family: Family) -> tuple[str, ...]:
    return (
        name,
        _names(family.param_names),
        str(len(family.train_tasks)),
        str(len(family.validation_tasks)),
        str(len(family.test_tasks)),
        str(family.horizon),
        str(family.action_size),
        family.task_hash[:12],
    )


def _names(names: Sequence[str]) -> str:
    whole = ", ".join(names)
    return whole if len(whole) <= NAMES_WIDTH else f"{names[0]}, ... ({len(names)})"
