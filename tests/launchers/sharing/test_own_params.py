"""A task of the user's own is played as one of the lists with its parameters is, or refused in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reports import ONE_THREAD, here, refusal

import metaslac
from metaslac.envs import FamilyError, make_family, make_vector_env

OWN = {
    "point_robot": ([0.5, -0.3], [1.0, -1.01], "a goal in [-1, 1]^2"),
    "sparse_point_robot": ([0.6, 0.8], [0.6, -0.8], "a goal on the half circle of radius 1"),
    "reacher_goal": ([-0.1, 0.1], [0.2, 0.2], "a goal 0.05 to 0.20 m from the shoulder"),
    "ant_goal": ([0.0, 2.9], [3.0, 3.0], "a goal (m) in a disc of radius 3"),
    "ant_dir": ([6.2], [6.4], "an angle from 0 to 2 pi"),
    "humanoid_dir": ([0.0], [-0.1], "an angle from 0 to 2 pi"),
    "cheetah_vel": ([3.0], [3.1], "a velocity from 0 to 3 m/s"),
    "cheetah_dir": ([-1.0], [0.0], "-1 for backward, 1 for forward"),
    "walker_rand_params": ([0.1] * 65, [0.1] * 64 + [3.1], "exponents from -3 to 3"),
    "hopper_rand_params": ([0.1] * 41, [0.1] * 40 + [-3.1], "exponents from -3 to 3"),
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_family_may_have_is_what_its_lists_have_and_more(name: str) -> None:
    family = make_family(name)
    own, outside, said = OWN[name]
    assert all(family.may_have(task.params) for task in family.tasks)
    changed = family.with_own_task(own)
    assert changed.own_tasks[0].params == tuple(own) and not family.own_tasks
    assert changed.task(len(family.tasks)) == changed.own_tasks[0]
    assert (changed.task_hash, changed.tasks) == (family.task_hash, family.tasks)
    for wrong in (outside, [np.nan] * len(own), own[1:], [*own, 0.0]):
        with pytest.raises(FamilyError, match=r"^" + name) as error:
            family.with_own_task(wrong)
        assert said in str(error.value) and family.param_names[0] in str(error.value)


def test_a_subclass_with_tasks_of_its_own_goes_by_them() -> None:
    class Far(type(make_family("point_robot"))):  # type: ignore[misc]
        name = "far"

        def task_params(self) -> tuple[list[list[float]], list[list[float]]]:
            return [[2.0, 5.0]], [[3.0, 9.0]]

    assert Far().with_own_task([2.5, 7.0]).own_tasks
    with pytest.raises(
        FamilyError, match=r"2 parameters \(goal_x, goal_y\): 2 to 3, 5 to 9; 0.5 0.5 is outside"
    ):
        Far().with_own_task([0.5, 0.5])


def test_nothing_to_choose_where_tasks_have_no_parameters() -> None:
    with pytest.raises(FamilyError, match="takes no parameters: its one task is all there is"):
        make_family("dmc:cartpole-balance").with_own_task([1.0])


def test_rewards_are_those_of_the_parameters() -> None:
    """The same parameters as a listed task's, the same start and actions: the same rewards."""
    family = make_family("point_robot", image_size=32)
    family = family.with_own_task(family.tasks[83].params).with_own_task([0.9, 0.9])
    assert [task.index for task in family.own_tasks] == [120, 121]
    env = make_vector_env(family, 3)
    env.reset(seed=[0, 0, 0], options={"task": [83, 120, 121]})
    _, rewards, *_ = env.step(np.full((3, 2), 0.5))
    env.close()
    assert rewards[0] == rewards[1] != rewards[2]


def test_adapt_plays_it(agent: Path, tmp_path: Path) -> None:
    goal = [-0.4375, 0.25]
    picture = tmp_path / "own.png"
    told = here(
        *["adapt", "--checkpoint", str(agent), "--params", *map(str, goal), "--episodes", "3", *ONE_THREAD],
        *["--json", str(tmp_path / "own.json"), "--picture", str(picture)],
    )
    assert "\nown   -0.438   0.250 " in told and picture.is_file()
    (task,) = json.loads((tmp_path / "own.json").read_text())["tasks"]
    assert (task["index"], task["params"], len(task["returns"])) == (None, goal, 3)
    called = metaslac.adapt(agent, params=goal, episodes=3, threads=1)
    assert [float(value) for value in called.tasks[0].returns] == task["returns"]
    # Given in other ways it is the same.
    for words in (
        ["--params=-0.4375 0.25"],
        ["--params=-0.4375,0.25"],
        ["--params", "-0.4375", ".25", *ONE_THREAD],
    ):
        again = here("adapt", "--checkpoint", str(agent), *words, "--episodes", "3", *ONE_THREAD)
        assert again.splitlines()[:3] == told.splitlines()[:3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--params", "0.5", "1.5"], "a goal in [-1, 1]^2; 0.5 1.5 is outside of that"),
        (["--params", "0.5"], "2 parameters (goal_x, goal_y): a goal in [-1, 1]^2; given: 1"),
        (["--params", "nan", "0"], "is outside of that"),
        (["--params"], "--params takes numbers, such as 0.5 -0.3, not ''"),
        (["--params=a,b"], "--params takes numbers, such as 0.5 -0.3, not 'a,b'"),
        (["--params", "0.5", "0.5", "--task", "83"], "--task and --params do not go together"),
    ],
    ids=str,
)
def test_what_no_task_has_is_refused(agent: Path, words: list[str], said: str) -> None:
    assert said in refusal("adapt", "--checkpoint", str(agent), *words, *ONE_THREAD)
