"""`metaslac dataset record`: episodes of agents, of random actions or of a replay, written as a data set.

The work is in api/data_sets.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from metaslac.config.schedule import LARGEST_SEED
from metaslac.config.sections import OBSERVATIONS, SPLITS, FamilyConfig
from metaslac.errors import MetaslacError
from metaslac.launchers import completion
from metaslac.launchers.api import data_sets as api
from metaslac.launchers.dataset.info import summary
from metaslac.launchers.options import UserPath, device_options, same_family_option
from metaslac.launchers.signals import interrupted_by_signals

USUAL = FamilyConfig()


@click.command(short_help="Record a data set.")
@click.option(
    "--checkpoint",
    type=UserPath(),
    shell_complete=completion.agents,
    multiple=True,
    show_default="none",
    help="A checkpoint directory, a run directory for its last one, or an exported agent; it plays. May be "
    "repeated.",
)
@click.option(
    "--random",
    metavar="FAMILY",
    shell_complete=completion.families,
    show_default="none",
    help="Or the family in which random actions are played.",
)
@click.option(
    "--episodes",
    type=click.IntRange(min=1),
    show_default="with --from-replay all",
    help="Episodes of every task, from every source; of a replay the newest.",
)
@click.option("--out", required=True, type=UserPath(), help="The directory to write; it must not be there.")
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="train",
    show_default=True,
    help="Tasks that are played.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    default=0,
    show_default=True,
    help="Seed of all that is random.",
)
@click.option(
    "--stages",
    metavar="A,B,C",
    show_default="its last one",
    help="Checkpoints of each run after so many updates, each a source.",
)
@click.option(
    "--from-replay", is_flag=True, show_default="off", help="Take what is in the replays, and play nothing."
)
@click.option(
    "--trial-episodes",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Episodes of a trial, the first with m from the prior and the others from the trial's posterior.",
)
@click.option(
    "--deterministic", is_flag=True, show_default="off", help="Agents act on the mean of their policy."
)
@click.option("--states", is_flag=True, show_default="off", help="Record the simulator's states too.")
@click.option(
    "--image-size", type=int, show_default=str(USUAL.image_size), help="Of the pixels with --random."
)
@click.option(
    "--action-repeat",
    type=int,
    show_default=str(USUAL.action_repeat),
    help="Control steps per action with --random.",
)
@click.option(
    "--frames", type=int, show_default=str(USUAL.frames), help="Pictures of an observation with --random."
)
@click.option(
    "--observation",
    type=click.Choice(OBSERVATIONS),
    show_default=USUAL.observation,
    help="What is observed with --random.",
)
@click.option(
    "--hold", type=int, show_default="1", help="Decisions that each action is held for with --random."
)
@same_family_option
@device_options
def record(out: Path, stages: str | None, **options: Any) -> None:
    """Record episodes of the tasks of a family as a data set.

    Agents play trials as `metaslac adapt` plays them, but on a sample of their policy: in each trial m comes
    from the prior at first, then from the posterior of that trial. Ctrl-C leaves nothing behind.
    """
    with interrupted_by_signals():
        data = api.record(out, stages=_numbers(stages), **options)
    click.echo(summary(data))


def _numbers(stages: str | None) -> list[int]:
    try:
        return [int(part) for part in stages.split(",")] if stages is not None else []
    except ValueError:
        raise MetaslacError(
            f"--stages takes numbers of updates, such as 0,1000,4000, not {stages!r}"
        ) from None
