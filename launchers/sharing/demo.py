"""`metaslac demo`: a shipped agent adapts to a task of the user's choice, and is filmed.

It is `metaslac adapt` with the choices made; what comes with metaslac is `metaslac zoo`.
"""

from __future__ import annotations

from pathlib import Path

import click

from metaslac.launchers import completion
from metaslac.launchers.adapt import adapt
from metaslac.launchers.media.video import why_no_films
from metaslac.launchers.options import TakesParams, UserPath, device_options, params_option
from metaslac.launchers.outputs import free_name

EPISODES = 3


@click.command(cls=TakesParams, short_help="Watch a shipped agent adapt to a task of your choice.")
@click.argument("name", metavar="[FAMILY]", default="point_robot", shell_complete=completion.shipped)
@click.option("--task", type=int, show_default="the first held-out one", help="Index of a held-out task.")
@params_option
@click.option(
    "--episodes",
    type=click.IntRange(min=1),
    default=EPISODES,
    show_default=True,
    help="Episodes on the task.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the trial.")
@click.option(
    "--video",
    type=UserPath(dir_okay=False),
    show_default="demo-FAMILY.mp4, here, or with a number where that is there; .gif without ffmpeg",
    help="Where the video goes.",
)
@device_options
@click.pass_context
def demo(
    context: click.Context,
    name: str,
    task: int | None,
    params: list[float] | None,
    episodes: int,
    seed: int,
    video: Path | None,
    device: str,
    threads: int,
) -> None:
    """Let a trained agent that comes with metaslac adapt to one task, and film it.

    FAMILY is the name of one that `metaslac zoo` lists. The task is a held-out one, or one of your own: of
    point_robot's, --params 0.5 -0.3 is a goal.
    """
    from metaslac.envs import make_family
    from metaslac.storage.manifest import read_manifest
    from metaslac.storage.named import ZOO_PREFIX, shipped_agent

    manifest = read_manifest(shipped_agent(name))
    if task is None and params is None:
        task = make_family(manifest["family"]).test_tasks[0].index
    context.invoke(
        adapt,
        checkpoint=Path(f"{ZOO_PREFIX}{name}"),
        episodes=episodes,
        task_index=task,
        params=params,
        seed=seed,
        video=video or free_name(Path(f"demo-{name}.{'gif' if why_no_films() else 'mp4'}")),
        device=device,
        threads=threads,
    )
