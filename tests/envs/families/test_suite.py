"""The families of dm_control's suite against dm_control's own environments stepped side by side."""

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metaslac import envs
from metaslac.envs.families import suite as ours
from metaslac.envs.pixels.back_end import obstacle
from metaslac.envs.worlds.kinds.suite import SuiteWorlds

ROOT = Path(envs.__file__).resolve().parents[1]
SAMPLE = [
    "dmc:ball_in_cup-catch",
    "dmc:cheetah-run",
    "dmc:finger-turn_hard",  # entries of the observation without a shape
    "dmc:lqr-lqr_6_2",  # a model drawn by chance, actuators without a range
    "dmc:quadruped-fetch",  # actuator ranges that are not [-1, 1]
    "dmc:reacher-easy",
    "dmc:stacker-stack_2",
    "dmc:walker-walk",
]


def stock(name: str, seed: int) -> Any:
    """dm_control's own environment, its chance that of an episode of ours from a generator of this seed."""
    ours.suite_names()  # first, for how dm_control is to be imported
    from dm_control import suite

    env = suite.load(*name.removeprefix("dmc:").split("-"), task_kwargs={"random": 0})
    words = np.random.default_rng(seed).integers(2**32, size=8, dtype=np.uint32)
    env.task._random = np.random.RandomState(words)
    return env


def flat(observation: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(entry) for entry in observation.values()])


def make(name: str, num_envs: int, threads: int = 1, **options: Any) -> envs.TaskVectorEnv:
    return envs.make_vector_env(envs.make_family(name, **options), num_envs, threads)


