"""A trained agent together with the task family it was trained on.

Shared by the commands that take --checkpoint; reading the files is `metaslac/checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from launchers.process import choose_device, use_threads
from metaslac.errors import MetaslacError

if TYPE_CHECKING:
    from envs import Task, TaskFamily
    from metaslac.adaptation import TaskAdaptation
    from metaslac.agent import Agent
    from metaslac.config import Config


class Trained(NamedTuple):
    """What adapt and evaluate need."""

    agent: Agent
    family: TaskFamily
    config: Config
    manifest: dict[str, Any]
    threads: int


def load_trained(checkpoint: Path, device_name: str, threads: int) -> Trained:
    """Load a checkpoint or the last one of a run, and make its family.

    Raises MetaslacError for a damaged checkpoint or one whose task list is not the family's today.
    """
    device = choose_device(device_name)

    from metaslac.agent import agent_from_checkpoint
    from metaslac.checkpoint import load_checkpoint

    saved = load_checkpoint(checkpoint)
    from envs import make_family

    options = saved.config.family
    family = make_family(options.name, image_size=options.image_size, action_repeat=options.action_repeat)
    if saved.manifest["task_hash"] != family.task_hash:
        raise MetaslacError(
            f"{saved.path} was trained on another task list of {family.name} than this version has"
        )
    agent = agent_from_checkpoint(saved, saved.path, device)
    return Trained(agent, family, saved.config, saved.manifest, use_threads(threads))


def play(
    trained: Trained,
    tasks: Sequence[Task],
    *,
    episodes: int,
    trials: int = 1,
    seed: int = 0,
    keep_frames: bool = False,
) -> list[TaskAdaptation]:
    """Trials of adaptation on held-out tasks, exploring as the checkpoint's own configuration says."""
    from metaslac.adaptation import adapt, slots_for

    worlds = slots_for(len(tasks) * trials, trained.config.runtime.worlds)
    with closing(trained.family.make_vector_env(worlds, trained.threads)) as env:
        return adapt(
            trained.agent,
            env,
            tasks,
            episodes=episodes,
            exploration_episodes=trained.config.evaluation.exploration_episodes,
            trials=trials,
            seed=seed,
            keep_frames=keep_frames,
        )
