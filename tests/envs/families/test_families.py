"""Task lists, options and the registry: what is frozen, and what is refused."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.hopper import HopperRandParams
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.family import TaskParams


def test_cheetah_vel_targets_are_pearls() -> None:
    family = envs.make_family("cheetah_vel")
    expected = np.random.RandomState(1337).uniform(0, 3, 130)
    assert [task.params for task in family.tasks[:130]] == [(float(v),) for v in expected]
    assert [task.index for task in family.train_tasks] == list(range(100))
    assert [task.index for task in family.test_tasks] == list(range(100, 130))
    assert {task.split for task in family.test_tasks} == {"test"}
    # Known from the held-out targets alone: the return of standing still for 200 steps.
    assert -200 * expected[100:].mean() == pytest.approx(-283.5, abs=0.1)


def test_point_robot_has_80_goals_to_train_on_and_20_held_out() -> None:
    family = envs.make_family("point_robot")
    goals = np.array([task.params for task in family.tasks[:100]])
    np.testing.assert_array_equal(goals, np.random.RandomState(1337).uniform(-1, 1, (100, 2)))
    assert (len(family.train_tasks), len(family.test_tasks)) == (80, 20)


@pytest.mark.parametrize("name", envs.family_names())
def test_task_hash_covers_names_splits_and_exact_values(name: str) -> None:
    family = envs.make_family(name)
    header = json.dumps([name, list(family.param_names), [len(family.train_tasks), len(family.test_tasks)]])
    tasks = family.train_tasks + family.test_tasks
    assert tasks == family.tasks[: len(tasks)]  # their places are those from before there were others
    values = b"".join(np.float64(v).tobytes() for task in tasks for v in task.params)
    assert family.task_hash == hashlib.sha256(header.encode() + values).hexdigest()
    assert envs.make_family(name, image_size=32, action_repeat=2).task_hash == family.task_hash


def test_task_lists_never_change_unnoticed() -> None:
    hashes = {name: envs.make_family(name).task_hash[:16] for name in envs.family_names()}
    assert hashes == {
        "ant_dir": "552dfee467168920",
        "ant_goal": "198a2a84229b57f2",
        "cheetah_dir": "81969d08c7b0311d",
        "cheetah_vel": "bda8fb6ac14fe776",
        "hopper_rand_params": "34024254cb9b9261",
        "humanoid_dir": "ae5a61724eb16124",
        "point_robot": "e168ddf5ab73ef29",
        "reacher_goal": "4bad6e071e2ca375",
        "sparse_point_robot": "d8335d3b307695c7",
        "walker_rand_params": "87454954e40efe7f",
    }


@pytest.mark.parametrize("name", envs.family_names())
def test_there_are_as_many_tasks_to_choose_on_as_to_judge_on(name: str) -> None:
    family = envs.make_family(name)
    assert len(family.validation_tasks) == len(family.test_tasks)
    assert family.tasks[-len(family.validation_tasks) :] == family.validation_tasks
    assert [task.index for task in family.tasks] == list(range(len(family.tasks)))
    others = {task.params for task in family.train_tasks + family.test_tasks}
    shared = [task for task in family.validation_tasks if task.params in others]
    assert len(shared) == (2 if name == "cheetah_dir" else 0)  # whose directions are all there are


@pytest.mark.parametrize(
    "name", ["ant_goal", "cheetah_vel", "hopper_rand_params", "point_robot", "reacher_goal"]
)
def test_tasks_to_choose_on_are_drawn_as_the_others(name: str) -> None:
    family = envs.make_family(name)
    others, drawn = (
        np.array([task.params for task in tasks])
        for tasks in (family.train_tasks + family.test_tasks, family.validation_tasks)
    )
    away = drawn.mean(0) - others.mean(0)
    assert (np.abs(away) < 4 * others.std(0) / np.sqrt(len(drawn))).all()
    assert (np.abs(drawn - others.mean(0)) < 1.1 * np.abs(others - others.mean(0)).max(0)).all()


def test_lists_to_choose_on_never_change_unnoticed() -> None:
    hashes = {name: envs.make_family(name).validation_hash[:16] for name in envs.family_names()}
    assert hashes == {
        "ant_dir": "a401baa5047c776f",
        "ant_goal": "9622a3ede3f66c08",
        "cheetah_dir": "a3b9141326c70e8c",
        "cheetah_vel": "f1d970c07b0a3c1a",
        "hopper_rand_params": "1b5e45f9f47e3b63",
        "humanoid_dir": "42bafcb6b7897392",
        "point_robot": "9fc3ce2e70787b18",
        "reacher_goal": "295f03fe25dded14",
        "sparse_point_robot": "2444c353aa5fb1fa",
        "walker_rand_params": "784faa8363c706fd",
    }
    header = json.dumps(["point_robot", ["goal_x", "goal_y"], [20]]).encode()
    values = np.random.RandomState(1338).uniform(-1, 1, (20, 2)).tobytes()
    assert hashes["point_robot"] == hashlib.sha256(header + values).hexdigest()[:16]


class Moved(PointRobot):
    """Draws tasks of its own, and none to choose on."""

    name = "moved"

    def task_params(self) -> tuple[TaskParams, TaskParams]:
        return [[5.0, 5.0]], [[6.0, 6.0]]


class MovedWhole(Moved):
    def validation_params(self) -> TaskParams:
        return [[7.0, 7.0]]


class MovedBadly(Moved):
    def validation_params(self) -> TaskParams:
        return [[7.0]]


def test_a_family_of_ones_own_need_have_none_and_takes_none_from_its_base() -> None:
    assert Moved().validation_tasks == () and len(Moved().tasks) == 2
    assert [task.params for task in MovedWhole().validation_tasks] == [(7.0, 7.0)]
    assert MovedWhole().task_hash == Moved().task_hash
    assert MovedWhole().validation_hash != Moved().validation_hash
    with pytest.raises(envs.FamilyError, match="every task needs a value for each of"):
        MovedBadly().tasks  # noqa: B018


def test_unknown_family_lists_the_names_and_the_nearest_in_one_line() -> None:
    with pytest.raises(envs.UnknownFamilyError) as caught:
        envs.make_family("cheeta_vel")
    message = str(caught.value)
    assert ", ".join(envs.family_names()) in message
    assert "did you mean 'cheetah_vel'?" in message
    assert "\n" not in message
    assert isinstance(caught.value, envs.FamilyError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image_size": 48}, r"image_size must be one of \(32, 64, 128\), got 48"),
        ({"image_size": "64"}, "image_size must be one of"),
        ({"action_repeat": 0}, "action_repeat must be a positive integer, got 0"),
        ({"action_repeat": 1.5}, "action_repeat must be a positive integer, got 1.5"),
        ({"action_repeat": 3}, "action_repeat must divide the horizon of 200, got 3"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, int], said: str) -> None:
    with pytest.raises(envs.FamilyError, match=said):
        envs.make_family("cheetah_vel", **options)


def test_episode_steps_count_decisions() -> None:
    family = envs.make_family("cheetah_vel", action_repeat=4)
    assert (family.horizon, family.episode_steps) == (200, 50)


@pytest.mark.parametrize("index", [-1, 160, 1.0, True, "0"])
def test_unknown_task_is_refused(index: object) -> None:
    with pytest.raises(envs.FamilyError, match="unknown task .* the tasks are 0 to 159"):
        envs.make_family("cheetah_vel").task(index)  # type: ignore[arg-type]


class Lists(PointRobot):
    """A point robot with whatever lists of tasks."""

    def __init__(self, params: Any, validation: Any = ()) -> None:
        super().__init__(image_size=32, observation="state")
        self.given = params, validation

    def task_params(self) -> Any:
        return self.given[0]

    def validation_params(self) -> Any:
        return self.given[1]


def test_arrays_are_as_good_as_lists() -> None:
    rows = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], [[0.7, 0.8]], [[0.9, 1.0], [-0.1, 0.0]]
    lists = Lists(rows[:2], rows[2])
    for dtype in (np.float64, object):
        arrays = Lists(tuple(np.array(part, dtype) for part in rows[:2]), np.array(rows[2], dtype))
        assert arrays.tasks == lists.tasks
        assert arrays.task_hash == lists.task_hash and arrays.validation_hash == lists.validation_hash
        assert all(type(value) is float for task in arrays.tasks for value in task.params)
    env = envs.make_vector_env(arrays, 2)
    assert env.reset(seed=0, options={"task": np.array([0, 5])})[1]["task"].tolist() == [0, 5]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (((np.ones(3), np.ones(2)),), "task_params must give rows of numbers"),
        ((([["a", "b"]], [[1.0, 2.0]]),), "task_params must give rows of numbers"),
        ((None,), "task_params must give rows of numbers"),
        ((([[1.0, 2.0]],),), "task_params must give training tasks and held-out tasks"),
        (((np.ones((2, 3)), np.ones((1, 3))),), "every task needs a value for each of"),
        (((np.ones((0, 2)), np.ones((1, 2))),), "there must be training tasks and held-out tasks"),
        (((np.full((2, 2), np.nan), np.ones((1, 2))),), "every task.s values must be finite"),
        (((np.ones((2, 2)), np.ones((1, 2))), [1.0, 2.0]), "validation_params must give rows of numbers"),
        (((np.ones((2, 2)), np.ones((1, 2))), [[1.0, np.inf]]), "every task.s values must be finite"),
    ],
)
def test_lists_of_tasks_that_cannot_be_are_refused_in_our_words(given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(envs.FamilyError, match=f"^point_robot: {said}"):
        _ = Lists(*given).tasks


class Scaled(HopperRandParams):
    """A hopper whose bodies are what a test says."""

    given: dict[str, Any] = {}

    def task_model(self, model: Any, task: envs.Task) -> dict[str, Any]:
        return {**super().task_model(model, task), **self.given}


class Lacking(HopperRandParams):
    """A hopper of which nothing is randomised."""

    def task_model(self, model: Any, task: envs.Task) -> dict[str, Any]:
        return {}


def test_bodies_that_do_not_fit_the_model_are_refused_in_our_words() -> None:
    with pytest.raises(envs.FamilyError, match=r"task_model gives no body_inertia, body_mass"):
        envs.make_vector_env(Lacking(observation="state"), 2).reset(seed=0)
    family = Scaled(observation="state")
    family.given = {"body_mass": np.ones(3)}
    with pytest.raises(
        envs.FamilyError, match=r"randomises: 'body_mass' has shape \(2, 3\) in place of \(2, "
    ):
        envs.make_vector_env(family, 2).reset(seed=0)


def test_references_are_of_a_familys_own_tasks_and_numbers() -> None:
    family = PointRobot()
    assert [entry.name for entry in family.known_references(family.test_tasks)] == [
        "perfect play",
        "best blind play",
    ]

    class Elsewhere(PointRobot):
        def task_params(self) -> tuple[TaskParams, TaskParams]:
            return [[0.5, 0.5]], [[5.0, 5.0]]

    class Known(Elsewhere):
        def references(self, tasks: Sequence[envs.Task]) -> Sequence[envs.Reference]:
            return [envs.Reference("best", float("nan") if tasks[0].index else -1.0, "said")]

    assert Elsewhere().known_references(Elsewhere().test_tasks) == ()
    assert Known().known_references(Known().train_tasks) == (("best", -1.0, "said"),)
    with pytest.raises(envs.FamilyError, match="reference 'best' is nan"):
        Known().known_references(Known().test_tasks)
