"""Weights & Biases: online, offline or not at all, as WANDB_MODE says."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

import wandb
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

from metaslac.training.log.trackers.tracker import About, Picture, translated

PROJECT = "metaslac"
SECONDS_TO_FINISH = 120.0  # what has not arrived by then is sent by `wandb sync`
FAULTS = (OSError, RuntimeError, ValueError, wandb.Error, HandleAbandonedError, MailboxClosedError)


class WandB:
    """A run of wandb's; project, entity and server are from wandb's own environment variables.

    Args:
        about: of the run.
        begun: the id of the run that is gone on with; empty for a new one.
    """

    @translated(*FAULTS)
    def __init__(self, about: About, begun: str) -> None:
        self.id = begun or secrets.token_hex(4)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", about.name),
            group=os.environ.get("WANDB_RUN_GROUP", about.family),
            dir=str(about.directory),
            id=self.id,
            resume="allow",
            settings=wandb.Settings(
                console="off", finish_timeout=SECONDS_TO_FINISH, **({"silent": True} if about.quiet else {})
            ),
        )
        self._run.config.update(about.settings, allow_val_change=True)
        # wandb's own steps only ever grow: updates of pre-training are up to 0, and a run that was killed
        # goes on from before.
        self._run.define_metric("update")
        self._run.define_metric("*", step_metric="update")

    @translated(*FAULTS)
    def scalars(self, values: Mapping[str, float], update: int) -> None:
        """Over the axis `update`."""
        self._run.log({**values, "update": update})

    @translated(*FAULTS)
    def picture(self, name: str, picture: Picture, update: int) -> None:
        """Likewise."""
        self._run.log({name: wandb.Image(picture), "update": update})

    @translated(*FAULTS)
    def result(self, values: Mapping[str, float]) -> None:
        """In the run's summary."""
        self._run.summary.update(dict(values))

    @translated(*FAULTS)
    def close(self, finished: bool) -> None:
        """Sends what is left, for two minutes at most."""
        self._run.finish(exit_code=0 if finished else 1)