@pytest.fixture
def no_chance_from_outside() -> Iterator[None]:
    """Fails if the test drew from numpy's global generator."""
    before = np.random.get_state()[1].copy()
    yield
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("name", SAMPLE)
def test_rewards_and_states_equal_dm_controls(name: str, no_chance_from_outside: None) -> None:
    seeds = [3, 11]
    env = make(name, 2, observation="state")
    states, _ = env.reset(seed=seeds, options={"task": [0, 1]})
    theirs = [stock(name, seed) for seed in seeds]
    np.testing.assert_array_equal(states, [flat(other.reset().observation) for other in theirs])
    assert not (states[0] == states[1]).all()
    spec = theirs[0].action_spec()
    low, high = spec.minimum, spec.maximum
    if name.startswith("dmc:lqr"):
        low, high = -np.ones(2), np.ones(2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.uniform(-1, 1, (2, *spec.shape))
        states, rewards, terminated, truncated, _ = env.step(actions)
        steps = [
            other.step((high + low) / 2 + (high - low) / 2 * action)
            for other, action in zip(theirs, actions, strict=True)
        ]
        np.testing.assert_array_equal(states, [flat(step.observation) for step in steps])
        np.testing.assert_array_equal(rewards, [step.reward for step in steps])
        assert not (terminated | truncated).any()
    assert env.metadata["render_fps"] == round(1 / theirs[0].control_timestep())
    env.close()


def test_actions_reach_both_ends_of_the_actuator_ranges() -> None:
    env = make("dmc:quadruped-walk", 2, observation="state")
    env.reset(seed=0)
    env.step(np.array([[-1.0] * 12, [1.0] * 12]))
    ranges = env.worlds.model.actuator_ctrlrange
    assert not (ranges == [-1, 1]).all()
    controls = [env.worlds.show(world, env.worlds.scratch())[1].ctrl for world in range(2)]
    np.testing.assert_allclose(np.transpose(controls), ranges, atol=1e-15)
    env.close()


def test_rewards_are_summed_over_repeated_actions() -> None:
    held, single = (make("dmc:cheetah-run", 1, observation="state", action_repeat=k) for k in (4, 1))
    held.reset(seed=0)
    single.reset(seed=0)
    rng = np.random.default_rng(0)
    total = 0.0
    for _ in range(10):
        action = rng.uniform(-1, 1, (1, 6))
        state, reward, *_ = held.step(action)
        parts = [single.step(action) for _ in range(4)]
        assert reward[0] == sum(part[1][0] for part in parts)
        np.testing.assert_array_equal(state, parts[-1][0])
        total += reward[0]
    assert total > 0
    assert held.family.episode_steps == 250
    held.close()
    single.close()


def test_time_limit_is_dm_controls_and_truncates() -> None:
    env, other = make("dmc:pendulum-swingup", 1, observation="state"), stock("dmc:pendulum-swingup", 0)
    env.reset(seed=[0], options={"task": [0]})
    other.reset()
    for _ in range(1000):
        _, reward, terminated, truncated, _ = env.step(np.full((1, 1), 0.5))
        step = other.step([0.5])
        assert (reward[0], terminated[0], truncated[0]) == (step.reward, False, step.last())
    assert step.last()
    env.close()


def test_a_world_that_dm_control_ends_is_terminated_and_stays_so() -> None:
    env = make("dmc:lqr-lqr_2_1", 3, observation="state")
    assert env.family.horizon == 1000, "dm_control sets no limit"
    env.reset(seed=0)
    _, data = env.worlds.show(1, env.worlds.scratch())
    data.qpos[:], data.qvel[:] = 1e-8, 0.0
    mujoco.mj_forward(env.worlds.model, data)
    first = env.step(np.zeros((3, 1)))
    second = env.step(np.zeros((3, 1)))
    for _, _, terminated, truncated, _ in (first, second):
        assert (terminated.tolist(), truncated.any()) == ([False, True, False], False)
    assert first[1][1] > 0.99
    assert second[1][1] == 0.0
    np.testing.assert_array_equal((second[0] == first[0]).all(axis=1), [False, True, False])
    env.close()


def test_a_diverged_world_is_named_and_the_others_go_on() -> None:
    env, alone = (make("dmc:cheetah-run", n, observation="state") for n in (3, 1))
    env.reset(seed=[0, 1, 2])
    alone.reset(seed=[2])
    env.worlds.show(1, env.worlds.scratch())[1].qvel[:] = 1e12
    with pytest.raises(envs.SimulationDiverged, match=r"world 1 \(dmc:cheetah-run task .*BADQ") as caught:
        env.step(np.full((3, 6), 0.3))
    assert caught.value.worlds == (1,)
    alone.step(np.full((1, 6), 0.3))
    states, rewards, *_ = env.step(np.full((3, 6), -0.3))
    expected, reward, *_ = alone.step(np.full((1, 6), -0.3))
    np.testing.assert_array_equal(states[2], expected[0])
    assert (rewards[1], rewards[2]) == (0.0, reward[0])
    env.reset(seed=[0, 5, 0], options={"reset_mask": np.array([False, True, False])})
    alone.reset(seed=[5])
    expected, reward, *_ = alone.step(np.ones((1, 6)))
    states, rewards, *_ = env.step(np.ones((3, 6)))
    np.testing.assert_array_equal(states[1], expected[0])
    assert rewards[1] == reward[0] != 0.0
    env.close()
    alone.close()


@pytest.mark.parametrize("name", ["dmc:quadruped-escape", "dmc:reacher-easy", "dmc:swimmer-swimmer6"])
def test_same_seed_same_pictures_in_any_slot_on_any_number_of_threads(name: str) -> None:
    rng = np.random.default_rng(0)
    first, second = make(name, 2), make(name, 3, threads=2)
    second.reset(seed=[50, 51, 52])  # an episode before, which must not matter
    second.step(np.ones(second.action_space.shape))
    frames, others = first.reset(seed=[7, 8])[0], second.reset(seed=[8, 9, 7])[0]
    for _ in range(3):
        assert not (frames[0] == frames[1]).all()
        np.testing.assert_array_equal(frames, others[[2, 0]])
        actions = rng.uniform(-1, 1, (2, first.family.action_size))
        frames, others = first.step(actions)[0], second.step(actions[[1, 1, 0]])[0]
    first.close()
    second.close()


def test_every_world_is_drawn_on_its_own_terrain() -> None:
    def at_the_slope(seeds: list[int]) -> SuiteWorlds:
        worlds = SuiteWorlds("dmc:quadruped-escape", len(seeds))
        task = envs.make_family("dmc:quadruped-escape").task(0)
        generators = [np.random.default_rng(seed) for seed in seeds]
        worlds.reset(np.arange(len(seeds)), [task] * len(seeds), generators)
        for world in range(len(seeds)):
            model, data = worlds.show(world, worlds.scratch())
            data.qpos[:] = model.qpos0
            data.qpos[:3] = 25, 5, 8
            mujoco.mj_forward(model, data)
        return worlds

    def pictures(worlds: SuiteWorlds, num_worlds: int, threads: int) -> np.ndarray:
        frames = np.zeros((num_worlds, 64, 64, 3), dtype=np.uint8)
        pool = worlds.painter(64, threads)
        pool.draw(np.arange(num_worlds), frames)
        pool.close()
        return frames

    # Alone, a world's terrain comes into the picture with the model.
    alone = np.concatenate([pictures(at_the_slope([seed]), 1, 1) for seed in (1, 2, 3)])
    assert (np.abs(alone[0].astype(int) - alone[1]).max(axis=-1) > 8).sum() > 200
    together = at_the_slope([1, 2, 3])
    for threads in (1, 2):
        np.testing.assert_array_equal(pictures(together, 3, threads), alone)


def test_target_of_the_reacher_is_seen_where_it_is() -> None:
    env = make("dmc:reacher-easy", 6)
    frames, _ = env.reset(seed=0)
    pixels, places = [], []
    for world, frame in enumerate(frames.astype(int)):
        red = (
            (frame[..., 0] > 120)
            & (frame[..., 2] > 0.5 * frame[..., 1])
            & (frame[..., 1] < 0.7 * frame[..., 0])
        )
        assert red.sum() >= 8
        rows, columns = np.nonzero(red)
        pixels.append((columns.mean(), -rows.mean()))
        places.append(env.worlds.show(world, env.worlds.scratch())[0].geom("target").pos[:2])
    for axis in range(2):
        assert np.corrcoef(np.array(pixels)[:, axis], np.array(places)[:, axis])[0, 1] > 0.98
    env.close()


def test_motion_of_the_cheetah_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed_pixels() -> list[int]:
        env = make("dmc:cheetah-run", 1)
        env.reset(seed=0)
        model, data = env.worlds.show(0, env.worlds.scratch())
        pictures = []
        for x in (0.0, 0.02, 0.05):
            data.qpos[0] = x
            mujoco.mj_forward(model, data)
            env._look(np.array([0]))
            pictures.append(env.render()[0].astype(int))
        env.close()
        return [int((np.abs(later - pictures[0]).max(axis=-1) > 8).sum()) for later in pictures[1:]]

    raised = changed_pixels()
    monkeypatch.setattr("metaslac.envs.worlds.kinds.suite.FLOOR_CONTRAST", 1.0)
    small, large = changed_pixels()
    assert (small, large) <= (0, 8), "the stock floor hides motion"
    assert raised[0] >= 8
    assert raised[1] >= 4 * max(large, 8)


@pytest.mark.parametrize("name", SAMPLE[:4])
@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_check_env_passes(name: str, observation: str) -> None:
    env = envs.TaskEnv(name, observation=observation, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*spec")  # TaskEnv was not made by gymnasium.make
        warnings.filterwarnings("ignore", message=".*infinity")  # a state has no bounds
        check_env(env)
    env.close()


def test_one_task_to_train_on_and_to_be_tested_on() -> None:
    family = envs.make_family("dmc:cheetah-run")
    assert (family.name, family.param_names, family.horizon) == ("dmc:cheetah-run", (), 1000)
    assert [(task.index, task.split, task.params) for task in family.tasks] == [
        (0, "train", ()),
        (1, "test", ()),
        (2, "validation", ()),
    ]
    assert family.task_hash == hashlib.sha256(b'["dmc:cheetah-run", [], [1, 1]]').hexdigest()
    assert (family.action_size, family.state_size) == (6, 17)


def test_all_tasks_of_the_suite_have_names() -> None:
    names = ours.suite_names()
    assert {"dmc:ball_in_cup-catch", "dmc:swimmer-swimmer15", "dmc:humanoid_CMU-run"} < set(names)
    assert len(names) == len(set(names)) >= 40


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dmc:cheetah-rnu", "dmc:cheetah-run"),
        ("dmc:nope-run", "dmc:dog-run"),
        ("dmc:cheetah", "dmc:cheetah-run"),
    ],
)
def test_unknown_task_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(envs.UnknownFamilyError) as caught:
        envs.make_family(name)
    message = str(caught.value)
    assert repr(name) in message
    assert f"did you mean {near!r}?" in message
    assert "\n" not in message


