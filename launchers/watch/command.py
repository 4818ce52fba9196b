"""`metaslac watch`: a page to play with a trained agent on tasks of one's own.

Playing is session.py's, serving server.py's.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metaslac.config.schedule import LARGEST_SEED
from metaslac.config.sections import caveat
from metaslac.launchers.api.trained import Trained, load_trained
from metaslac.launchers.media.video import frames_per_second
from metaslac.launchers.options import checkpoint_or, device_options, same_family_option
from metaslac.launchers.signals import stop_requested
from metaslac.storage.files import user_path

if TYPE_CHECKING:
    from metaslac.launchers.watch.server import PageServer
    from metaslac.launchers.watch.tasks import TaskChoice

EPISODES_READ = 3  # beliefs after more are read as after these


@click.command(short_help="Play with a trained agent in the browser.")
@checkpoint_or("zoo:point_robot")
@same_family_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes one that is free.",
)
@click.option(
    "--size",
    type=click.IntRange(192, 1024),
    default=480,
    show_default=True,
    help="Height and width of the picture in pixels.",
)
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True, help="Seed of the trials."
)
@device_options
def watch(
    checkpoint: Path,
    family: str | None,
    host: str,
    port: int,
    size: int,
    seed: int,
    device: str,
    threads: int,
) -> None:
    """Serve a page on this machine to play with a trained agent: click a goal and watch it adapt.

    The page shows the episodes as they are played, with what the agent is not told and what it believes of
    that; "forget" begins a new trial. The task variable m can be drawn once an episode or at every decision,
    or set by hand, to see what it means. It listens to this machine alone unless --host says otherwise.
    Ctrl-C ends it.
    """
    from metaslac.launchers.watch.server import PageServer

    with closing(PageServer(host, port)) as server:
        trained = load_trained(user_path(checkpoint), family, device, threads)
        _serve(server, trained, str(checkpoint), size, seed)
    click.echo("ended")


def _serve(server: PageServer, trained: Trained, checkpoint: str, size: int, seed: int) -> None:
    from metaslac.launchers.api.process import torch_threads
    from metaslac.launchers.api.reading import read_beliefs
    from metaslac.launchers.watch.board import Board, Notice
    from metaslac.launchers.watch.orders import Wishes, follow
    from metaslac.launchers.watch.server import Show
    from metaslac.launchers.watch.session import Session
    from metaslac.launchers.watch.tasks import TaskChoice

    choice = TaskChoice(trained.family, trained.config.family.name)
    pace = float(frames_per_second(trained.family.episode_steps))
    board = Board(Wishes(choice.first, pace, redraw=bool(trained.drawing.every)))

    def order(asked: Any) -> None:
        def change(notice: Notice) -> Wishes:
            camera = None if notice.shown is None else notice.shown.camera
            return follow(asked, notice.wishes, choice, camera, trained.agent.task_size)

        board.ask(change)

    about = _about(trained, choice, checkpoint)
    if about["read"]:
        click.echo("finding out how to read its beliefs ...")
    probes = read_beliefs(trained, episodes=EPISODES_READ, seed=seed)
    with (
        torch_threads(trained.threads),
        closing(Session(trained, board, probes, size, seed)) as session,
        stop_requested() as stopped,
    ):
        server.open(Show(board, about, order))
        if about["caveat"]:
            click.echo(about["caveat"])
        click.echo(f"{server.address}  (Ctrl-C ends it)")
        session.play(stopped)


def _about(trained: Trained, choice: TaskChoice, checkpoint: str) -> dict[str, Any]:
    """What the page has to know and never changes."""
    from metaslac.launchers.watch.orders import FARTHEST, FASTEST, SLOWEST

    infers = trained.config.task.inference == "infer"
    return {
        "agent": checkpoint,
        "caveat": caveat(trained.family.observation, trained.config.privileged),
        "family": trained.family.name,
        "goals": choice.has_goals,
        "marked": choice.has_marks,
        "sliders": [slider._asdict() for slider in choice.sliders],
        "tasks": len(trained.family.test_tasks),
        "steps": trained.family.episode_steps,
        "infers": infers,
        "read": infers and choice.has_marks,
        "pixels": trained.family.image_size if trained.family.observation == "pixels" else 0,
        "frames": trained.family.frames,
        "size": trained.agent.task_size,
        "farthest": FARTHEST,
        "paces": [SLOWEST, FASTEST],
    }
