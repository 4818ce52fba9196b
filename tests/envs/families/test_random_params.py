"""walker_rand_params and hopper_rand_params against models edited one by one and stepped by plain MuJoCo."""

import gymnasium
import mujoco
import numpy as np
import pytest
from bodies import DERIVED, FIELDS, HOPPER, WALKER, Body, bodies, constants

from metaslac import envs
from metaslac.envs.simulation import State

TASKS = [0, 7, 23, 39, 40, 49]


def fell(body: Body, qpos: np.ndarray, qvel: np.ndarray) -> bool:
    z, angle = qpos[1], qpos[2]
    if body is WALKER:
        return z <= 0.8 or z >= 2.0 or abs(angle) >= 1.0
    s = np.concatenate([qpos, qvel])
    return not (np.isfinite(s).all() and (np.abs(s[2:]) < 100).all() and z > 0.7 and abs(angle) < 0.2)


def trajectory(body: Body, model: mujoco.MjModel, task: int, steps: int = 40) -> np.ndarray:
    """qpos and qvel after each step of 0.016 s under actions that belong to the task's number."""
    data = mujoco.MjData(model)
    states, contacts = [], 0
    for action in actions_of(body, task, steps):
        data.ctrl[:] = action
        mujoco.mj_step(model, data, nstep=4)
        states.append(np.concatenate([data.qpos, data.qvel]))
        contacts += data.ncon
    assert contacts, "the comparison should include contacts"
    return np.array(states)


def actions_of(body: Body, task: int, steps: int = 40) -> np.ndarray:
    return np.random.default_rng(task).uniform(-1, 1, (steps, body.actions))


def played(body: Body, threads: int = 1, steps: int = 40) -> np.ndarray:
    """The same trajectories (tasks, steps, nq + nv) as the family plays them, on after bodies have fallen."""
    env = body.make(len(TASKS), threads)
    env.reset(seed=0, options={"task": TASKS})
    simulation, worlds = env.worlds.simulation, np.arange(len(TASKS))
    simulation.qpos[:], simulation.qvel[:] = simulation.model.qpos0, 0.0
    actions = np.stack([actions_of(body, task, steps) for task in TASKS], axis=1)
    states = []
    for action in actions:
        assert not env.worlds.step(worlds, action).failed
        states.append(np.concatenate([simulation.qpos, simulation.qvel], axis=1))
    env.close()
    return np.stack(states, axis=1)


@bodies
@pytest.mark.parametrize("threads", [1, 2])
def test_physics_equals_models_edited_one_by_one(body: Body, threads: int) -> None:
    for task, states in zip(TASKS, played(body, threads), strict=True):
        np.testing.assert_array_equal(states, trajectory(body, body.edited(task), task))


@bodies
@pytest.mark.parametrize("leave", FIELDS)
def test_every_field_matters(body: Body, leave: str) -> None:
    for task, states in zip(TASKS, played(body), strict=True):
        assert not np.array_equal(states, trajectory(body, body.edited(task, leave=leave), task))


@bodies
def test_derived_constants_matter(body: Body) -> None:
    for task, states in zip(TASKS, played(body), strict=True):
        assert not np.array_equal(states, trajectory(body, body.edited(task, constants=False), task))


@bodies
def test_exponents_are_pearls_draws_and_named_after_the_model(body: Body) -> None:
    family, model = envs.make_family(body.family), body.nominal()
    np.testing.assert_array_equal([task.params for task in family.tasks[:50]], body.exponents())
    assert (len(family.train_tasks), len(family.test_tasks)) == (40, 10)
    names = [f"body_mass:{model.body(i).name}" for i in range(model.nbody)]
    names += [f"body_inertia:{model.body(i).name}:{axis}" for i in range(model.nbody) for axis in "xyz"]
    names += [f"dof_damping:{model.joint(model.dof_jntid[i]).name}" for i in range(model.nv)]
    kinds = ("sliding", "torsional", "rolling")
    names += [f"geom_friction:{model.geom(i).name}:{kind}" for i in range(model.ngeom) for kind in kinds]
    assert list(family.param_names) == names
    assert len(names) == body.params


