"""`metaslac offline-train`: train an agent on a data set; the work is in api/offline.py."""

from __future__ import annotations

from pathlib import Path

import click

from metaslac.config.offline import ALGORITHMS, SIZES
from metaslac.launchers import completion
from metaslac.launchers.api import offline as api
from metaslac.launchers.options import NearChoice, UserPath, family_name_option, preset_option
from metaslac.launchers.signals import STOPPED, stop_requested
from metaslac.launchers.training.shared import setting_options, settings_of, tell


@click.command("offline-train", short_help="Train an agent on a data set, playing nothing.")
@click.option(
    "--dataset",
    type=UserPath(),
    show_default="none; with --resume the run's",
    help="A directory that `metaslac dataset` made, of training tasks.",
)
@click.option(
    "--algorithm",
    type=NearChoice(list(ALGORITHMS)),
    show_default="lompo",
    help="lompo imagines half of what actor and critics learn from, with lower rewards where an ensemble of "
    "latent models disagrees; no-penalty is the same without that; actor-critic learns from the data alone, "
    "model-free so without a latent model; cloning copies the recorded actions.",
)
@preset_option(
    SIZES,
    show_default="quick",
    help="Sizes to start from: quick is for two CPU cores; lompo has LOMPO's published numbers, where there "
    "are such settings.",
)
@click.option(
    "--run-dir",
    type=UserPath(),
    shell_complete=completion.runs,
    show_default="runs/FAMILY-ALGORITHM-PRESET-INFERENCE-sSEED",
    help="Where everything is written. A run that is there is gone on with.",
)
@click.option(
    "--resume",
    type=UserPath(),
    shell_complete=completion.runs,
    show_default="none",
    help="Go on with the run in this run directory, with its settings. Only train.updates, runtime.* and "
    "checkpoint.* may be changed, and --dataset where it was moved.",
)
@family_name_option(show_default="the data set's", help="Needed where that is module:attribute.")
@setting_options
def offline_train(
    dataset: Path | None,
    algorithm: str | None,
    preset: str | None,
    run_dir: Path | None,
    resume: Path | None,
    family: str | None,
    assignments: tuple[str, ...],
    quiet: bool,
    **flags: str | int | None,
) -> int:
    """Train an agent on a data set of training tasks; nothing is played but to evaluate.

    Writes what `metaslac meta-train` writes, and stops and goes on as that does; `adapt`, `evaluate`,
    `report` and `inspect` take the run as any other.
    """
    outcome = api.offline_train(
        dataset,
        algorithm,
        preset,
        run_dir,
        resume=resume,
        family=family,
        settings=settings_of(flags, assignments),
        quiet=quiet,
        stop=stop_requested(),
        tell=tell,
    )
    return 0 if outcome.finished else STOPPED
