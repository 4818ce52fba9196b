"""What a trained agent's beliefs say about its tasks in numbers that people know: linear probes, fitted here.

They are fitted on training tasks, on trials played for that alone; the probe is metaslac/evidence/probe.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metaslac.launchers.api.trained import Trained, play
from metaslac.launchers.media.video import spread

if TYPE_CHECKING:
    from metaslac.evidence.probe import StepProbes

READING_STREAM = 12
TRIALS = 48  # to fit on: many more than the numbers of m, few enough to be played at once


def read_beliefs(trained: Trained, *, episodes: int, seed: int) -> StepProbes | None:
    """Probes from the belief to the targets of the family's overlay, after each step of such trials.

    None for agents that infer nothing and for families that mark nothing.

    Raises FamilyError for overlays that cannot be drawn, or have other marks in each task.
    """
    from metaslac.envs import FamilyError
    from metaslac.envs.worlds.viewer import overlay_of
    from metaslac.evidence.probe import step_probes

    family = trained.family
    tasks = spread(trained.train_tasks, TRIALS)
    targets = [overlay_of(family, task).target for task in tasks]
    if len({len(target) for target in targets}) > 1:
        raise FamilyError(f"{family.name}: overlay has other marks for other tasks")
    if trained.config.task.inference != "infer" or not targets[0]:
        return None
    trials = max(1, TRIALS // len(tasks))
    played = play(
        trained,
        tasks,
        episodes=episodes,
        trials=trials,
        stream=READING_STREAM,
        seed=seed,
        keep_beliefs=True,
    )
    return step_probes([trial.step_means for trial in played], np.repeat(targets, trials, axis=0))
