"""That factors of low rank tell a goal which diagonal ones only guess: the claim of benchmarks/factors.py."""

import numpy as np
import pytest
import torch
from scripts import load_script

from metaslac import envs

BENCHMARK = load_script("benchmarks/factors.py")


@pytest.mark.slow
def test_factors_of_low_rank_find_the_goal_where_diagonal_ones_do_not() -> None:
    family = envs.make_family("point_robot")
    train, test = (
        torch.tensor(np.array([task.params for task in tasks]), dtype=torch.float32)
        for tasks in (family.train_tasks, family.test_tasks)
    )
    least = {}
    for rank in (0, 2):
        study = BENCHMARK.Study(rank, 0, train, test)
        study.learn(1_500)
        least[rank] = min(study.score()["r_squared"])
    assert least[2] > 0.96 and least[0] < 0.93
