"""What beliefs are read with: probes fitted on training tasks alone, where there is something to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import untrained_checkpoint

from metaslac.config.text import with_values
from metaslac.envs import FamilyError, make_family
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.family import Task
from metaslac.envs.overlay import Goal, Overlay
from metaslac.launchers.api.reading import TRIALS, read_beliefs
from metaslac.launchers.api.trained import Trained, load_trained
from metaslac.launchers.media.video import spread


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    directory = untrained_checkpoint(tmp_path / "agent", make_family("point_robot", image_size=32))
    return load_trained(directory, None, "cpu", 1)


def test_before_any_step_it_is_the_mean_of_training_tasks(trained: Trained) -> None:
    probes = read_beliefs(trained, episodes=2, seed=0)
    assert probes is not None and len(probes.weights) == 2 * 20 + 1
    goals = np.array([task.params for task in spread(trained.family.train_tasks, TRIALS)])
    mean, covariance = probes.read(np.zeros(trained.agent.task_size), 0)
    np.testing.assert_allclose(mean, goals.mean(0), atol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(goals.T), atol=1e-6)


class Unmarked(PointRobot):
    def overlay(self, task: Task) -> Overlay:
        return Overlay()


class Uneven(PointRobot):
    def overlay(self, task: Task) -> Overlay:
        return Overlay((Goal((0.0, 0.0)),) * (1 + task.index % 2))


def test_there_is_nothing_to_read_without_inference_or_marks(trained: Trained) -> None:
    blind = with_values(trained.config, {"task.inference": "blind"})
    assert read_beliefs(trained._replace(config=blind), episodes=1, seed=0) is None
    assert read_beliefs(trained._replace(family=Unmarked(image_size=32)), episodes=1, seed=0) is None


def test_marks_that_differ_between_tasks_are_refused(trained: Trained) -> None:
    with pytest.raises(FamilyError, match="other marks for other tasks"):
        read_beliefs(trained._replace(family=Uneven(image_size=32)), episodes=1, seed=0)