def test_options_are_checked() -> None:
    with pytest.raises(
        envs.FamilyError, match="dmc:walker-walk: action_repeat must divide the horizon of 1000"
    ):
        envs.make_family("dmc:walker-walk", action_repeat=3)


def test_dm_control_is_imported_when_it_is_asked_for() -> None:
    program = """
import sys, envs
for name in (*envs.family_names(), "dmc:cheetah-run"):
    envs.make_family(name)
    print("dm_control.mujoco" in sys.modules)
"""
    assert run(program, "").stdout.split() == [*["False"] * len(envs.family_names()), "True"]


@pytest.mark.parametrize("back_end", ["off", "nonsense"])
def test_states_need_no_opengl(back_end: str) -> None:
    program = """
import os, envs
family = envs.make_family("dmc:quadruped-escape", observation="state")
print(envs.make_vector_env(family, 1).reset(seed=0)[0].shape, os.environ["MUJOCO_GL"])
"""
    assert run(program, back_end).stdout == f"(1, 101) {back_end}\n"


@pytest.mark.skipif(obstacle("egl") is not None, reason="EGL is not installed")
def test_dm_control_leaves_open_environments_to_us_at_exit() -> None:
    program = """
from metaslac import envs
kept = [envs.make_vector_env(envs.make_family(name), 1) for name in ("point_robot", "dmc:finger-spin")]
"""
    result = run(program, "egl")
    assert (result.returncode, result.stderr) == (0, "")


def run(program: str, back_end: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process that names `back_end`, or none if ''."""
    hidden = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "LP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    if back_end:
        environment["MUJOCO_GL"] = back_end
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
