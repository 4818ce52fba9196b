"""`metaslac meta-train`: settings in, a run directory out.

Everything that can be wrong is checked here before anything is written; the loop is in `metaslac`.
"""

from __future__ import annotations

from pathlib import Path

import click

from launchers.presets import FAMILY_PRESETS, PRESETS, resolve
from launchers.process import choose_device, use_threads
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
    "--family", default=Config().family.name, show_default=True, help="As listed by `metaslac families`."
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
    train(config, run_dir or default_run_dir(config, preset), quiet)


def train(config: Config, run_dir: Path, quiet: bool) -> None:
    """Check device, family, renderer, memory and run directory in turn, then run."""
    device = choose_device(config.runtime.device)

    import metaslac.meta_train
    from envs import make_family
    from metaslac.limits import check_memory, check_tasks
    from metaslac.run_directory import prepare_run_directory, start_run_directory

    options = config.family
    family = make_family(options.name, image_size=options.image_size, action_repeat=options.action_repeat)
    check_tasks(config, family)
    prepare_run_directory(run_dir, config)
    check_memory(config, family, device)
    family.make_vector_env(1).close()  # a machine that cannot render says so before anything is written
    use_threads(config.runtime.threads)
    start_run_directory(run_dir, config, {"task_hash": family.task_hash})
    metaslac.meta_train.meta_train(config, family, run_dir, device, quiet=quiet)
    click.echo(f"finished; try: metaslac adapt --checkpoint {run_dir} --episodes 2")


def default_run_dir(config: Config, preset: str) -> Path:
    """runs/<family>-<preset>-<inference>-s<seed>"""
    return Path("runs") / f"{config.family.name}-{preset}-{config.task.inference}-s{config.train.seed}"
