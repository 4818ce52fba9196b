"""`metaslac settings`: every setting, its value in a preset and what it means.

The settings themselves are in `metaslac/config/sections.py`.
"""

from __future__ import annotations

import click

from metaslac.config.presets import PRESETS, resolve
from metaslac.config.text import describe, to_dict
from metaslac.launchers.options import family_name_option, preset_option


@click.command(short_help="List the settings for --set.")
@family_name_option(default="cheetah_vel", show_default=True, help="Task family the preset is for.")
@preset_option(
    PRESETS,
    default="default",
    show_default=True,
    help="Show its values.",
)
def settings(family: str, preset: str) -> None:
    """List every setting that `meta-train --set section.field=value` takes, with its value and meaning."""
    from metaslac.envs.registry import check_name

    check_name(family)
    values = to_dict(resolve(preset, [f"family.name={family}"]))
    for info in describe():
        section, _, field = info.name.partition(".")
        choices = f" [{', '.join(map(str, info.choices))}]" if info.choices else ""
        click.echo(f"{info.name}={values[section][field]}\n    {info.help}{choices}")
