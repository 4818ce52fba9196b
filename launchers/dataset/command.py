"""The group of `metaslac dataset` and its subcommands.

Each has a file of its own.
"""

from __future__ import annotations

import click

from metaslac.launchers.dataset.convert import convert
from metaslac.launchers.dataset.info import info
from metaslac.launchers.dataset.record import record


@click.group(short_help="Record, look at and convert data sets of episodes.")
def dataset() -> None:
    """Experience on disk, to learn from without an environment."""


for command in (record, info, convert):
    dataset.add_command(command)
