"""People look on: overlays are those of their tasks, and what agents see does not change."""

import numpy as np
import pytest
from helpers.dials import SIDE, Dials

from metaslac import envs
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.family import Task
from metaslac.envs.overlay import Gauge, Goal, Heading, Overlay
from metaslac.envs.worlds.viewer import Viewer, overlay_of


@pytest.mark.parametrize("name", [*envs.family_names(), "dmc:cartpole-swingup"])
@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_agents_see_the_same_whether_anybody_looks_or_not(name: str, observation: str) -> None:
    family = envs.make_family(name, image_size=32, observation=observation)
    seen = []
    for looks in (False, True):
        env = envs.make_vector_env(family, 2)
        viewer = Viewer(env, 256) if looks else None
        rng = np.random.default_rng(0)
        found = [env.reset(seed=0, options={"task": [0, len(family.tasks) - 1]})[0]]
        for _ in range(4):
            if viewer is not None:
                viewer.pictures([0, 1])
                viewer.view(1, overlay_of(family, family.tasks[0]).follows)
            observations, rewards, *_ = env.step(rng.uniform(-1, 1, (2, family.action_size)))
            found += [observations, rewards]
        if viewer is not None:
            viewer.close()
        env.close()
        seen.append([values.tobytes() for values in found])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ["point_robot", "sparse_point_robot", "reacher_goal", "ant_goal"])
def test_a_goal_is_the_tasks(name: str) -> None:
    family = envs.make_family(name)
    for task in family.tasks:
        overlay = overlay_of(family, task)
        (goal,) = overlay.marks
        assert isinstance(goal, Goal) and overlay.target == goal.place == task.params and overlay.trail
        assert goal.radius == (0.2 if name == "sparse_point_robot" else 0.0)


@pytest.mark.parametrize("name", ["ant_dir", "humanoid_dir"])
def test_a_direction_is_the_tasks(name: str) -> None:
    family = envs.make_family(name)
    for task in family.tasks:
        (heading,) = overlay_of(family, task).marks
        assert isinstance(heading, Heading)
        assert np.arctan2(*heading.direction[::-1]) % (2 * np.pi) == pytest.approx(task.params[0])


def test_a_cheetah_has_a_velocity_or_a_way_to_go() -> None:
    family = envs.make_family("cheetah_vel")
    (gauge,) = overlay_of(family, family.tasks[104]).marks
    assert isinstance(gauge, Gauge) and (gauge.wanted, gauge.unit) == (family.tasks[104].params[0], "m/s")
    assert all(gauge.low <= task.params[0] <= gauge.high for task in family.tasks)
    family = envs.make_family("cheetah_dir")
    ways = [overlay_of(family, task).target for task in family.tasks]
    assert ways == [(-1.0, 0.0), (1.0, 0.0)] * 3


@pytest.mark.parametrize("name", ["walker_rand_params", "hopper_rand_params"])
def test_facts_are_ratios_to_the_nominal_body_and_the_most_unusual(name: str) -> None:
    family = envs.make_family(name)
    nominal = family.model()  # type: ignore[attr-defined]
    for task in family.tasks[::7]:
        facts = overlay_of(family, task).facts
        fields = family.task_model(nominal, task)  # type: ignore[attr-defined]
        masses = fields["body_mass"][1:] / nominal.body_mass[1:]
        sliding = (fields["geom_friction"] / nominal.geom_friction)[:, 0]
        shown = {word: float(value.removeprefix("x ")) for word, value in facts}
        assert len(shown) == 4
        least = min(abs(np.log(ratio)) for ratio in shown.values())
        for kind, names, ratios in (
            ("mass of {}", [nominal.body(i).name for i in range(1, nominal.nbody)], masses),
            ("friction of {}", [nominal.geom(i).name for i in range(nominal.ngeom)], sliding),
        ):
            for part, ratio in zip(names, ratios, strict=True):
                if (word := kind.format(part)) in shown:
                    assert shown[word] == pytest.approx(ratio, rel=0.06)
                else:
                    assert abs(np.log(ratio)) < least + 0.06


class Drawn(PointRobot):
    """A point robot that says what a test has it say."""

    said: object = Overlay()

    def overlay(self, task: Task) -> Overlay:
        return self.said  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (None, "overlay must give an Overlay"),
        (Overlay(marks=("goal",)), "overlay must give an Overlay"),  # type: ignore[arg-type]
        (Overlay((Goal((0.0, np.nan)),)), "overlay of task 0 is not finite"),
        (Overlay((Heading((1.0, 0.0)),)), "follows no geom"),
    ],
)
def test_an_overlay_that_cannot_be_drawn_is_refused(overlay: object, said: str) -> None:
    family = Drawn()
    family.said = overlay
    with pytest.raises(envs.FamilyError, match=said):
        overlay_of(family, family.tasks[0])


def test_a_family_of_ones_own_need_have_none_and_a_geom_must_be_there() -> None:
    family = Drawn(image_size=32)
    assert overlay_of(family, family.tasks[0]) == Overlay()
    env = envs.make_vector_env(family, 1)
    env.reset(seed=0)
    viewer = Viewer(env)
    assert viewer.view(0).place is None
    with pytest.raises(envs.FamilyError, match="no geom called 'nose'"):
        viewer.view(0, "nose")
    viewer.close()
    env.close()


def test_environments_of_gymnasium_are_looked_at_as_they_draw_themselves() -> None:
    family = Dials(image_size=32)
    env, alone = envs.make_vector_env(family, 2), envs.make_vector_env(family, 2)
    viewer = Viewer(env, 2 * SIDE)
    options = {"task": [0, 1]}
    frames, other = (each.reset(seed=[3, 4], options=options)[0] for each in (env, alone))
    picture = viewer.pictures([1])[0]
    assert picture.shape == (2 * SIDE, 2 * SIDE, 3)
    np.testing.assert_array_equal(picture[::2, ::2][..., :2].mean((0, 1)), frames[1][..., :2].mean((0, 1)))
    assert viewer.view(0) == (None, None)
    viewer.close()
    for _ in range(3):  # who looked on has closed nothing, and changed nothing
        frames, other = (each.step(np.ones((2, 1)))[0] for each in (env, alone))
        np.testing.assert_array_equal(frames, other)
    env.close()
    alone.close()


def test_nobody_knows_where_to_draw_a_mark_in_environments_of_gymnasium() -> None:
    class Marked(Dials):
        def overlay(self, task: Task) -> Overlay:
            return Overlay(marks=(Goal((0.0, 0.0)),))

    family = Marked()
    with pytest.raises(envs.FamilyError, match="has facts alone"):
        overlay_of(family, family.tasks[0])