@bodies
def test_values_span_the_ranges_and_are_independent(body: Body) -> None:
    family, nominal = envs.make_family(body.family), body.nominal()
    model = family.model()
    matter = 0
    for field in FIELDS:
        values = np.array([family.task_model(model, task)[field] for task in family.tasks])
        there = getattr(nominal, field) != 0
        factors = values[:, there] / getattr(nominal, field)[there]
        limit = (1.3 if field == "dof_damping" else 1.5) ** 3
        assert factors.min() >= 1 / limit * (1 - 1e-12)
        assert factors.max() <= limit * (1 + 1e-12)
        assert factors.min() < 1 / limit * 1.05
        assert factors.max() > limit * 0.95
        assert len(np.unique(factors.round(9))) == factors.size, "every number has a draw of its own"
        assert (values[:, ~there] == 0).all()
        matter += factors.shape[1]
    assert matter == {65: 58, 41: 34}[body.params]


def test_the_walkers_feet_have_different_friction() -> None:
    model = envs.make_family("walker_rand_params").model()
    assert model.geom("foot_geom").friction[0] == 0.9
    assert model.geom("foot_left_geom").friction[0] == 1.9


def assert_is_model_of(got: dict[str, np.ndarray], expected: mujoco.MjModel) -> None:
    for field, values in got.items():
        np.testing.assert_array_equal(values, getattr(expected, field), err_msg=field)


@bodies
def test_a_world_that_changes_its_task_gets_that_tasks_model_and_the_others_keep_theirs(body: Body) -> None:
    env = body.make(3)
    env.reset(seed=0, options={"task": [1, 2, 3]})
    env.step(np.zeros((3, body.actions)))
    before = env.worlds.simulation.qpos.copy()
    for second in (4, 45, 2, 2):
        env.reset(options={"task": [9, second, 9], "reset_mask": np.array([False, True, False])})
        for world, task in enumerate([1, second, 3]):
            assert_is_model_of(constants(env, world), body.edited(task))
        np.testing.assert_array_equal(env.worlds.simulation.qpos[[0, 2]], before[[0, 2]])
    nominal, first = body.nominal(), constants(env, 0)
    for field in (*FIELDS, *DERIVED):
        assert not np.array_equal(first[field], getattr(nominal, field)), f"{field} never differs: no test"
    env.close()


@bodies
def test_episodes_go_on_unmoved_by_a_reset_of_another_world(body: Body) -> None:
    disturbed, alone = body.make(2), body.make(2)
    for env in (disturbed, alone):
        env.reset(seed=0, options={"task": [1, 2]})
    for k in range(5):
        disturbed.reset(options={"task": [0, 10 + k], "reset_mask": np.array([False, True])})
        actions = 0.3 * actions_of(body, k, 2)
        first, second = disturbed.step(actions), alone.step(actions)
        np.testing.assert_array_equal(first[0][0], second[0][0])
        assert first[1][0] == second[1][0]
    disturbed.close()
    alone.close()


@bodies
def test_rewards_and_ends_equal_the_formulas(body: Body) -> None:
    env = body.make(len(TASKS))
    env.reset(seed=3, options={"task": TASKS})
    simulation, worlds = env.worlds.simulation, np.arange(len(TASKS))
    ends = np.zeros(2, int)
    for action in np.random.default_rng(0).uniform(-1, 1, (40, len(TASKS), body.actions)):
        x = simulation.qpos[:, 0].copy()
        outcome = env.worlds.step(worlds, action)
        for i in worlds:
            velocity = (simulation.qpos[i, 0] - x[i]) / 0.016
            expected = velocity + 1 - 1e-3 * sum(a * a for a in action[i])
            assert outcome.rewards[i] == pytest.approx(expected, abs=1e-12)
            assert outcome.terminated[i] == fell(body, simulation.qpos[i], simulation.qvel[i])
        ends += [(~outcome.terminated).sum(), outcome.terminated.sum()]
    assert ends.min() > 20, "both outcomes should be seen"
    env.close()


