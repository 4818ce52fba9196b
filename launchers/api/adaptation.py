"""A trained agent that adapts to held-out tasks, from its checkpoint.

Acting and belief are in metaslac/acting/; statistics over many trials are evaluation.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import blamed_on
from metaslac.launchers.api.reading import read_beliefs
from metaslac.launchers.api.trained import load_trained, play
from metaslac.launchers.media.filming import ways_of_acting
from metaslac.storage.files import user_path

if TYPE_CHECKING:
    from metaslac.acting.adaptation import TaskAdaptation
    from metaslac.envs.family import Family, Task
    from metaslac.launchers.media.filming import Filming


class Adapted(NamedTuple):
    """What came of a call of adapt."""

    family: Family
    tasks: Sequence[TaskAdaptation]  # in the order of the family's held-out tasks; or of one of your own
    privileged: bool  # whether the critic saw the simulator's state in training

    @property
    def infers(self) -> bool:
        """Whether a belief left the prior; those of agents told of the task, or blind to it, never do."""
        return any((task.belief_std[1:] != 1).any() for task in self.tasks)


def adapt(
    checkpoint: str | Path,
    *,
    episodes: int = 2,
    task: int | None = None,
    params: Sequence[float] | None = None,
    seed: int = 0,
    family: str | None = None,
    device: str = "auto",
    threads: int = 0,
    redraw_every: int | None = None,
    mean_below: float | None = None,
    keep_frames: bool = False,
    filming: Filming | None = None,
) -> Adapted:
    """Let a trained agent adapt to one or all held-out tasks of its family; what `metaslac adapt` does.

    Args:
        checkpoint: a checkpoint directory, or a run directory for its last one; or an exported agent, by
            directory or name.
        episodes: on each task.
        task: index of one held-out task; None is all of them.
        params: or the parameters of a task of your own, which need be in no list.
        seed: of the trial.
        family: only ever the checkpoint's own; needed where that is module:attribute, to allow the import.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; 0 takes as many as this process may use.
        redraw_every: decisions after which m is drawn anew from the belief, 0 once an episode; None is the
            checkpoint's `evaluation.redraw_every`.
        mean_below: likewise of `evaluation.mean_below`.
        keep_frames: whether the pictures are kept.
        filming: films trials, for people; it is given what reads the beliefs in them, too.

    Raises:
        MetaslacError or metaslac.envs.FamilyError: a checkpoint that is damaged or of another family, or no
            such held-out task, or parameters that no task of the family has.
    """
    from metaslac.acting.adaptation import ADAPTATION_STREAM

    if task is not None and params is not None:
        raise MetaslacError("--task and --params do not go together")
    trained = load_trained(user_path(checkpoint), family, device, threads, redraw_every, mean_below)
    if params is not None:
        with blamed_on(trained.config.family.name):
            trained = trained._replace(family=trained.family.with_own_task(params))
    tasks = trained.family.own_tasks or _chosen_tasks(trained.family, task)
    played = play(
        trained,
        tasks,
        episodes=episodes,
        stream=ADAPTATION_STREAM,
        seed=seed,
        keep_frames=keep_frames,
        keep_beliefs=filming is not None,
        filming=filming,
    )
    if filming is not None:
        exploration = trained.config.evaluation.exploration_episodes
        filming.acts = ways_of_acting(episodes, exploration, trained.drawing.every)
        filming.probes = read_beliefs(trained, episodes=episodes, seed=seed)
    return Adapted(trained.family, played, trained.config.privileged)


def _chosen_tasks(family: Family, index: int | None) -> Sequence[Task]:
    if index is None:
        return family.test_tasks
    chosen = [task for task in family.test_tasks if task.index == index]
    if not chosen:
        first, last = family.test_tasks[0].index, family.test_tasks[-1].index
        raise MetaslacError(f"--task {index}: the held-out tasks of {family.name} are {first} to {last}")
    return chosen
