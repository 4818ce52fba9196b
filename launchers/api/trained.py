"""A trained agent together with the task family it was trained on.

What is done with it is in adaptation.py and evaluation.py; reading the files is storage/'s business.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import configured_family
from metaslac.launchers.api.process import choose_device, chosen_threads, draw_on, torch_threads
from metaslac.storage.manifest import TASKS_OF_DATA

if TYPE_CHECKING:
    from metaslac.acting.adaptation import Given, TaskAdaptation
    from metaslac.acting.agent import Agent
    from metaslac.acting.inference import Drawing
    from metaslac.config.sections import Config
    from metaslac.envs import Task
    from metaslac.envs.family import Family
    from metaslac.launchers.media.filming import Filming
    from metaslac.storage.checkpoint import Checkpoint


SECONDS_BEFORE_A_BAR = 2.0


class Trained(NamedTuple):
    """What adapt and evaluate need."""

    agent: Agent
    family: Family
    config: Config
    manifest: dict[str, Any]
    threads: int
    drawing: Drawing

    @property
    def train_tasks(self) -> Sequence[Task]:
        """What it was trained on: all of the family's training tasks, or those of its data set."""
        indices = self.manifest.get(TASKS_OF_DATA)
        return [task for task in self.family.train_tasks if indices is None or task.index in indices]


def load_trained(
    checkpoint: Path,
    family_name: str | None,
    device_name: str,
    threads: int,
    redraw_every: int | None = None,
    mean_below: float | None = None,
) -> Trained:
    """Load a checkpoint, the last one of a run, or an exported agent, and make its family.

    A checkpoint alone has no code imported: of a family called module:attribute, the user must give the
    same name as `family_name`. How m is drawn while acting is the checkpoint's, where it is not asked for.

    Raises MetaslacError for a damaged checkpoint, one of another family than `family_name`, or one whose
    task list is not the family's today.
    """
    device = choose_device(device_name)
    draw_on(device)

    from metaslac.acting.agent import agent_from_checkpoint
    from metaslac.acting.single_task import drawing_of

    saved, family = load_verified(checkpoint, family_name)
    drawing = drawing_of(saved.config, redraw_every, mean_below)
    agent = agent_from_checkpoint(saved, saved.path, device)
    return Trained(agent, family, saved.config, saved.manifest, chosen_threads(threads).number, drawing)


def load_verified(checkpoint: Path, family_name: str | None) -> tuple[Checkpoint, Family]:
    """A checkpoint and its family; raises as load_trained does."""
    from metaslac.storage.checkpoint import load_checkpoint

    saved = load_checkpoint(checkpoint)
    options = saved.config.family
    _check_name(saved.path, options.name, family_name)
    family = configured_family(options)
    if saved.manifest["task_hash"] != family.task_hash:
        raise MetaslacError(
            f"{saved.path} was trained on another task list of {family.name} than this version has"
        )
    return saved, family


def play(
    trained: Trained,
    tasks: Sequence[Task],
    *,
    episodes: int,
    stream: int,
    trials: int = 1,
    seed: int = 0,
    keep_frames: bool = False,
    keep_beliefs: bool = False,
    given: Given | None = None,
    filming: Filming | None = None,
) -> list[TaskAdaptation]:
    """Trials of adaptation, exploring as the checkpoint's own configuration says; `stream` as of adapt.

    With `given`, as of adapt, nothing is explored: the first episode acts on what that tells.
    If they take long, a terminal shows how far they are.
    """
    from metaslac.acting.adaptation import adapt, slots_for
    from metaslac.acting.filmed import watched
    from metaslac.envs import make_vector_env
    from metaslac.training.log.progress_bar import ProgressBar

    jobs = len(tasks) * trials
    worlds = slots_for(jobs, trained.config.runtime.worlds)
    bar = ProgressBar(total=jobs, unit=" trials", leave=False, delay=SECONDS_BEFORE_A_BAR, disable=None)
    with (
        torch_threads(trained.threads),
        bar,
        closing(make_vector_env(trained.family, worlds, trained.threads)) as plain,
        filming.on(plain, trained.family, tasks) if filming else nullcontext(plain) as env,
    ):
        return adapt(
            trained.agent,
            watched(env, trained.family.observation) if keep_frames else env,
            tasks,
            episodes=episodes,
            exploration_episodes=0 if given else trained.config.evaluation.exploration_episodes,
            trials=trials,
            seed=seed,
            deterministic=not trained.config.evaluation.sample_actions,
            keep_frames=keep_frames,
            keep_beliefs=keep_beliefs,
            drawing=trained.drawing,
            played=bar.update,
            stream=stream,
            given=given,
        )


def _check_name(path: Path, saved: str, asked: str | None) -> None:
    from metaslac.envs.registry import names_a_module

    if asked is not None and asked != saved:
        raise MetaslacError(f"--family {asked}: {path} was trained on {saved}")
    if asked is None and names_a_module(saved):
        raise MetaslacError(
            f"{path} was trained on {saved}, which is code to import and not part of metaslac: "
            f"if you trust it, add --family {shlex.quote(saved)}"
        )
