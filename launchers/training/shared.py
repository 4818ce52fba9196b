"""What commands that train have in common: options that are short for settings, and how lines are said."""

from __future__ import annotations

from contextlib import suppress

import click

from metaslac.config.presets import FAMILY_PRESETS, PRESETS
from metaslac.config.runtime import DEVICES
from metaslac.config.sections import TASK_INFERENCE, Config
from metaslac.launchers.options import SETTINGS, Command, track_option


def default(name: str) -> str:
    """The default of a setting in words, and whether a preset may have another."""
    section, _, field = name.partition(".")
    value = str(getattr(getattr(Config(), section), field))
    preset = any(name in settings for settings in (*PRESETS.values(), *FAMILY_PRESETS.values()))
    return f"{value}, or the preset's" if preset else value


def setting_options(command: Command) -> Command:
    """--seed, --device, --updates, --task-inference, --threads, --set, --track and --quiet."""
    options = (
        click.option(
            "--seed",
            type=int,
            show_default=default("train.seed"),
            help="Seed of everything random in the run.",
        ),
        click.option(
            "--device",
            type=click.Choice(DEVICES),
            show_default=default("runtime.device"),
            help="Where to compute.",
        ),
        click.option(
            "--updates", type=int, show_default=default("train.updates"), help="Updates after pre-training."
        ),
        click.option(
            "--task-inference",
            type=click.Choice(TASK_INFERENCE),
            show_default=default("task.inference"),
            help="Infer the task, be given it (oracle) or never know it (blind).",
        ),
        click.option(
            "--threads",
            type=int,
            show_default=default("runtime.threads"),
            help="CPU threads; 0 takes as many as this process may use.",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="SECTION.FIELD=VALUE",
            help="Any setting of `metaslac settings`; may be repeated, the last one wins.",
        ),
        track_option,
        click.option("--quiet", is_flag=True, show_default="off", help="No progress on the screen."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def settings_of(flags: dict[str, str | int | None], assignments: tuple[str, ...]) -> list[str]:
    """Flags that were given as the settings that they are short for, then those of --set."""
    named = [f"{SETTINGS[flag]}={value}" for flag, value in flags.items() if value is not None]
    return [*named, *assignments]


def tell(text: str) -> None:
    """Print a line, if there is still someone to read it."""
    with suppress(OSError):
        click.echo(text)
