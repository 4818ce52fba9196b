"""`metaslac meta-train`: settings in, a run directory out.

Everything that can be wrong is checked here before anything is written; the loop is in `metaslac`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launchers.family import family_option, open_family, try_out
from launchers.presets import FAMILY_PRESETS, PRESETS, fit_to_tasks, resolve
from launchers.process import allow_tf32, choose_device, draw_on, use_threads
from launchers.signals import STOPPED, stop_requested
from metaslac.config import DEVICES, TASK_INFERENCE, Config, validate
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.settings import apply_settings

if TYPE_CHECKING:
    from metaslac.checkpoint import Checkpoint

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
    show_default=Config().family.name,
    help="As listed by `metaslac families`, dmc:<domain>-<task>, or module:attribute of your own.",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    show_default="default",
    help="Settings to start from; quick is sized for two CPU cores.",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    show_default="runs/FAMILY-PRESET-INFERENCE-sSEED",
    help="Where everything is written. A run that is there is gone on with.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    show_default="none",
    help="Go on with the run in this run directory, with its settings. Only train.updates, runtime.* and "
    "checkpoint.* may be changed.",
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
    preset: str | None,
    run_dir: Path | None,
    resume: Path | None,
    assignments: tuple[str, ...],
    quiet: bool,
    **flags: str | int | None,
) -> int:
    """Meta-train an agent on the training tasks of a family, from pixels.

    Writes progress.csv, TensorBoard events, config.yaml, variant.json and checkpoints to the run directory.
    The same command again goes on from the last checkpoint.

    SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 finish the update, write a checkpoint and exit with 75; a second
    one ends the process at once, and the last whole checkpoint stays.
    """
    named = [f"{FLAGS[flag]}={value}" for flag, value in flags.items() if value is not None]
    changes = [*named, *assignments]
    asked = {assignment.partition("=")[0].strip() for assignment in assignments}
    if resume is not None:
        if preset is not None or run_dir is not None:
            raise MetaslacError("--resume goes with neither --preset nor --run-dir: the run has both")
        config = changed(resume, changes, flags["family"] is not None)
        return train(config, resume, quiet, asked, resuming=True)
    preset = preset or "default"
    config = resolve(preset, changes)
    return train(config, run_dir or default_run_dir(config, preset), quiet, asked)


def changed(run_dir: Path, changes: Sequence[str], family_named: bool) -> Config:
    """The configuration of the run in a directory, with changes to it.

    A directory alone has no code imported: a family called module:attribute must be named by the user.
    """
    from envs.registry import names_a_module
    from metaslac.run_directory import saved_config

    config = apply_settings(saved_config(run_dir), changes)
    validate(config)
    if names_a_module(config.family.name) and not family_named:
        raise MetaslacError(
            f"{run_dir} is a run on {config.family.name}, which is code to import and not part of metaslac: "
            f"if you trust it, add --family {shlex.quote(config.family.name)}"
        )
    return config


def train(
    config: Config, run_dir: Path, quiet: bool, asked: Collection[str] = (), resuming: bool = False
) -> int:
    """Check device, family, run directory, memory and renderer in turn, then run; returns the exit code.

    `asked` names the settings that are the user's own, and not to be lowered for a family of few tasks.
    """
    device = choose_device(config.runtime.device)
    draw_on(device)
    allow_tf32(device, config.runtime.precision)

    import metaslac.meta_train
    from envs import FamilyError
    from metaslac.limits import check_tasks
    from metaslac.memory import available_bytes, check_memory, memory_line, memory_need
    from metaslac.run_directory import locked, prepare_run_directory, start_run_directory
    from metaslac.training_state import is_finished

    options = config.family
    family = open_family(options.name, image_size=options.image_size, action_repeat=options.action_repeat)
    config, note = fit_to_tasks(config, len(family.train_tasks), asked)
    check_tasks(config, family)
    begun = prepare_run_directory(run_dir, config, resuming)
    need, available = memory_need(config, family, device), available_bytes(device)
    check_memory(need, available, config, device, resuming=begun)
    try_out(family, options.name)  # what cannot be played or rendered says so before anything is written
    use_threads(config.runtime.threads)
    if note:
        click.echo(note)
    with locked(run_dir), stop_requested() as stop:
        # Once more, as another process may have had the directory since.
        resumes = prepare_run_directory(run_dir, config, resuming)
        checkpoint = load_last(run_dir) if resumes else None
        if checkpoint is not None and is_finished(checkpoint, config.train.updates):
            write_rows(run_dir, checkpoint)
            done, of = checkpoint.manifest["update"], config.train.updates
            state = "is finished" if done == of else "has got further"
            tell(f"{run_dir} {state}: {done} updates, of {of}; a larger --updates goes on")
            return 0
        if not quiet:
            tell(memory_line(need, available, device))
        start_run_directory(run_dir, config, {"task_hash": family.task_hash})
        try:
            metaslac.meta_train.meta_train(
                config, family, run_dir, device, quiet=quiet, checkpoint=checkpoint, stop=stop
            )
        except metaslac.meta_train.StopRequested as where:
            command = f"metaslac meta-train --resume {shlex.quote(str(run_dir))}{family_option(options.name)}"
            tell(f"stopped at {where}; the same command goes on, or: {command}")
            return STOPPED
        except FamilyError as error:  # of worlds that fail whatever is done
            raise TrainingFault(f"{error}; the same command goes on from the last checkpoint") from error
    tell(f"finished; try: {_next_command(run_dir, options.name)} --episodes 2")
    return 0


def load_last(run_dir: Path) -> Checkpoint | None:
    """The checkpoint to go on from, and a word about it; None if there is none yet."""
    from metaslac.checkpoint import load_checkpoint
    from metaslac.run_directory import last_checkpoint, other_checkpoints

    path = last_checkpoint(run_dir)
    if path is None:
        tell(f"{run_dir} has no checkpoint yet: starting over")
        return None
    try:
        checkpoint = load_checkpoint(path)
    except MetaslacError as error:
        raise MetaslacError(f"{error}{other_checkpoints(path.resolve())}") from None
    tell(f"going on from {checkpoint.path}")
    return checkpoint


def write_rows(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Put back the progress.csv that the checkpoint has, should the last rows not have reached the disk."""
    from metaslac.files import write_atomically
    from metaslac.training_state import ROWS

    rows = checkpoint.read(ROWS)
    try:
        write_atomically(run_dir / ROWS, rows)
    except OSError as error:
        raise MetaslacError(f"cannot write {run_dir / ROWS}: {error.strerror or error}") from None


def tell(text: str) -> None:
    """Print a line, if there is still someone to read it."""
    with suppress(OSError):
        click.echo(text)


def default_run_dir(config: Config, preset: str) -> Path:
    """runs/<family>-<preset>-<inference>-s<seed>."""
    family = file_name(config.family.name)
    return Path("runs") / f"{family}-{preset}-{config.task.inference}-s{config.train.seed}"


def file_name(family: str) -> str:
    """A family's name as part of a directory's, with - for whatever is no word."""
    return re.sub(r"[^\w.]+", "-", family)


def _next_command(run_dir: Path, family: str) -> str:
    return f"metaslac adapt --checkpoint {shlex.quote(str(run_dir))}{family_option(family)}"
