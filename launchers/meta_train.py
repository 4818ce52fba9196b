"""`metaslac meta-train`: settings in, a run directory out.

Everything that can be wrong is checked here before anything is written; the loop is in `metaslac`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from pathlib import Path

import click

from launchers.family import open_family, try_out
from launchers.presets import FAMILY_PRESETS, PRESETS, fit_to_tasks, resolve
from launchers.process import choose_device, draw_on, use_threads
from metaslac.config import DEVICES, TASK_INFERENCE, Config

# named flag -> the setting it is short for
FLAGS = {
    "family": "family.name",
    "seed": "train.seed",
    "updates": "train.updates",
    "task_inference": "task.inference",
    "device": "runtime.device",
    "threads": "runtime.threads",
}


def _default(name: str) -> str:
    section, _, field = name.partition(".")
    value = str(getattr(getattr(Config(), section), field))
    preset = any(name in settings for settings in (*PRESETS.values(), *FAMILY_PRESETS.values()))
    return f"{value}, or the preset's" if preset else value


@click.command("meta-train", short_help="Meta-train an agent on a task family.")
@click.option(
    "--family",
    default=Config().family.name,
    show_default=True,
    help="As listed by `metaslac families`, dmc:<domain>-<task>, or module:attribute of your own.",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="default",
    show_default=True,
    help="Settings to start from; quick is sized for two CPU cores.",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    show_default="runs/FAMILY-PRESET-INFERENCE-sSEED",
    help="Where everything is written.",
)
@click.option(
    "--seed", type=int, show_default=_default("train.seed"), help="Seed of everything random in the run."
)
@click.option(
    "--device", type=click.Choice(DEVICES), show_default=_default("runtime.device"), help="Where to compute."
)
@click.option(
    "--updates", type=int, show_default=_default("train.updates"), help="Updates after pre-training."
)
@click.option(
    "--task-inference",
    type=click.Choice(TASK_INFERENCE),
    show_default=_default("task.inference"),
    help="Infer the task, be given it (oracle) or never know it (blind).",
)
@click.option(
    "--threads", type=int, show_default=_default("runtime.threads"), help="CPU threads; 0 takes every core."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Any setting of `metaslac settings`; may be repeated, the last one wins.",
)
@click.option("--quiet", is_flag=True, show_default="off", help="No progress on the screen.")
def meta_train(
    preset: str,
    run_dir: Path | None,
    assignments: tuple[str, ...],
    quiet: bool,
    **flags: str | int | None,
) -> None:
    """Meta-train an agent on the training tasks of a family, from pixels.

    Writes progress.csv, TensorBoard events, config.yaml, variant.json and checkpoints to the run directory.
    """
    named = [f"{FLAGS[flag]}={value}" for flag, value in flags.items() if value is not None]
    config = resolve(preset, [*named, *assignments])
    asked = {assignment.partition("=")[0].strip() for assignment in assignments}
    train(config, run_dir or default_run_dir(config, preset), quiet, asked)


def train(config: Config, run_dir: Path, quiet: bool, asked: Collection[str] = ()) -> None:
    """Check device, family, run directory, memory and renderer in turn, then run.

    `asked` names the settings that are the user's own, and not to be lowered for a family of few tasks.
    """
    device = choose_device(config.runtime.device)
    draw_on(device)

    import metaslac.meta_train
    from metaslac.limits import check_memory, check_tasks
    from metaslac.run_directory import prepare_run_directory, start_run_directory

    options = config.family
    family = open_family(options.name, image_size=options.image_size, action_repeat=options.action_repeat)
    config, note = fit_to_tasks(config, len(family.train_tasks), asked)
    check_tasks(config, family)
    prepare_run_directory(run_dir, config)
    check_memory(config, family, device)
    try_out(family, options.name)  # what cannot be played or rendered says so before anything is written
    use_threads(config.runtime.threads)
    if note:
        click.echo(note)
    start_run_directory(run_dir, config, {"task_hash": family.task_hash})
    metaslac.meta_train.meta_train(config, family, run_dir, device, quiet=quiet)
    click.echo(f"finished; try: {_next_command(run_dir, options.name)} --episodes 2")


def default_run_dir(config: Config, preset: str) -> Path:
    """runs/<family>-<preset>-<inference>-s<seed>, where a family's name has - for whatever is no word."""
    family = re.sub(r"[^\w.]+", "-", config.family.name)
    return Path("runs") / f"{family}-{preset}-{config.task.inference}-s{config.train.seed}"


def _next_command(run_dir: Path, family: str) -> str:
    from envs.registry import names_a_module

    named = f" --family {shlex.quote(family)}" if names_a_module(family) else ""
    return f"metaslac adapt --checkpoint {run_dir}{named}"
