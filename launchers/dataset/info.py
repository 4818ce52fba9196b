"""`metaslac dataset info`: what is in a data set, and whether it is whole.

Reading and checking are in metaslac/replay/data_set.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metaslac.launchers.options import UserPath
from metaslac.launchers.outputs import check_writable, table, write_json

if TYPE_CHECKING:
    from metaslac.replay.data_set import DataSet

ABOUT = "family", "task_hash", "split", "observation", "image_size", "frames", "action_repeat", "state_size"


@click.command(short_help="Show what a data set holds, and verify it.")
@click.argument("directory", type=UserPath())
@click.option(
    "--json",
    "json_path",
    type=UserPath(dir_okay=False),
    show_default="none",
    help="Write the same as JSON.",
)
def info(directory: Path, json_path: Path | None) -> None:
    """Show family, tasks, episodes and returns by source; every file is read and its checksum compared."""
    check_writable(json_path)
    from metaslac.replay.data_set import open_data_set

    data = open_data_set(directory)
    click.echo(summary(data))
    if json_path is not None:
        write_json(json_path, report(data))
        click.echo(f"the same as JSON: {json_path}")


def report(data: DataSet) -> dict[str, Any]:
    """All there is to tell about a data set, for JSON."""
    returns, spoken = data.returns(), data.episodes[:, 4]
    parts = [(said, returns[spoken == number]) for number, said in enumerate(data.sources)]
    return {
        "path": str(data.path),
        **{name: getattr(data.about, name) for name in ABOUT},
        "seed": data.about.seed,
        "tasks": len(data.tasks),
        "episodes": len(data.episodes),
        "steps": data.steps,
        "bytes": data.bytes,
        "sources": [
            {
                "source": said,
                "episodes": len(part),
                "mean_return": float(part.mean()),
                "min_return": float(part.min()),
                "max_return": float(part.max()),
            }
            for said, part in parts
            if len(part)
        ],
        "versions": data.manifest["versions"],
        "commit": data.manifest["commit"],
    }


def summary(data: DataSet) -> str:
    """The same as text."""
    from metaslac.learning.memory import size

    told = report(data)
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    lines = [
        ["data set", told["path"]],
        ["written by", versions],
        ["commit", told["commit"] or "?"],
        ["family", f"{told['family']}, {_counted(told['tasks'], 'task')} ({told['split']})"],
        ["task list", told["task_hash"]],
        ["observed", _observed(data)],
        ["episodes", f"{told['episodes']} with {_counted(told['steps'], 'step')}"],
        ["size", size(told["bytes"])],
    ]
    width = max(len(name) for name, _ in lines)
    header = ["source", "episodes", "mean return", "lowest", "highest"]
    rows = [
        [
            part["source"],
            str(part["episodes"]),
            *(f"{part[name]:.2f}" for name in ("mean_return", "min_return", "max_return")),
        ]
        for part in told["sources"]
    ]
    return "\n".join([*(f"{name:{width}}  {text}" for name, text in lines), "", table(header, rows)])


def _observed(data: DataSet) -> str:
    about = data.about
    beside = f"{_counted(about.state_size, 'number')} of the simulator's state"
    if about.observation == "state":
        return f"{beside}, action repeat {about.action_repeat}"
    pixels = f"{about.image_size} x {about.image_size} pixels"
    if about.frames > 1:
        pixels = f"stacks of {about.frames} pictures of {pixels}"
    return f"{pixels}, action repeat {about.action_repeat}" + f"; and {beside}" * (about.state_size > 0)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