@pytest.mark.parametrize(
    ("body", "z", "angle", "further", "ended"),
    [
        (WALKER, 1.25, 0.0, 0.0, False),
        (WALKER, 0.8, 0.0, 0.0, True),
        (WALKER, 0.81, 0.0, 0.0, False),
        (WALKER, 1.99, 0.0, 0.0, False),
        (WALKER, 2.0, 0.0, 0.0, True),
        (WALKER, 1.25, 0.99, 0.0, False),
        (WALKER, 1.25, 1.0, 0.0, True),
        (WALKER, 1.25, -1.0, 0.0, True),
        (WALKER, 1.25, 0.0, 1000.0, False),
        (HOPPER, 1.25, 0.0, 0.0, False),
        (HOPPER, 0.7, 0.0, 0.0, True),
        (HOPPER, 0.71, 0.0, 0.0, False),
        (HOPPER, 150.0, 0.0, 0.0, False),
        (HOPPER, 1.25, 0.19, 0.0, False),
        (HOPPER, 1.25, 0.2, 0.0, True),
        (HOPPER, 1.25, -0.2, 0.0, True),
        (HOPPER, 1.25, 0.0, 99.9, False),
        (HOPPER, 1.25, 0.0, 100.0, True),
        (HOPPER, 1.25, 0.0, np.nan, True),
    ],
)
@pytest.mark.parametrize("where", ["joint", "velocity"])
def test_where_episodes_end(
    body: Body, z: float, angle: float, further: float, ended: bool, where: str
) -> None:
    model = body.nominal()
    qpos, qvel = np.zeros((2, model.nq)), np.zeros((2, model.nv))
    qpos[:, 1] = 1.25
    qpos[1, :3] = [1000.0, z, angle]  # however far it has run
    (qpos if where == "joint" else qvel)[1, 3] = further
    family = envs.make_family(body.family)
    got = family.terminated(np.zeros((2, body.params)), State(qpos, qvel, {}))
    np.testing.assert_array_equal(got, [False, ended])
    assert fell(body, qpos[1], qvel[1]) == ended


@bodies
def test_a_fallen_world_stops_and_the_others_go_on(body: Body) -> None:
    env = body.make(3, action_repeat=2)
    env.reset(seed=0, options={"task": [0, 1, 2]})
    simulation = env.worlds.simulation
    simulation.qpos[1, 2] = 1.2  # leans
    rest = np.zeros((3, body.actions))
    last, rewards, terminated, truncated, _ = env.step(rest)
    np.testing.assert_array_equal(terminated, [False, True, False])
    assert not truncated.any()
    assert rewards[1] < 1.5 < rewards[0], "it did not live through the second control step"
    fallen = simulation.qpos[1].copy()
    observations, rewards, terminated, truncated, _ = env.step(rest)
    np.testing.assert_array_equal(terminated, [False, True, False])
    assert not truncated.any()
    np.testing.assert_array_equal(observations[1], last[1])
    np.testing.assert_array_equal(simulation.qpos[1], fallen)
    assert rewards[1] == 0.0
    for world in (0, 2):
        assert not np.array_equal(observations[world], last[world])
        assert rewards[world] == pytest.approx(2.0, abs=0.5)
    env.reset(options={"task": [0, 1, 2], "reset_mask": np.array([False, True, False])})
    _, rewards, terminated, _, _ = env.step(rest)
    assert not terminated.any()
    assert rewards[1] == pytest.approx(2.0, abs=0.5)
    env.close()


@bodies
def test_returns_of_the_same_actions_differ_between_tasks(body: Body) -> None:
    env = body.make(50)
    env.reset(seed=[0] * 50, options={"task": list(range(50))})
    qpos = env.worlds.simulation.qpos
    assert (qpos == qpos[0]).all()
    returns = np.zeros(50)
    for action in actions_of(body, 0, 5):
        returns += env.step(np.tile(action, (50, 1)))[1]
    assert len(np.unique(returns.round(6))) == 50
    env.close()


@bodies
def test_start_and_state_observation_are_gymnasiums(body: Body) -> None:
    env, stock = body.make(2), gymnasium.make(body.stock).unwrapped
    seen, _ = env.reset(seed=[42, 1], options={"task": [3, 4]})
    expected, _ = stock.reset(seed=42)
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(env.worlds.simulation.qpos[0], stock.data.qpos)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(env.worlds.simulation.qvel[0], stock.data.qvel)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    qpos, qvel = rng.normal(size=env.worlds.simulation.qpos.shape[1]), 12 * rng.normal(size=seen.shape[1])
    qvel = qvel[: env.worlds.simulation.qvel.shape[1]]
    assert np.abs(qvel).max() > 10
    stock.set_state(qpos, qvel)  # type: ignore[attr-defined]
    env.worlds.simulation.qpos[1], env.worlds.simulation.qvel[1] = qpos, qvel
    got = env.worlds.observe(np.array([1]))[0]
    np.testing.assert_array_equal(got, stock._get_obs())  # type: ignore[attr-defined]
    assert got.shape == env.single_observation_space.shape
    env.close()
    stock.close()
