"""`metaslac evaluate`: statistics of adaptation over all held-out tasks and several trials.

The statistics are in `metaslac/evaluation.py`; single trials to look at are `metaslac adapt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launchers.family import same_family_option
from launchers.outputs import check_writable, table, write_json
from launchers.trained import checkpoint_option, device_options, load_trained, play
from metaslac.version import library_versions

if TYPE_CHECKING:
    from metaslac.evaluation import EpisodeSummary


@click.command(short_help="Statistics of adaptation over all held-out tasks.")
@checkpoint_option
@same_family_option
@click.option(
    "--episodes", type=click.IntRange(min=1), default=3, show_default=True, help="Episodes in each trial."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Independent trials on each task.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the trials.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="none",
    help="Write the statistics and every return as JSON.",
)
@device_options
def evaluate(
    checkpoint: Path,
    family: str | None,
    episodes: int,
    trials: int,
    seed: int,
    json_path: Path | None,
    device: str,
    threads: int,
) -> None:
    """Evaluate adaptation on every held-out task of the agent's family.

    Shows mean, interquartile mean (IQM) and its 95 % bootstrap interval of the return of each episode.
    """
    check_writable(json_path)
    trained = load_trained(checkpoint, family, device, threads)

    from metaslac.evaluation import returns_array, summarise

    tasks = trained.family.test_tasks
    returns = returns_array(play(trained, tasks, episodes=episodes, trials=trials, seed=seed))
    summaries = summarise(returns, seed=seed)
    click.echo(f"{trained.family.name}: {len(tasks)} held-out tasks, {trials} trials each")
    click.echo(_as_table(summaries))
    if json_path is not None:
        report = {
            "family": trained.family.name,
            "checkpoint": str(checkpoint),
            "task_hash": trained.family.task_hash,
            "update": trained.manifest["update"],
            "env_steps": trained.manifest["env_steps"],
            "episodes": episodes,
            "trials": trials,
            "seed": seed,
            "per_episode": [
                {"episode": row.episode, "mean": row.mean, "iqm": row.iqm, "interval": [row.low, row.high]}
                for row in summaries
            ],
            "tasks": [{"index": task.index, "params": list(map(float, task.params))} for task in tasks],
            "returns": returns.tolist(),
            "versions": library_versions(),
        }
        write_json(json_path, report)


def _as_table(summaries: Sequence[EpisodeSummary]) -> str:
    rows = [
        (str(row.episode), f"{row.mean:.2f}", f"{row.iqm:.2f}", f"{row.low:.2f} to {row.high:.2f}")
        for row in summaries
    ]
    return table(("episode", "mean", "IQM", "95 % interval of the IQM"), rows)
