"""`metaslac inspect`: what is in a checkpoint or run, and whether it is whole.

Reading and verifying are in `metaslac/storage/`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from metaslac.config.sections import caveat
from metaslac.errors import MetaslacError
from metaslac.launchers import completion
from metaslac.launchers.api.exporting import evaluations_in, mean_returns
from metaslac.launchers.options import UserPath
from metaslac.launchers.outputs import check_writable, table, write_json
from metaslac.training.log.columns import CALLED, return_columns, split_in

ROWS_SHOWN = 5
PROBLEMS_SHOWN = 5


@click.command(short_help="Show what a checkpoint holds, and verify it.")
@click.argument("directory", type=UserPath(), shell_complete=completion.agents)
@click.option("--verify", is_flag=True, show_default="off", help="Read every file and compare its checksum.")
@click.option(
    "--json",
    "json_path",
    type=UserPath(dir_okay=False),
    show_default="none",
    help="Write the same as JSON.",
)
def inspect(directory: Path, verify: bool, json_path: Path | None) -> int:
    """Look into a checkpoint, the last checkpoint of a run directory, or an exported agent.

    Shows manifest, sizes, counters and the latest returns on validation tasks; of an exported agent those of
    the evaluations that came with it.

    Exits with 1 if anything about it is damaged; without --verify only the manifest, the sizes and the small
    files are looked at.
    """
    check_writable(json_path)
    from metaslac.storage.checkpoint import find_checkpoint

    path = find_checkpoint(directory)
    try:
        report = describe(path, verify)
    except MetaslacError as error:
        click.echo(f"metaslac: {error}", err=True)
        return 1
    show(report)
    if json_path is not None:
        write_json(json_path, report)
    problems = report["problems"]
    for problem in problems[:PROBLEMS_SHOWN]:
        click.echo(f"metaslac: {problem}", err=True)
    if len(problems) > PROBLEMS_SHOWN:
        click.echo(f"metaslac: and {len(problems) - PROBLEMS_SHOWN} more; --json has all", err=True)
    return 1 if report["problems"] else 0


def describe(path: Path, verify: bool) -> dict[str, Any]:
    """All there is to tell about the checkpoint at `path`. Raises MetaslacError if nothing can be told."""
    from metaslac.storage.checkpoint import Checkpoint, load_checkpoint
    from metaslac.storage.manifest import damaged_files, is_agent, missing_files, read_manifest
    from metaslac.training.state import ROWS, logged_rows

    manifest = read_manifest(path)
    problems = damaged_files(path, manifest) if verify else missing_files(path, manifest)
    checkpoint: Checkpoint | None = None
    if not problems:
        checkpoint = load_checkpoint(path)
    rows = logged_rows(checkpoint) if checkpoint and ROWS in manifest["files"] else []
    replay = [entry["size"] for name, entry in manifest["files"].items() if name.startswith("replay/")]
    agent = is_agent(manifest)
    return {
        "checkpoint": str(path),
        "weights_only": agent,
        **{name: value for name, value in manifest.items() if name != "files"},
        "parameters": sum(t.numel() for t in checkpoint.tensors.values()) if checkpoint else None,
        "bytes": sum(entry["size"] for entry in manifest["files"].values()),
        "replay_bytes": sum(replay),
        "replay_files": len(replay),
        "files": manifest["files"],
        "evaluations": evaluations(rows),
        "judged": mean_returns(evaluations_in(path)) if agent and not problems else {},
        "verified": verify and not problems,
        "problems": problems,
    }


def evaluations(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Of the rows of progress.csv, those with returns: the mean of each episode, oldest first."""
    split = split_in(rows[0]) if rows else None
    if split is None:
        return []
    found = []
    for row in rows:
        returns = {name: row[name] for name in return_columns(row, split) if not math.isnan(row[name])}
        if returns:
            found.append({"update": row.get("update", math.nan), **returns})
    return found


def show(report: dict[str, Any]) -> None:
    """The report as text."""
    from metaslac.learning.memory import size

    words = caveat(report.get("observation", "pixels"), report.get("state_size", 0) > 0)
    judged = report["judged"].items()
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        ["exported agent" if report["weights_only"] else "checkpoint", report["checkpoint"]],
        ["format", f"{report['format_version']}, written by {versions}"],
        ["family", f"{report['family']}: {_tasks(report)}"],
        ["task list", report["task_hash"]],
        ["updates", f"{report['update']} after {report.get('pretraining_update', 0)} of pre-training"],
        *_experience(report),
        ["weights", "?" if report["parameters"] is None else f"{report['parameters']} numbers"],
        *[["caveat", words]] * (words != ""),
        *[[f"returns ({name})", ", ".join(f"{mean:.2f}" for mean in means)] for name, means in judged],
        ["size", f"{size(report['bytes'])} in {len(report['files']) + 1} files"],
        ["state", _state(report)],
    ]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:{width}}  {text}")
    if report["evaluations"]:
        shown = report["evaluations"][-ROWS_SHOWN:]
        split = split_in(shown[-1]) or "test"
        episodes = range(1, len(shown[-1]))
        header = ["update", *(f"return {episode}" for episode in episodes)]
        cells = [
            [f"{row['update']:.0f}", *(f"{value:.2f}" for value in list(row.values())[1:])] for row in shown
        ]
        click.echo(f"\n{CALLED[split]} returns of each episode, the last {len(shown)} evaluations")
        click.echo(table(header, cells))
    sys.stdout.flush()


def _tasks(report: dict[str, Any]) -> str:
    validation = report.get("validation_tasks", 0)  # not in checkpoints of earlier versions
    more = f", {validation} validation tasks" if validation else ""
    return f"{report['train_tasks']} + {report['test_tasks']} tasks{more}"


def _experience(report: dict[str, Any]) -> list[list[str]]:
    """What was learned from: a data set, or what was played and what is left of it."""
    from metaslac.learning.memory import size

    if report["weights_only"]:
        return [["env steps", f"{report['env_steps']}"]]
    steps = f"{report.get('replay_steps', 0)} steps"
    if "data_set" in report:
        return [["data set", f"{steps}, {report['data_set']}"]]
    broken = f"{report.get('diverged_episodes', 0)} diverged, {report.get('lost_episodes', 0)} lost"
    replay = f"{steps}, {size(report['replay_bytes'])} in {report['replay_files']} files"
    return [["env steps", f"{report['env_steps']}"], ["episodes", broken], ["replay", replay]]


def _state(report: dict[str, Any]) -> str:
    if report["problems"]:
        return f"DAMAGED: {len(report['problems'])} of {len(report['files'])} files"
    if report["weights_only"]:
        return "weights only, whole" + (
            ": every checksum matches" if report["verified"] else "; --verify reads all"
        )
    return "whole: every checksum matches" if report["verified"] else "all files there; --verify reads them"
