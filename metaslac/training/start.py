"""From settings to a run: build its trainer, bring it back to a checkpoint, open its log, and let it run.

The loop that runs is in loop.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from metaslac.config.limits import room_setting
from metaslac.config.sections import Config
from metaslac.config.text import to_dict
from metaslac.errors import MetaslacError
from metaslac.learning.faults import as_they_are, is_out_of_memory
from metaslac.ranks.ranks import RankLost, ToldElsewhere
from metaslac.storage.checkpoint import Checkpoint, tensors_to_bytes
from metaslac.storage.manifest import sha256_of
from metaslac.training.log.run_log import LogState, RunLog
from metaslac.training.log.trackers.tracker import About
from metaslac.training.log.trackers.trackers import open_trackers
from metaslac.training.log.unheard import Unheard
from metaslac.training.loop import MakeEnv, Training
from metaslac.training.run_directory import other_checkpoints
from metaslac.training.trainer import Trainer


class Kept(NamedTuple):
    """What is kept of a run and shown: where, and what there is already."""

    run_dir: Path
    quiet: bool  # nothing on the screen
    checkpoint: Checkpoint | None  # to go on from


def run_training(
    kind: Callable[..., Training],
    build: Callable[[], Trainer],
    config: Config,
    device: torch.device,
    make_env: MakeEnv,
    kept: Kept,
    stop: Callable[[], bool],
    hint: str,
) -> None:
    """Build a trainer, bring it back to a checkpoint if there is one, and run it in its directory.

    Raises as Training.run does, RankLost where another rank ends before that, and MetaslacError where there
    is no memory, the checkpoint cannot be gone on from or the directory cannot be written to.
    """
    run_dir, checkpoint = kept.run_dir, kept.checkpoint
    try:
        trainer = build()
        with trainer.ranks.together():
            state = trainer.resume(checkpoint) if checkpoint else LogState()
        check_alike(trainer)
    except (ToldElsewhere, RankLost):
        raise
    except MetaslacError as error:
        raise MetaslacError(f"{error}{other_checkpoints(checkpoint.path) if checkpoint else ''}") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        room = "the data set's size" if config.offline else as_they_are(config, [room_setting(config)])
        raise MetaslacError(f"no memory on {device.type} for replay and networks: lower {room}") from error
    log: RunLog = Unheard()
    with trainer.ranks.together():
        try:
            if trainer.ranks.first:
                about = About(run_dir, to_dict(config), kept.quiet)
                track = partial(open_trackers, config.runtime.track, about, checkpoint is not None)
                updates = config.train.updates
                log = RunLog(run_dir, total_updates=updates, quiet=kept.quiet, state=state, track=track)
        except OSError as error:
            reason = error.strerror or error
            raise MetaslacError(f"cannot write to run directory {run_dir}: {reason}") from None
    with log:
        begun = checkpoint.path if checkpoint else None
        kind(trainer, run_dir, log, stop, begun, hint).run(make_env)


def check_alike(trainer: Trainer) -> None:
    """Raise MetaslacError unless all ranks have the same weights."""
    if trainer.ranks.size > 1:
        sums = trainer.ranks.tell(sha256_of(tensors_to_bytes(trainer.learner.networks.state_dict())))
        if len(set(sums)) > 1:
            raise MetaslacError("the ranks do not begin with the same weights: are they all of one version?")
