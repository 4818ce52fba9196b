"""Evaluations of random numbers, in the shapes of real ones."""

from typing import Any

import numpy as np

from metaslac.config import Config
from metaslac.evaluation_file import Evaluation, Trials
from metaslac.settings import to_dict

EPISODES, TRIALS, DECISIONS = 2, 3, 4


def trials(tasks: int, seed: int = 0) -> Trials:
    rng = np.random.default_rng(seed)
    each = (tasks, TRIALS)
    widths = rng.uniform(size=(tasks, EPISODES * DECISIONS + 1)).round(2)
    widths[0, 5:] = np.nan  # of a task whose episodes always ended early
    return Trials(
        list(range(tasks)),
        rng.normal(size=(tasks, 2)),
        rng.normal(size=(*each, EPISODES)),
        rng.normal(size=(*each, EPISODES + 1, 5)).round(3),
        widths,
    )


def evaluation(**about: Any) -> Evaluation:
    given = {
        "family": "point_robot",
        "task_hash": "ab",
        "param_names": ["goal_x", "goal_y"],
        "inference": "infer",
        "train_seed": 0,
        "update": 10,
        "env_steps": 100,
        "episodes": EPISODES,
        "trials": TRIALS,
        "seed": 0,
        "exploration_episodes": 1,
        "decisions": DECISIONS,
        "settings": to_dict(Config()),
        "command": "metaslac evaluate",
        "commit": None,
        "versions": {"metaslac": "0"},
        "trained_with": {"metaslac": "0", "commit": None},
        "hardware": {"cores": 2},
    }
    return Evaluation({**given, **about}, trials(4), trials(6, seed=1))
