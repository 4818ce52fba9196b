"""The `metaslac` command and its subcommands.

Each subcommand lives in a file of its own; errors become one line in `errors.py`.
"""

from __future__ import annotations

import codecs
import io
import os
import sys

import click

from metaslac.launchers.adapt import adapt
from metaslac.launchers.api.process import keep_large_blocks
from metaslac.launchers.dataset.command import dataset
from metaslac.launchers.doctor import doctor
from metaslac.launchers.errors import OneLineErrors
from metaslac.launchers.evaluate import evaluate
from metaslac.launchers.families import families
from metaslac.launchers.inspect import inspect
from metaslac.launchers.report.command import report
from metaslac.launchers.settings import settings
from metaslac.launchers.sharing.demo import demo
from metaslac.launchers.sharing.export import export
from metaslac.launchers.sharing.zoo import zoo
from metaslac.launchers.sweep.command import sweep
from metaslac.launchers.training.meta_train import meta_train
from metaslac.launchers.training.offline_train import offline_train
from metaslac.launchers.watch.command import watch
from metaslac.storage.version import __version__


@click.group(
    cls=OneLineErrors,
    invoke_without_command=True,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="metaslac", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Meta-train an agent from pixels, then let it adapt to tasks it has never seen."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


TRAINING = meta_train, offline_train, sweep
SHARING = export, zoo, demo
for command in (
    *TRAINING,
    adapt,
    watch,
    evaluate,
    report,
    inspect,
    dataset,
    *SHARING,
    families,
    settings,
    doctor,
):
    cli.add_command(command)


def main() -> None:
    """The entry point of the installed command."""
    keep_large_blocks()
    _open_what_is_closed()
    _say_any_name()
    cli(prog_name="metaslac")


def _open_what_is_closed() -> None:
    """Give a process that was started without standard files such as lead nowhere, as init does.

    Else the next files to be opened would have their numbers, and what a library prints would be in them.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _say_any_name() -> None:
    """Have a name that the output's encoding has no letters for said as it is in bytes, or with marks."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "replace")
