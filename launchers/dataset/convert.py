"""`metaslac dataset convert`: data sets from and to Minari's format and episodes in .npz files.

The formats are minari_format.py's and episode_files.py's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from metaslac.config.sections import SPLITS
from metaslac.errors import MetaslacError
from metaslac.launchers.dataset.info import summary
from metaslac.launchers.options import UserPath, family_name_option
from metaslac.launchers.signals import interrupted_by_signals
from metaslac.storage.files import check_unused

if TYPE_CHECKING:
    from metaslac.launchers.dataset.foreign import Told

FORMATS = "metaslac", "minari", "npz"


@click.command(short_help="Convert a data set from and to other formats.")
@click.argument("source", metavar="SRC", type=UserPath())
@click.argument("out", type=UserPath())
@click.option("--to", required=True, type=click.Choice(FORMATS), help="The format of OUT.")
@family_name_option(
    show_default="what SRC says",
    help="Of episodes that do not say it, such as dmc:walker-walk.",
)
@click.option(
    "--action-repeat",
    type=click.IntRange(min=1),
    show_default="what SRC says",
    help="Likewise; LOMPO and V-D4RL have 2.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    show_default="what SRC says, or train",
    help="Likewise: of which tasks they are.",
)
@click.option("--task", type=int, show_default="the only one", help="Likewise: index of the task.")
@click.option("--policy", show_default="the name of SRC", help="Likewise: words for who played.")
def convert(
    source: Path,
    out: Path,
    to: str,
    family: str | None,
    action_repeat: int | None,
    split: str | None,
    task: int | None,
    policy: str | None,
) -> None:
    """Convert SRC, a data set of metaslac's or Minari's or a directory of .npz files, to OUT.

    Episodes in .npz files are those of Dreamer, LOMPO and V-D4RL: image, action, reward and discount, where
    action and reward of a row are those that led to it. What SRC says itself cannot be told otherwise. Ctrl-C
    leaves nothing behind.
    """
    from metaslac.launchers.dataset.episode_files import write_episode_files
    from metaslac.launchers.dataset.foreign import Told, check_told
    from metaslac.launchers.dataset.minari_format import write_minari
    from metaslac.replay.data_set import DATA_FILE, open_data_set

    check_unused(out)
    if not source.is_dir():
        raise MetaslacError(f"{source} is not a directory")
    ours = (source / DATA_FILE).is_file()
    if ours == (to == "metaslac"):
        what = "is a data set of metaslac's already" if ours else "must become one of metaslac's first"
        raise MetaslacError(f"{source} {what}: --to {' or --to '.join(FORMATS[1:] if ours else FORMATS[:1])}")
    told = Told(family, action_repeat, split, task, policy, source.resolve().name)
    with interrupted_by_signals():
        if to == "metaslac":
            click.echo(_taken_in(source, out, told))
            return
        data = open_data_set(source)
        check_told(told, source, data.about, data.tasks, data.sources)
        if to == "minari":
            name = write_minari(data, out)
            click.echo(f"{out}: {name}; minari.MinariDataset({str(out / 'data')!r}) reads it")
        else:
            write_episode_files(data, out)
            click.echo(f"{out}: a file for each episode")


def _taken_in(source: Path, out: Path, told: Told) -> str:
    from metaslac.launchers.dataset.episode_files import read_episode_files
    from metaslac.launchers.dataset.minari_format import is_minari, read_minari
    from metaslac.replay.data_set import open_data_set
    from metaslac.replay.data_writer import written_data_set

    about, episodes = (read_minari if is_minari(source) else read_episode_files)(source, told)
    with written_data_set(out, about) as writer:
        for task, episode, said in episodes:
            writer.add(task, episode, said)
    return summary(open_data_set(out, verify=False))
