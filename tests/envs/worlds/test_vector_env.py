"""The vector env's promises: seeds, slots, ends of episodes, action repeat, and errors in one line."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.simulation import State

FAMILIES = envs.family_names()


def make(name: str, num_envs: int, **options: int) -> envs.TaskVectorEnv:
    return envs.make_vector_env(envs.make_family(name, image_size=32, **options), num_envs)


def random_actions(env: envs.TaskVectorEnv, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (env.num_envs, env.family.action_size))


@pytest.mark.parametrize("name", FAMILIES)
def test_same_seed_and_task_give_the_same_episode_in_any_slot(name: str) -> None:
    one, many = make(name, 1), make(name, 5)
    alone, _ = one.reset(seed=[11], options={"task": [3]})
    among, _ = many.reset(seed=[1, 2, 3, 11, 5], options={"task": [0, 1, 2, 3, 0]})
    np.testing.assert_array_equal(alone[0], among[3])
    np.testing.assert_array_equal(one.worlds.simulation.qpos[0], many.worlds.simulation.qpos[3])
    for k in range(5):
        actions = random_actions(many, k)
        a, b = one.step(actions[3:4]), many.step(actions)
        np.testing.assert_array_equal(a[0][0], b[0][3])
        assert a[1][0] == b[1][3]
    one.close()
    many.close()


def test_seeds_differ_between_worlds_and_generators_go_on() -> None:
    env = make("cheetah_vel", 3)
    env.reset(seed=7)
    first = env.worlds.simulation.qpos.copy()
    assert len(np.unique(first[:, 1])) == 3
    env.reset()
    second = env.worlds.simulation.qpos.copy()
    assert not np.array_equal(first, second)
    env.reset(seed=[7, 8, 9])
    np.testing.assert_array_equal(env.worlds.simulation.qpos, first)
    env.reset()
    np.testing.assert_array_equal(env.worlds.simulation.qpos, second)
    env.close()


def test_a_seed_sequence_or_a_generator_will_do() -> None:
    env = make("point_robot", 2)
    keyed = np.random.SeedSequence(0, spawn_key=(3, 1))
    env.reset(seed=[keyed, np.random.default_rng(keyed)], options={"task": [0, 0]})
    np.testing.assert_array_equal(env.worlds.simulation.qpos[0], env.worlds.simulation.qpos[1])
    env.close()


def test_numpys_global_state_is_left_alone() -> None:
    before = np.random.get_state()
    env = make("cheetah_vel", 2)
    env.reset()
    env.step(random_actions(env))
    env.close()
    after = np.random.get_state()
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_action_repeat_sums_rewards_over_an_episode_of_the_same_length(name: str) -> None:
    every, fifth = make(name, 2), make(name, 2, action_repeat=5)
    for env in (every, fifth):
        env.reset(seed=1, options={"task": [2, 3]})
    for k in range(fifth.family.episode_steps):
        actions = random_actions(fifth, k)
        single = [every.step(actions) for _ in range(5)]
        frames, rewards, terminated, truncated, _ = fifth.step(actions)
        np.testing.assert_allclose(rewards, sum(step[1] for step in single), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(frames, single[-1][0])
        np.testing.assert_array_equal(terminated, single[-1][2])
        np.testing.assert_array_equal(truncated, single[-1][3])
        np.testing.assert_array_equal(truncated, ~terminated & (k == fifth.family.episode_steps - 1))
    every.close()
    fifth.close()


def test_an_ended_world_repeats_its_last_frame_while_the_others_go_on() -> None:
    env = make("point_robot", 3)
    env.reset(seed=0, options={"task": [0, 1, 2]})
    push = np.full((3, 2), 0.5)
    for _ in range(10):
        env.step(push)
    before = env.worlds.simulation.qpos.copy()
    only_second = {"task": [3, 4, 5], "reset_mask": np.array([False, True, False])}
    frames, info = env.reset(seed=[5, 6, 7], options=only_second)
    assert info.keys() == {"task"} and info["task"].tolist() == [0, 4, 2]
    assert [task.index for task in env.tasks if task] == [0, 4, 2]
    np.testing.assert_array_equal(env.worlds.simulation.qpos[[0, 2]], before[[0, 2]])
    assert not np.array_equal(env.worlds.simulation.qpos[1], before[1])
    for _ in range(10):
        last, _, _, truncated, _ = env.step(-push)
    np.testing.assert_array_equal(truncated, [True, False, True])
    ended = env.worlds.simulation.qpos.copy()
    frames, rewards, terminated, truncated, _ = env.step(push)
    np.testing.assert_array_equal(frames[[0, 2]], last[[0, 2]])
    assert not np.array_equal(frames[1], last[1])
    np.testing.assert_array_equal(rewards[[0, 2]], 0.0)
    assert rewards[1] < 0
    np.testing.assert_array_equal(env.worlds.simulation.qpos[[0, 2]], ended[[0, 2]])
    np.testing.assert_array_equal(truncated, [True, False, True])
    assert not terminated.any()
    env.close()


class ShortFence(PointRobot):
    """A point that is lost for good beyond x = 0.5: a family written outside the package."""

    name = "short_fence"

    def terminated(self, params: np.ndarray, state: State) -> np.ndarray:
        return state.qpos[:, 0] > 0.5


def test_termination_cuts_a_repeated_action_short_and_is_no_truncation() -> None:
    env = envs.make_vector_env(ShortFence(image_size=32, action_repeat=5), 2)
    env.reset(seed=0, options={"task": [0, 0]})
    env.worlds.simulation.qpos[:] = [[0.35, 0.0], [-0.9, 0.0]]
    _, rewards, terminated, truncated, info = env.step(np.array([[1.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(terminated, [True, False])
    assert not truncated.any()
    assert info["control_steps"].tolist() == [2, 5]
    np.testing.assert_allclose(env.worlds.simulation.qpos[:, 0], [0.55, -0.4])
    goal = np.array(env.params[0])
    assert rewards[0] == pytest.approx(-sum(np.hypot(*(np.array([x, 0.0]) - goal)) for x in (0.45, 0.55)))
    assert env.step(np.ones((2, 2)))[1][0] == 0.0
    env.close()


def test_frames_belong_to_the_caller() -> None:
    env = make("point_robot", 2)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second, *_ = env.step(np.ones((2, 2)))
    np.testing.assert_array_equal(first, kept)
    second[:] = 0
    assert env.render()[0].max() > 0
    assert (first.dtype, first.shape) == (np.uint8, (2, 32, 32, 3))
    env.close()


def test_params_are_those_of_the_tasks_played() -> None:
    env = make("cheetah_vel", 2)
    env.reset(options={"task": [3, 101]})
    np.testing.assert_array_equal(env.params, [env.family.tasks[3].params, env.family.tasks[101].params])
    for seed in range(30):
        env.reset(seed=seed)
        assert {task.split for task in env.tasks if task} == {"train"}
    env.close()


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.zeros((2, 5)), r"shape \(2, 6\), got \(2, 5\)"),
        (np.zeros(6), r"shape \(2, 6\), got \(6,\)"),
        (np.full((2, 6), np.nan), r"in \[-1, 1\], got nan in world 0 \(cheetah_vel task 0: target_velocity="),
        (np.full((2, 6), 1.1), r"in \[-1, 1\], got 1.1 in world 0"),
        ("left", "must be an array of numbers"),
    ],
)
def test_bad_actions_are_refused_and_nothing_moves(actions: np.ndarray, said: str) -> None:
    env = make("cheetah_vel", 2)
    env.reset(seed=0, options={"task": [0, 1]})
    before = env.worlds.simulation.qpos.copy()
    with pytest.raises(envs.FamilyError, match=said):
        env.step(actions)
    np.testing.assert_array_equal(env.worlds.simulation.qpos, before)
    env.close()


def test_actions_a_rounding_error_outside_are_clipped() -> None:
    env = make("point_robot", 1)
    env.reset(seed=0)
    before = env.worlds.simulation.qpos.copy()
    env.step(np.full((1, 2), 1.0 + 5e-7))
    np.testing.assert_allclose(env.worlds.simulation.qpos - before, 0.1, rtol=0, atol=1e-12)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"options": {"task": [0]}}, "task must be one index, or one for each of the 2 worlds, got 1"),
        ({"options": {"task": "3"}}, "point_robot: unknown task '3'; the tasks are 0 to 119"),
        ({"options": {"task": [0, 120]}}, "point_robot: unknown task 120; the tasks are 0 to 119"),
        ({"options": {"tasks": 0}}, "unknown reset options"),
        ({"options": {"reset_mask": np.array([True])}}, "reset_mask must be a bool array"),
        ({"options": {"reset_mask": np.zeros(2, bool)}}, "reset_mask must be a bool array"),
        ({"seed": [1, 2, 3]}, "a seed for each of the 2 worlds"),
        ({"seed": -1}, "a whole number from 0, got -1"),
        ({"seed": [0, 0.5]}, "a whole number from 0, got 0.5"),
    ],
)
def test_bad_resets_are_refused_in_one_line(arguments: dict[str, object], said: str) -> None:
    env = make("point_robot", 2)
    with pytest.raises(envs.FamilyError, match=said) as caught:
        env.reset(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    with pytest.raises(envs.FamilyError, match="reset every world before the first step"):
        env.step(np.zeros((2, 2)))
    env.close()


def test_numbers_of_worlds_and_threads_are_checked() -> None:
    family = envs.make_family("point_robot")
    with pytest.raises(envs.FamilyError, match="num_envs must be at least 1"):
        envs.make_vector_env(family, 0)
    with pytest.raises(envs.FamilyError, match="threads must be 0"):
        envs.make_vector_env(family, 1, threads=-1)


def test_a_closed_env_says_so() -> None:
    env = make("point_robot", 1)
    env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(envs.FamilyError, match="closed"):
        env.step(np.zeros((1, 2)))


@pytest.mark.parametrize("poison", [1e20, np.nan])
def test_divergence_names_world_and_task_and_the_others_go_on(
    poison: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log file where it runs
    env = make("cheetah_vel", 3)
    env.reset(seed=0, options={"task": [10, 20, 30]})
    healthy = make("cheetah_vel", 3)
    healthy.reset(seed=0, options={"task": [10, 20, 30]})
    env.worlds.simulation.qvel[1] = poison
    said = r"world 1 \(cheetah_vel task 20: target_velocity=.*BADQVEL"
    with pytest.raises(envs.SimulationDiverged, match=said) as caught:
        env.step(random_actions(env))
    assert caught.value.worlds == (1,)
    assert "world 0" not in str(caught.value)
    got, expected = caught.value.result, healthy.step(random_actions(env))
    for mine, theirs in zip(got[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(mine[[0, 2]], theirs[[0, 2]])
    assert got[1][1] == 0.0
    assert (got[2].tolist(), got[3].tolist()) == ([False] * 3, [False, True, False])
    got, expected = env.step(random_actions(env, 1)), healthy.step(random_actions(env, 1))
    for mine, theirs in zip(got[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(mine[[0, 2]], theirs[[0, 2]])
    assert got[1][1] == 0.0
    env.reset(options={"reset_mask": np.array([False, True, False]), "task": [10, 20, 30]})
    assert env.step(random_actions(env, 2))[1][1] != 0.0
    env.close()
    healthy.close()


def test_errors_name_only_the_first_of_many_parameters() -> None:
    env = envs.make_vector_env(envs.make_family("hopper_rand_params", observation="state"), 1)
    env.reset(seed=0, options={"task": [7]})
    bodies, exponents = ("world", "torso", "thigh"), env.family.tasks[7].params[:3]
    named = [f"body_mass:{body}={u:.4g}" for body, u in zip(bodies, exponents, strict=True)]
    with pytest.raises(envs.FamilyError) as caught:
        env.step(np.full((1, 3), 2.0))
    said = f"in world 0 (hopper_rand_params task 7: {', '.join(named)}, and 38 more)"
    assert str(caught.value).endswith(said)
    env.close()


def test_pictures_are_of_the_state_after_the_step() -> None:
    env = make("cheetah_vel", 2)
    env.reset(seed=0)
    env.step(random_actions(env))
    model = env.worlds.simulation.model
    data = mujoco.MjData(model)
    data.qpos[:] = env.worlds.simulation.qpos[1]
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(
        env.worlds.simulation.picture["geom_xpos"][1], data.geom_xpos, rtol=0, atol=1e-12
    )
    env.close()


def test_divergence_may_be_an_end_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    family = envs.make_family("cheetah_vel", image_size=32, action_repeat=2)
    env = envs.TaskVectorEnv(family, 2, raise_on_divergence=False)
    first, _ = env.reset(seed=0, options={"task": [0, 1]})
    info = env.step(random_actions(env))[4]
    assert "diverged" not in info
    assert info["control_steps"].tolist() == [2, 2]
    before = env.render()
    env.worlds.simulation.qvel[1] = np.nan
    frames, rewards, terminated, truncated, info = env.step(random_actions(env))
    assert info["diverged"].tolist() == truncated.tolist() == [False, True]
    assert info["control_steps"].tolist() == [2, 1]
    assert not terminated.any()
    assert rewards[0] != rewards[1] == 0.0
    np.testing.assert_array_equal(frames[1], before[1])
    assert not np.array_equal(frames[0], before[0])
    assert "diverged" not in env.step(random_actions(env))[4]
    env.close()
