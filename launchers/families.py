"""`metaslac families`: which task families there are.

The families themselves are in `envs`.
"""

from __future__ import annotations

import click

from launchers.outputs import table


@click.command(short_help="List the task families.")
def families() -> None:
    """List every task family: parameters, train and held-out tasks, episode length and task-list hash."""
    from envs import family_names, make_family

    header = ("family", "parameters", "train", "held out", "horizon", "actions", "task list")
    rows = []
    for name in family_names():
        family = make_family(name)
        rows.append(
            (
                name,
                ", ".join(family.param_names),
                str(len(family.train_tasks)),
                str(len(family.test_tasks)),
                str(family.horizon),
                str(family.action_size),
                family.task_hash[:12],
            )
        )
    click.echo(table(header, rows))
