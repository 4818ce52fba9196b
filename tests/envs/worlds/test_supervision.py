"""Envs that hang or cannot draw are replaced: what is lost by it, and what is not."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from snags import LONG, PUSH, SHORT, Snag, Snagging, lost, make, same

from metaslac import envs
from metaslac.envs.errors import FamilyError
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.pixels import rendering


def same_episodes(env: Any, bare: Any, steps: int = 5) -> None:
    rng = np.random.default_rng(3)
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (env.num_envs, env.family.action_size))
        same(env.step(actions), bare.step(actions))


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_as_long_as_nothing_fails_it_is_the_bare_env(observation: str, snag: Snag) -> None:
    family = envs.make_family("cheetah_vel", image_size=32, observation=observation)
    env, bare = make(family), envs.make_vector_env(family, 3, threads=1)
    assert env.single_observation_space == bare.single_observation_space
    assert env.observation_space == bare.observation_space
    assert (env.single_action_space, env.action_space) == (bare.single_action_space, bare.action_space)
    assert (env.num_envs, env.metadata, env.render_mode) == (3, bare.metadata, "rgb_array")
    assert env.family is family and env.unwrapped is env
    assert env.renderer == bare.renderer
    mask = np.array([False, True, False])
    for arguments in (
        {"seed": 4},
        {"seed": [1, np.random.SeedSequence(2), 3], "options": {"task": [5, 100, 2]}},
        {"options": {"reset_mask": mask}},
        {},
    ):
        same(env.reset(**arguments), bare.reset(**arguments))
        assert env.tasks == bare.tasks
        same(env.params, bare.params)
        same_episodes(env, bare)
        same(env.render(), bare.render())
        same(env.worlds.simulation.qpos, bare.worlds.simulation.qpos)
    assert (env.restarts, env.last_fault) == (0, "")
    env.close()
    bare.close()


def test_a_generator_goes_on_where_its_owner_left_it(snag: Snag) -> None:
    family = PointRobot(image_size=32)
    env, bare = make(family), envs.make_vector_env(family, 3)
    first, second = ([np.random.default_rng(0)] * 3 for _ in range(2))
    same(env.reset(seed=first), bare.reset(seed=second))
    assert first[0].integers(2**60) == second[0].integers(2**60)
    env.close()
    bare.close()


@pytest.mark.parametrize("where", ["physics", "reward"])
def test_a_hang_in_a_step_loses_the_running_episodes_only(where: str, snag: Snag) -> None:
    family = Snagging(reward=snag) if where == "reward" else Snagging()
    env, fresh = make(family), envs.make_vector_env(PointRobot(image_size=32), 3)
    env.reset(seed=0)
    for _ in range(15):
        env.step(PUSH)
    env.reset(seed=5, options={"reset_mask": np.array([False, True, True]), "task": [7, 8, 9]})
    for _ in range(5):
        frames, _, _, truncated, _ = env.step(PUSH)
    assert truncated.tolist() == [True, False, False]
    if where == "physics":
        cast(Any, env.worlds).step = lambda *arguments: snag()
    kept, before = frames.copy(), env.tasks
    frames[:] = 0  # they belong to the caller
    snag.set()
    result = env.step(-PUSH)
    assert result[4]["lost"].tolist() == [False, True, True]
    result[4]["lost"][0] = True  # for the rest of the comparison
    lost(result, kept, [True, True, True])
    assert env.restarts == 1
    said = f"step did not return within {SHORT} s: it is in __call__ (snags.py, line "
    assert env.last_fault.startswith(said)
    assert env.tasks == before
    still, nothing = np.zeros(3, dtype=bool), np.zeros(3)
    ended = (kept, nothing, still, ~still, {"control_steps": np.zeros(3, dtype=np.int64)})
    same(env.step(PUSH), ended)
    same(env.render(), tuple(kept))
    same(env.reset(seed=11), fresh.reset(seed=11))
    same_episodes(env, fresh)
    assert env.restarts == 1
    env.close()
    fresh.close()


def hang_drawing(env: Any, released: threading.Event) -> None:
    for worker in env._env._pixels._workers:
        free = worker._canvas.free
        worker._canvas = SimpleNamespace(draw=lambda world, out: released.wait(LONG), free=free)


def stop_a_thread(env: Any, released: threading.Event) -> None:
    worker = env._env._pixels._workers[1]
    worker.stop()
    worker.join(LONG)


@pytest.mark.parametrize("fail", [hang_drawing, stop_a_thread])
def test_drawing_that_hangs_or_dies_loses_the_episodes(
    fail: Callable[[Any, threading.Event], None], snag: Snag, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = PointRobot(image_size=32)
    env, fresh = make(family), envs.make_vector_env(family, 3)
    env.reset(seed=0)
    frames = env.step(PUSH)[0]
    fail(env, snag._released)
    monkeypatch.setattr(rendering, "DRAW_SECONDS", SHORT)
    result = env.step(-PUSH)
    monkeypatch.setattr(rendering, "DRAW_SECONDS", LONG)
    lost(result, frames, [True] * 3)
    assert env.restarts == 1
    assert env.last_fault == f"OpenGL ({rendering.BACK_END}) drew nothing within 0 s"
    same(env.reset(seed=1), fresh.reset(seed=1))
    same_episodes(env, fresh)
    env.close()
    fresh.close()


def test_a_reset_that_hangs_is_made_again(snag: Snag) -> None:
    family = Snagging(start_state=snag)
    env, bare = make(family), envs.make_vector_env(PointRobot(image_size=32), 3)
    shared, theirs = np.random.default_rng(8), np.random.default_rng(8)
    sequences = [np.random.SeedSequence(3)] * 3
    for mine, yours, hangs in (
        (4, 4, 1),
        ([1, shared, shared], [1, theirs, theirs], 2),  # one generator in two slots
        (None, None, 1),  # the worlds' generators, one of them the one that was shared
        (sequences, sequences, 1),
    ):
        snag.set(hangs)
        same(env.reset(seed=mine), bare.reset(seed=yours))
        assert env.tasks == bare.tasks
        same_episodes(env, bare)
    assert env.restarts == 5
    assert env.last_fault.startswith("reset did not return within")
    env.close()
    bare.close()


def test_a_generator_that_worlds_share_is_still_one_after_a_restart(snag: Snag) -> None:
    env, bare = make(Snagging(start_state=snag)), envs.make_vector_env(PointRobot(image_size=32), 3)
    shared, theirs = ([np.random.default_rng(8)] * 3 for _ in range(2))
    same(env.reset(seed=shared), bare.reset(seed=theirs))
    first = {"reset_mask": np.array([True, False, False])}
    snag.set()
    same(env.reset(seed=shared, options=first)[0], bare.reset(seed=theirs, options=first)[0])
    same(env.reset(), bare.reset())
    env.close()
    bare.close()


def test_after_a_loss_the_generators_go_on(snag: Snag) -> None:
    env, bare = make(Snagging(reward=snag)), envs.make_vector_env(PointRobot(image_size=32), 3)
    for each in (env, bare):
        each.reset(seed=2)
    snag.set()
    env.step(PUSH)
    same(env.reset(), bare.reset())
    same_episodes(env, bare)
    env.close()
    bare.close()


def test_worlds_that_are_not_reset_stay_ended(snag: Snag) -> None:
    env, bare = make(Snagging(reward=snag)), envs.make_vector_env(PointRobot(image_size=32), 3)
    for each in (env, bare):
        frames, _ = each.reset(seed=2)
    snag.set()
    env.step(PUSH)
    mask = np.array([False, True, False])
    again = {"seed": 9, "options": {"reset_mask": mask, "task": [0, 3, 0]}}
    got, info = env.reset(**again)
    expected, plain = bare.reset(**again)
    assert info.keys() == plain.keys() == {"task"}
    np.testing.assert_array_equal(info["task"], plain["task"])
    np.testing.assert_array_equal(got[~mask], frames[~mask])
    for _ in range(3):
        np.testing.assert_array_equal(got[1], expected[1])
        got, rewards, _, truncated, info = env.step(PUSH)
        expected, theirs, *_ = bare.step(PUSH)
        assert truncated.tolist() == [True, False, True]
        assert info["control_steps"].tolist() == [0, 1, 0]
        assert rewards.tolist() == [0.0, theirs[1], 0.0]
        np.testing.assert_array_equal(got[~mask], frames[~mask])
    env.close()
    bare.close()


def test_a_masked_reset_that_hangs_loses_the_other_running_worlds(snag: Snag) -> None:
    env = make(Snagging(start_state=snag), 4)
    push = np.full((4, 2), 0.5)
    env.reset(seed=0)
    for _ in range(20):
        env.step(push)
    env.reset(seed=0, options={"reset_mask": np.array([False, True, True, True])})
    frames, *_ = env.step(push)
    snag.set()
    mask = np.array([False, False, False, True])
    got, info = env.reset(seed=1, options={"reset_mask": mask})
    assert info["lost"].tolist() == [False, True, True, False]
    np.testing.assert_array_equal(got[~mask], frames[~mask])
    _, _, _, truncated, info = env.step(push)
    assert truncated.tolist() == [True, True, True, False]
    assert "lost" not in info
    env.close()


def test_a_first_reset_of_some_worlds_that_hangs_leaves_the_others_without_one(snag: Snag) -> None:
    env = make(Snagging(start_state=snag))
    snag.set()
    _, info = env.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    assert info.keys() == {"task"} and info["task"][1:].tolist() == [-1, -1]
    assert [task is None for task in env.tasks] == [False, True, True]
    with pytest.raises(FamilyError, match="reset every world before the first step"):
        env.step(PUSH)
    env.close()


class Fenced(Snagging):
    """A point that is lost for good beyond x = 0.5."""

    def terminated(self, params: np.ndarray, state: envs.State) -> np.ndarray:
        return state.qpos[:, 0] > 0.5


def test_worlds_that_had_ended_keep_their_flags(snag: Snag) -> None:
    env = make(Fenced(reward=snag))
    env.reset(seed=0)
    cast(Any, env.worlds).simulation.qpos[:, 0] = [0.49, -0.9, -0.9]
    assert env.step(PUSH)[2].tolist() == [True, False, False]
    snag.set()
    for _ in range(2):
        _, _, terminated, truncated, info = env.step(PUSH)
        assert terminated.tolist() == [True, False, False]
        assert truncated.tolist() == [False, True, True]
        assert info.get("lost", truncated).tolist() == [False, True, True]
    env.close()


def test_diverged_worlds_are_not_lost_too(
    snag: Snag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log file where it runs
    env = make(Snagging(reward=snag))
    env.reset(seed=0)
    cast(Any, env.worlds).simulation.qpos[1] = np.nan
    assert env.step(PUSH)[4]["diverged"].tolist() == [False, True, False]
    snag.set()
    assert env.step(PUSH)[4]["lost"].tolist() == [True, False, True]
    env.close()
