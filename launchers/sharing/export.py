"""`metaslac export`: a trained agent in a small directory of its own, or on Hugging Face's Hub.

The work is in api/exporting.py.
"""

from __future__ import annotations

from pathlib import Path

import click

from metaslac.launchers import completion
from metaslac.launchers.api import exporting as api
from metaslac.launchers.options import UserPath


@click.command(short_help="Make a small, shareable agent of a run.")
@click.argument("directory", type=UserPath(), shell_complete=completion.runs)
@click.option(
    "--out",
    type=UserPath(),
    show_default="none",
    help="The directory to make; it must not be there, or be empty.",
)
@click.option(
    "--push-to-hub",
    metavar="OWNER/NAME",
    show_default="none",
    help="Put it into this repository on Hugging Face's Hub, logged in with `hf auth login`.",
)
@click.option(
    "--private", is_flag=True, show_default="off", help="Make that repository a private one, if it is new."
)
def export(directory: Path, out: Path | None, push_to_hub: str | None, private: bool) -> None:
    """Make an exported agent of a finished run, or of the checkpoint in DIRECTORY.

    It has the weights that act and infer the task, configuration, evaluations, a model card and checksums:
    safetensors, JSON, YAML and Markdown. All that takes a checkpoint to act with takes it; no training goes
    on from it. With --push-to-hub, DIRECTORY may be an exported agent.
    """
    from metaslac.learning.memory import size

    exported = api.export(directory, out, push_to_hub=push_to_hub, private=private)
    if exported.path is not None:
        total = sum(path.stat().st_size for path in exported.path.iterdir())
        judged = ", ".join(exported.evaluations) or "no evaluation: metaslac evaluate makes one"
        click.echo(f"{exported.path}: {size(total)}, {judged}")
    if exported.address is not None:
        click.echo(f"{exported.address}: metaslac adapt --checkpoint hf:{push_to_hub}")
