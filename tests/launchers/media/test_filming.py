"""Films for people: nothing of what is played changes, and what is filmed is what was played."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import untrained_checkpoint

from metaslac.acting.agent import load_agent
from metaslac.acting.rollout import TrialEpisode, run_trial
from metaslac.envs import make_family, make_vector_env
from metaslac.envs.family import Family
from metaslac.launchers.media.filming import Filming

TASKS = (92, 80, 85)
KEYS = [[(0, task, episode) for task in TASKS] for episode in range(2)]


def played(checkpoint: Path, family: Family, filming: Filming | None) -> list[list[TrialEpisode]]:
    agent = load_agent(checkpoint, torch.device("cpu"))
    tasks = [family.task(index) for index in TASKS]
    with (
        closing(make_vector_env(family, len(tasks), 1)) as plain,
        filming.on(plain, family, tasks) if filming else nullcontext(plain) as env,
    ):
        return run_trial(env, agent, tasks, KEYS, 1)


def test_the_agent_gets_and_does_the_same_with_people_looking_on(tmp_path: Path) -> None:
    family = make_family("point_robot", image_size=32)
    checkpoint = untrained_checkpoint(tmp_path / "agent", family)
    alone, watched = (played(checkpoint, family, filming) for filming in (None, Filming(256, 2)))
    for one, other in zip(alone, watched, strict=True):
        for first, second in zip(one, other, strict=True):
            assert first.episode.frames.shape == (21, 32, 32, 3)
            for name in ("frames", "actions", "rewards"):
                assert getattr(first.episode, name).tobytes() == getattr(second.episode, name).tobytes()
            assert first.belief_mean.tobytes() == second.belief_mean.tobytes()
    goals = {family.task(index).params for index in TASKS}
    frames = np.concatenate([entry.episode.frames for trial in watched for entry in trial])
    assert len(goals) == 3 and len({tuple(colour) for colour in frames.reshape(-1, 3)}) == 2  # ground, point


def test_what_is_filmed_is_what_was_played(tmp_path: Path) -> None:
    family = make_family("point_robot", image_size=32)
    filming = Filming(64, 2)
    trials = played(untrained_checkpoint(tmp_path / "agent", family), family, filming)
    assert list(filming.takes) == [TASKS[0], TASKS[-1]]
    for index, take in filming.takes.items():
        trial = trials[TASKS.index(index)]
        assert (take.task.index, take.seconds, take.overlay.target) == (index, 0.1, take.task.params)
        for moments, entry in zip(take.episodes, trial, strict=True):
            places = positions(entry.episode.frames)
            assert len(moments) == len(places) == 21
            returns = np.concatenate([[0.0], np.cumsum(entry.episode.rewards)])
            np.testing.assert_allclose([moment.return_so_far for moment in moments], returns, rtol=1e-5)
            for moment, place in zip(moments, places, strict=True):
                assert moment.picture.shape == (64, 64, 3) and moment.view.place is not None
                np.testing.assert_allclose(moment.view.place[:2], place, atol=0.08)
                np.testing.assert_allclose(positions(moment.picture[None])[0], place, atol=0.08)


def test_a_slot_that_plays_a_task_again_is_not_filmed(tmp_path: Path) -> None:
    family = make_family("point_robot", image_size=32)
    filming = Filming(64, 9)
    with (
        closing(make_vector_env(family, 3, 1)) as plain,
        filming.on(plain, family, [family.task(80)]) as env,
    ):
        env.reset(seed=[1, 2, 3], options={"task": [81, 80, 80]})
        env.step(np.zeros((3, 2)))
        expected = positions(np.stack(env.render()))[1]
    (moments,) = filming.takes[80].episodes
    np.testing.assert_allclose(positions(moments[1].picture[None])[0], expected, atol=0.08)
    assert len(moments) == 2


@pytest.mark.parametrize("name", ["hopper_rand_params", "ant_dir"])
def test_an_episode_that_ends_early_is_filmed_until_then(name: str) -> None:
    family = make_family(name, image_size=32)
    filming = Filming(64, 2)
    tasks = family.test_tasks[:2]
    rng = np.random.default_rng(0)
    ends = [0, 0]
    with closing(make_vector_env(family, 2, 1)) as plain, filming.on(plain, family, tasks) as env:
        env.reset(seed=[0, 1], options={"task": [task.index for task in tasks]})
        over = np.zeros(2, dtype=bool)
        while not over.all():
            ends = [end + (not done) for end, done in zip(ends, over, strict=True)]
            *_, terminated, truncated, _ = env.step(rng.uniform(-1, 1, (2, family.action_size)))
            over = terminated | truncated
    assert [len(filming.takes[task.index].episodes[0]) for task in tasks] == [end + 1 for end in ends]


def positions(frames: np.ndarray) -> Sequence[np.ndarray]:
    """Where the point is in pictures that span [-2, 2]^2 seen from above."""
    found = []
    for frame in frames:
        rows, columns = np.nonzero(frame[..., 0] > 128)
        size = len(frame)
        found.append(np.array([columns.mean() + 0.5 - size / 2, size / 2 - rows.mean() - 0.5]) * 4 / size)
    return found
