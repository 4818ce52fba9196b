"""What the page may ask for, and which tasks come of it."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import pytest

from metaslac.envs import make_family
from metaslac.envs.pixels.camera import Camera, camera_of
from metaslac.errors import MetaslacError
from metaslac.launchers.watch.orders import Wishes, follow
from metaslac.launchers.watch.tasks import TaskChoice

NOW = Wishes((0.5, -0.3), 7.0)


def choice(name: str) -> TaskChoice:
    return TaskChoice(make_family(name, image_size=32), name)


def camera(name: str) -> Camera:
    family = make_family(name, image_size=32)
    model = family.model()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return camera_of(model, data, model.camera(family.camera).id, mujoco.MjvScene(model, maxgeom=1))


def after(order: Any, name: str = "point_robot") -> Wishes:
    return follow(order, NOW, choice(name), camera(name), 2)


@pytest.mark.parametrize("name", ["point_robot", "sparse_point_robot", "reacher_goal"])
def test_a_click_on_a_goal_is_that_goal(name: str) -> None:
    goal = choice(name).first
    (place,) = camera(name).project(np.array([[*goal, 0.0]]))
    wishes = after({"click": place.tolist()}, name)
    assert wishes.params == pytest.approx(goal, abs=0.02) and wishes.trial == 1


@pytest.mark.parametrize("name", ["point_robot", "sparse_point_robot", "reacher_goal", "cheetah_dir"])
def test_what_no_task_has_becomes_something_near_that_one_may_have(name: str) -> None:
    tasks = choice(name)
    rng = np.random.default_rng(0)
    for wanted in rng.uniform(-2.0, 2.0, (20, len(tasks.family.param_names))):
        found = tasks.nearest(wanted)
        tasks.family.with_own_task(found)  # or raises
        listed = min(math.dist(task.params, wanted) for task in tasks.family.tasks)
        assert math.dist(found, wanted) <= listed + 0.3


@pytest.mark.parametrize("wanted", [(1.5, 1.5), (-1.2, 0.3), (0.0, -1.9)])
def test_out_of_a_square_that_is_near_its_edge(wanted: tuple[float, float]) -> None:
    found = choice("point_robot").nearest(wanted)
    assert found == pytest.approx(tuple(np.clip(wanted, -1, 1)), abs=0.05)


def test_only_families_of_goals_are_clicked() -> None:
    assert choice("point_robot").has_goals and not choice("cheetah_vel").has_goals
    with pytest.raises(MetaslacError, match="no goals"):
        after({"click": [0.5, 0.5]}, "cheetah_vel")


def test_sliders_are_for_few_parameters() -> None:
    (slider,) = choice("cheetah_vel").sliders
    assert slider.name == "target_velocity" and 0 <= slider.low < 0.2 and 2.8 < slider.high <= 3
    assert choice("walker_rand_params").sliders == []


def test_held_out_tasks_come_in_turn() -> None:
    tasks = choice("point_robot")
    params, met = NOW.params, []
    for _ in range(21):
        params = tasks.after(params)
        met.append(params)
    held_out = [task.params for task in tasks.family.test_tasks]
    assert met == [*held_out, held_out[0]]


def test_the_other_orders_change_what_they_say() -> None:
    assert after({"params": [0.1, 0.2]}) == Wishes((0.1, 0.2), 7.0, trial=1)
    assert after({"forget": True}) == Wishes(NOW.params, 7.0, trial=1)
    assert after({"redraw": True}) == Wishes(NOW.params, 7.0, redraw=True)
    assert after({"paused": True}) == Wishes(NOW.params, 7.0, paused=True)
    assert after({"hand": [1, -2.5]}) == Wishes(NOW.params, 7.0, hand=(1.0, -2.5))
    assert after({"pace": 20}) == Wishes(NOW.params, 20.0)


@pytest.mark.parametrize(
    "order",
    [
        *[None, 3, [], {}, "forget", {"forget": True, "pace": 3}, {"fly": 1}, {"forget": 1}],
        *[{"click": [0.5]}, {"click": [0.5, 1.01]}, {"click": "ab"}, {"click": [True, 0]}],
        *[{"click": [math.nan, 0.5]}, {"params": [0.1]}, {"params": [math.inf, 0]}, {"params": None}],
        *[{"params": [10**400, 0]}, {"task": "last"}, {"redraw": "yes"}, {"paused": 1}],
        *[{"hand": [1]}, {"hand": [4, 0]}, {"hand": {"0": 1}}, {"pace": 0}, {"pace": 1000}, {"pace": "5"}],
    ],
)
def test_everything_else_is_refused(order: Any) -> None:
    with pytest.raises(MetaslacError):
        after(order)
