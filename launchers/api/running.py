"""A training that is about to be made: what is left to check, its run directory, and what is said of it.

Which training it is, and from what, is training.py's and offline.py's.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metaslac.config.runtime import trackers_in
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.launchers.api import memory
from metaslac.launchers.api.family import family_option, try_out
from metaslac.launchers.api.process import chosen_threads, tf32_allowed, threads_line, torch_threads
from metaslac.ranks.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch

    from metaslac.envs.family import Family
    from metaslac.learning.memory import MemoryNeed
    from metaslac.storage.checkpoint import Checkpoint

Stop = Callable[[], bool]
Tell = Callable[[str], None]


class Outcome(NamedTuple):
    """What came of a training."""

    run_dir: Path
    finished: bool  # or else it was stopped, and the same call goes on


class Work(NamedTuple):
    """A training whose settings go with each other and with its family."""

    config: Config
    family: Family
    need: MemoryNeed
    run: Callable[..., None]  # of worlds, run directory, device and options, as `online.meta_train` has them
    note: str = ""  # of what was changed to fit the family
    ranks: Ranks = ALONE  # that do it together


def carry_out(
    work: Work,
    run_dir: Path,
    device: torch.device,
    quiet: bool,
    stop: Stop | AbstractContextManager[Stop],
    tell: Tell,
    resuming: bool,
    hint: str,
) -> Outcome:
    """Check run directory, memory and renderer in turn, then run.

    Raises as `meta_train`; arguments as there.
    """
    from metaslac.envs import FamilyError, make_vector_env
    from metaslac.learning.memory import check_memory, memory_line
    from metaslac.training.log.trackers.trackers import check_installed
    from metaslac.training.loop import StopRequested
    from metaslac.training.run_directory import (
        cleared_if_refused,
        not_there,
        prepare_run_directory,
        start_run_directory,
    )
    from metaslac.training.state import is_finished

    config, family, need, ranks = work.config, work.family, work.need, work.ranks
    name = config.family.name
    with ranks.together():
        check_installed(trackers_in(config.runtime.track))
        begun = prepare_run_directory(run_dir, config, resuming)
        available = memory.available_bytes(device)
        check_memory(need, available, config, device, resuming=begun)
        try_out(family, name)  # what cannot be played or rendered says so before anything is written
        threads = chosen_threads(config.runtime.threads)
    if work.note:
        tell(work.note)
    made = not_there(run_dir)
    stopping = stop if isinstance(stop, AbstractContextManager) else nullcontext(stop)
    with (
        _locked_by_first(ranks, run_dir, tell),
        torch_threads(threads.number),
        tf32_allowed(device, config.runtime.precision),
        stopping as asked_to_stop,
    ):
        with ranks.together():
            # Once more, as another process may have had the directory since.
            resumes = prepare_run_directory(run_dir, config, resuming)
            checkpoint = load_last(run_dir, tell) if resumes else None
            finished = checkpoint is not None and is_finished(checkpoint, config.train.updates)
        if checkpoint is not None and finished:
            if ranks.first:
                write_rows(run_dir, checkpoint)
            done, of = checkpoint.manifest["update"], config.train.updates
            state = "is finished" if done == of else "has got further"
            tell(f"{run_dir} {state}: {done} updates, of {of}; a larger --updates goes on")
            return Outcome(run_dir, finished=True)
        if not quiet:
            tell(memory_line(need, available, device) + ranks_line(ranks))
            tell(f"CPU threads {threads_line(threads)}")
        about = {
            "task_hash": family.task_hash,
            "validation_hash": family.validation_hash,
            "threads": threads._asdict(),
        }
        clearing = cleared_if_refused(run_dir, made) if ranks.first and not resumes else nullcontext()
        asked = threads.number if ranks.size > 1 else config.runtime.threads
        try:
            with clearing:
                with ranks.together():
                    if ranks.first:
                        start_run_directory(
                            run_dir, config, about, note=f"CPU threads {threads_line(threads)}"
                        )
                work.run(
                    partial(make_vector_env, family, threads=asked, tolerant=True),
                    run_dir,
                    device,
                    quiet=quiet,
                    checkpoint=checkpoint,
                    stop=asked_to_stop,
                    hint=hint if device.type == "cpu" else "",
                )
        except StopRequested as where:
            command = (
                f"{config.command} --resume {shlex.quote(str(run_dir))}{family_option(config.family.name)}"
            )
            tell(f"stopped at {where}; the same command goes on, or: {command}")
            return Outcome(run_dir, finished=False)
        except FamilyError as error:  # of worlds that fail whatever is done
            raise TrainingFault(f"{error}; the same command goes on from the last checkpoint") from error
    tell(f"finished; try: {_next_command(run_dir, name)} --episodes 2")
    return Outcome(run_dir, finished=True)


@contextmanager
def _locked_by_first(ranks: Ranks, run_dir: Path, tell: Tell) -> Iterator[None]:
    """Within, the first rank keeps other runs out of the directory."""
    from metaslac.training.run_directory import locked

    with ExitStack() as stack:
        with ranks.together():
            if ranks.first:
                stack.enter_context(locked(run_dir, tell))
        yield


def ranks_line(ranks: Ranks) -> str:
    """That there are several ranks, as the end of a line on what each of them has."""
    return f"; so each of {ranks.size} ranks" if ranks.size > 1 else ""


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


def _next_command(run_dir: Path, family: str) -> str:
    return f"metaslac adapt --checkpoint {shlex.quote(str(run_dir))}{family_option(family)}"
