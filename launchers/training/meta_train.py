"""`metaslac meta-train`: settings in, a run directory out.

The work is in api/training.py.
"""

from __future__ import annotations

from pathlib import Path

import click

from metaslac.config.presets import PRESETS
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.launchers import completion
from metaslac.launchers.api import training as api
from metaslac.launchers.options import UserPath, config_option, family_name_option, preset_option
from metaslac.launchers.signals import STOPPED, stop_requested
from metaslac.launchers.training.shared import setting_options, settings_of, tell


@click.command("meta-train", short_help="Meta-train an agent on a task family.")
@family_name_option(
    show_default=Config().family.name,
    help="As listed by `metaslac families`, dmc:<domain>-<task>, or module:attribute of your own.",
)
@preset_option(
    PRESETS,
    show_default="default",
    help="Settings to start from; those called quick are sized for two CPU cores. slac has the schedule of "
    "SLAC's published code, 10,000 random decisions and 100,000 updates of the model alone; its published "
    "figures rise too early for that, and must have begun with fewer. sac-pixels and sac-state are SAC with "
    "the same numbers, pearl is PEARL; sac-state and pearl act on the simulator's state, not on pixels.",
)
@click.option(
    "--run-dir",
    type=UserPath(),
    shell_complete=completion.runs,
    show_default="runs/FAMILY-PRESET-INFERENCE-sSEED",
    help="Where everything is written. A run that is there is gone on with.",
)
@click.option(
    "--resume",
    type=UserPath(),
    shell_complete=completion.runs,
    show_default="none",
    help="Go on with the run in this run directory, with its settings. Only train.updates, runtime.* and "
    "checkpoint.* may be changed.",
)
@config_option
@setting_options
def meta_train(
    family: str | None,
    preset: str | None,
    run_dir: Path | None,
    resume: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    quiet: bool,
    **flags: str | int | None,
) -> int:
    """Meta-train an agent on the training tasks of a family, from pixels.

    Writes progress.csv, TensorBoard events, config.yaml, variant.json and checkpoints to the run directory.
    Now and then it adapts to the family's validation tasks; held-out ones are left to `metaslac evaluate`.
    The same command again goes on from the last checkpoint.

    SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 finish the update, write a checkpoint and exit with 75; a second
    one ends the process at once, and the last whole checkpoint stays.
    """
    if resume is not None and (preset is not None or run_dir is not None):
        raise MetaslacError("--resume goes with neither --preset nor --run-dir: the run has both")
    outcome = api.meta_train(
        family,
        preset,
        run_dir,
        resume=resume,
        config=config,
        settings=settings_of(flags, assignments),
        quiet=quiet,
        stop=stop_requested(),
        tell=tell,
    )
    return 0 if outcome.finished else STOPPED
