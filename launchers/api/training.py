"""Meta-training from settings to a run directory: all that can be wrong is found before anything is written.

The loop is in metaslac/training/online.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metaslac.config.presets import fit_to_tasks, resolve
from metaslac.config.sections import Config
from metaslac.config.text import Changes, apply_settings
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.launchers.api import memory
from metaslac.launchers.api.family import configured_family, family_option, try_out
from metaslac.launchers.api.process import (
    choose_device,
    chosen_threads,
    draw_on,
    tf32_allowed,
    threads_line,
    torch_threads,
)
from metaslac.storage.files import user_path

if TYPE_CHECKING:
    from metaslac.storage.checkpoint import Checkpoint

QUICK_HINT = "; on a CPU --preset quick is there for a first try"

Stop = Callable[[], bool]
Tell = Callable[[str], None]


class Outcome(NamedTuple):
    """What came of a call of meta_train."""

    run_dir: Path
    finished: bool  # or else it was stopped, and the same call goes on


def meta_train(
    family: str | None = None,
    preset: str | None = None,
    run_dir: str | Path | None = None,
    *,
    resume: str | Path | None = None,
    settings: Changes = (),
    quiet: bool = False,
    stop: Stop | AbstractContextManager[Stop] = lambda: False,
    tell: Tell = print,
) -> Outcome:
    """Meta-train an agent on the training tasks of a family, from pixels; what `metaslac meta-train` does.

    Writes progress.csv, TensorBoard events, config.yaml, variant.json and checkpoints to the run directory.
    Now and then it adapts to the family's validation tasks; held-out ones are left to `metaslac evaluate`.
    The same call again goes on from the last checkpoint.

    Args:
        family: as listed by `metaslac families`, dmc:<domain>-<task>, or module:attribute of your own.
        preset: "default", "quick" or "quick_latent"; "slac", "slac-quick", "sac-pixels" or "sac-state" for
            tasks that differ in nothing, such as those of dm_control's suite; "pearl" or "pearl-quick" on
            states. None is "default".
        run_dir: None is runs/FAMILY-PRESET-INFERENCE-sSEED.
        resume: a run directory to go on with, with its settings, in place of preset and run_dir.
        settings: {"train.updates": 100} or ["train.updates=100"]; `metaslac settings` lists them.
        quiet: no progress on the screen.
        stop: asked between any two steps of the work; once it says yes, a checkpoint is written. Or a context
            manager that gives such a function; it is entered when all has been checked.
        tell: is given each line about the run.

    Raises:
        MetaslacError or metaslac.envs.FamilyError: bad input, before anything is written.
        metaslac.errors.TrainingFault: what keeps a training that had begun from going on.
    """
    changes = with_family(family, settings)
    if resume is not None:
        if preset is not None or run_dir is not None:
            raise MetaslacError("resume goes with neither preset nor run_dir: the run has both")
        run_dir = user_path(resume)
        config = changed(run_dir, changes, family is not None)
    else:
        config = resolve(preset or "default", changes)
        run_dir = user_path(run_dir or default_run_dir(config, preset or "default"))
    hint = QUICK_HINT if resume is None and preset in (None, "default") else ""
    return train(config, run_dir, quiet, names_in(settings), stop, tell, resume is not None, hint)


def with_family(family: str | None, settings: Changes) -> Changes:
    """The settings, and which family, if one is named; settings come later and win."""
    if family is None:
        return settings
    if isinstance(settings, Mapping):
        return {"family.name": family, **settings}
    return [f"family.name={family}", *settings]


def names_in(settings: Changes) -> set[str]:
    """Which settings are changed."""
    return {text.partition("=")[0].strip() for text in settings}


def changed(run_dir: Path, changes: Changes, family_named: bool) -> Config:
    """The configuration of the run in a directory, with changes to it.

    A directory alone has no code imported: a family called module:attribute must be named by the user.
    """
    from metaslac.envs.registry import names_a_module
    from metaslac.training.run_directory import saved_config

    config = apply_settings(saved_config(run_dir), changes)
    validate(config)
    if names_a_module(config.family.name) and not family_named:
        raise MetaslacError(
            f"{run_dir} is a run on {config.family.name}, which is code to import and not part of metaslac: "
            f"if you trust it, add --family {shlex.quote(config.family.name)}"
        )
    return config


def train(
    config: Config,
    run_dir: Path,
    quiet: bool,
    asked: Collection[str] = (),
    stop: Stop | AbstractContextManager[Stop] = lambda: False,
    tell: Tell = print,
    resuming: bool = False,
    hint: str = "",
) -> Outcome:
    """Check device, family, run directory, memory and renderer in turn, then run; see meta_train.

    `asked` names the settings that are the user's own, and not to be lowered for a family of few tasks.
    `hint` is said where a run on a CPU will take hours.
    """
    device = choose_device(config.runtime.device)
    draw_on(device)

    from metaslac.config.limits import check_family
    from metaslac.envs import FamilyError, make_vector_env
    from metaslac.learning.memory import check_memory, memory_line, memory_need
    from metaslac.training import online
    from metaslac.training.loop import StopRequested
    from metaslac.training.run_directory import locked, prepare_run_directory, start_run_directory
    from metaslac.training.state import is_finished

    options = config.family
    family = configured_family(options)
    config, note = fit_to_tasks(config, len(family.train_tasks), asked)
    check_family(config, family)
    begun = prepare_run_directory(run_dir, config, resuming)
    need, available = memory_need(config, family, device), memory.available_bytes(device)
    check_memory(need, available, config, device, resuming=begun)
    try_out(family, options.name)  # what cannot be played or rendered says so before anything is written
    threads = chosen_threads(config.runtime.threads)
    if note:
        tell(note)
    stopping = stop if isinstance(stop, AbstractContextManager) else nullcontext(stop)
    with (
        locked(run_dir, tell),
        torch_threads(threads.number),
        tf32_allowed(device, config.runtime.precision),
        stopping as asked_to_stop,
    ):
        # Once more, as another process may have had the directory since.
        resumes = prepare_run_directory(run_dir, config, resuming)
        checkpoint = load_last(run_dir, tell) if resumes else None
        if checkpoint is not None and is_finished(checkpoint, config.train.updates):
            write_rows(run_dir, checkpoint)
            done, of = checkpoint.manifest["update"], config.train.updates
            state = "is finished" if done == of else "has got further"
            tell(f"{run_dir} {state}: {done} updates, of {of}; a larger --updates goes on")
            return Outcome(run_dir, finished=True)
        if not quiet:
            tell(memory_line(need, available, device))
            tell(f"CPU threads {threads_line(threads)}")
        about = {
            "task_hash": family.task_hash,
            "validation_hash": family.validation_hash,
            "threads": threads._asdict(),
        }
        start_run_directory(run_dir, config, about, note=f"CPU threads {threads_line(threads)}")
        try:
            online.meta_train(
                config,
                family,
                partial(make_vector_env, family, threads=config.runtime.threads, tolerant=True),
                run_dir,
                device,
                quiet=quiet,
                checkpoint=checkpoint,
                stop=asked_to_stop,
                hint=hint if device.type == "cpu" else "",
            )
        except StopRequested as where:
            command = f"metaslac meta-train --resume {shlex.quote(str(run_dir))}{family_option(options.name)}"
            tell(f"stopped at {where}; the same command goes on, or: {command}")
            return Outcome(run_dir, finished=False)
        except FamilyError as error:  # of worlds that fail whatever is done
            raise TrainingFault(f"{error}; the same command goes on from the last checkpoint") from error
    tell(f"finished; try: {_next_command(run_dir, options.name)} --episodes 2")
    return Outcome(run_dir, finished=True)


def load_last(run_dir: Path, tell: Tell) -> Checkpoint | None:
    """The checkpoint to go on from, and a word about it; None if there is none yet."""
    from metaslac.storage.checkpoint import load_checkpoint
    from metaslac.training.run_directory import last_checkpoint, other_checkpoints

    path = last_checkpoint(run_dir)
    if path is None:
        tell(f"{run_dir} has no checkpoint yet: starting over")
        return None
    try:
        checkpoint = load_checkpoint(path)
    except MetaslacError as error:
        raise MetaslacError(f"{error}{other_checkpoints(path)}") from None
    tell(f"going on from {checkpoint.path}")
    return checkpoint


def write_rows(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Put back the progress.csv that the checkpoint has, should the last rows not have reached the disk."""
    from metaslac.storage.files import write_atomically
    from metaslac.training.state import ROWS

    rows = checkpoint.read(ROWS)
    try:
        write_atomically(run_dir / ROWS, rows)
    except OSError as error:
        raise MetaslacError(f"cannot write {run_dir / ROWS}: {error.strerror or error}") from None


def default_run_dir(config: Config, preset: str) -> Path:
    """runs/<family>-<preset>-<inference>-s<seed>."""
    family = file_name(config.family.name)
    return Path("runs") / f"{family}-{preset}-{config.task.inference}-s{config.train.seed}"


def file_name(family: str) -> str:
    """A family's name as part of a directory's, with - for whatever is no word."""
    return re.sub(r"[^\w.]+", "-", family)


def _next_command(run_dir: Path, family: str) -> str:
    return f"metaslac adapt --checkpoint {shlex.quote(str(run_dir))}{family_option(family)}"
