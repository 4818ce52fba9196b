"""`metaslac offline-train`: train an agent on a data set; the work is in api/offline.py."""

from __future__ import annotations

from pathlib import Path

import click

from metaslac.config.offline import ALGORITHMS, SIZES
from metaslac.config.runtime import DEVICES
from metaslac.config.sections import TASK_INFERENCE
from metaslac.launchers.api import offline as api
from metaslac.launchers.options import SETTINGS, UserPath
from metaslac.launchers.signals import STOPPED, stop_requested
from metaslac.launchers.training.meta_train import tell


@click.command("offline-train", short_help="Train an agent on a data set, playing nothing.")
@click.option(
    "--dataset",
    type=UserPath(),
    show_default="none; with --resume the run's",
    help="A directory that `metaslac dataset` made, of training tasks.",
)
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    show_default="lompo",
    help="lompo imagines half of what actor and critics learn from, with lower rewards where an ensemble of "
    "latent models disagrees; no-penalty is the same without that; actor-critic learns from the data alone, "
    "model-free so without a latent model; cloning copies the recorded actions.",
)
@click.option(
    "--preset",
    type=click.Choice(list(SIZES)),
    show_default="quick",
    help="Sizes to start from: quick is for two CPU cores; lompo has LOMPO's published numbers, where there "
    "are such settings.",
)
@click.option(
    "--run-dir",
    type=UserPath(),
    show_default="runs/FAMILY-ALGORITHM-PRESET-INFERENCE-sSEED",
    help="Where everything is written. A run that is there is gone on with.",
)
@click.option(
    "--resume",
    type=UserPath(),
    show_default="none",
    help="Go on with the run in this run directory, with its settings. Only train.updates, runtime.* and "
    "checkpoint.* may be changed, and --dataset where it was moved.",
)
@click.option("--family", show_default="the data set's", help="Needed where that is module:attribute.")
@click.option("--seed", type=int, show_default="0", help="Seed of everything random in the run.")
@click.option("--device", type=click.Choice(DEVICES), show_default="auto", help="Where to compute.")
@click.option("--updates", type=int, show_default="the preset's", help="Updates after pre-training.")
@click.option(
    "--task-inference",
    type=click.Choice(TASK_INFERENCE),
    show_default="infer",
    help="Infer the task, be given it (oracle) or never know it (blind).",
)
@click.option(
    "--threads", type=int, show_default="0", help="CPU threads; 0 takes as many as this process may use."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Any setting of `metaslac settings`; may be repeated, the last one wins.",
)
@click.option("--quiet", is_flag=True, show_default="off", help="No progress on the screen.")
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
    settings = [f"{SETTINGS[flag]}={value}" for flag, value in flags.items() if value is not None]
    outcome = api.offline_train(
        dataset,
        algorithm,
        preset,
        run_dir,
        resume=resume,
        family=family,
        settings=[*settings, *assignments],
        quiet=quiet,
        stop=stop_requested(),
        tell=tell,
    )
    return 0 if outcome.finished else STOPPED
