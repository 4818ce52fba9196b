"""Stacked frames: which pictures an observation holds, and how often they are drawn."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from snags import PUSH, Snag, Snagging, lost, make, same

from metaslac import envs
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.pixels.rendering import RenderPool

STACKS = pytest.mark.parametrize(("frames", "repeat"), [(2, 1), (3, 1), (3, 2), (2, 4)])


class Fence(PointRobot):
    """A point that is lost for good beyond x = 0.5."""

    name = "fence"

    def terminated(self, params: np.ndarray, state: envs.State) -> np.ndarray:
        return state.qpos[:, 0] > 0.5


class Tall(Snagging):
    """A point robot that may hang, seen in three pictures."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(**hooks)
        self.frames = 3


def stacked(name: str, num_envs: int, frames: int, repeat: int, **options: int) -> envs.TaskVectorEnv:
    family = envs.make_family(name, image_size=32, action_repeat=repeat, frames=frames)
    return envs.make_vector_env(family, num_envs, **options)


def random_actions(env: Any, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (env.num_envs, env.family.action_size))


def last(pictures: list[np.ndarray], frames: int) -> np.ndarray:
    """The stack (N, frames, H, W, 3) of the pictures (N, H, W, 3) after each control step so far."""
    return np.stack([pictures[0]] * frames + pictures[1:], axis=1)[:, -frames:]


def rebuilt(before: np.ndarray, after: np.ndarray, repeat: int) -> np.ndarray:
    """An observation from the one before and its own newest pictures, as a replay that stores these does."""
    frames = after.shape[1]
    new = min(frames, repeat)
    return np.concatenate([before[:, new:], after[:, frames - new :]], axis=1)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The worlds of every call that draws."""
    calls: list[list[int]] = []
    start = RenderPool.start

    def counted(pool: RenderPool, worlds: np.ndarray, frames: np.ndarray) -> None:
        calls.append(worlds.tolist())
        start(pool, worlds, frames)

    monkeypatch.setattr(RenderPool, "start", counted)
    return calls


@STACKS
@pytest.mark.parametrize("name", ["cheetah_vel", "hopper_rand_params", "dmc:cheetah-run"])
def test_a_stack_is_the_pictures_of_the_last_control_steps(name: str, frames: int, repeat: int) -> None:
    env, single = stacked(name, 3, frames, repeat), stacked(name, 3, 1, 1)
    options = {"task": [1, 0, 1]}
    observed, _ = env.reset(seed=4, options=options)
    pictures = [single.reset(seed=4, options=options)[0]]
    assert observed.shape == (3, frames, 32, 32, 3) and observed.dtype == np.uint8
    np.testing.assert_array_equal(observed, last(pictures, frames))
    ended = np.zeros(3, dtype=bool)
    for k in range(24 // repeat):
        actions = random_actions(env, k)
        pictures += [single.step(actions)[0] for _ in range(repeat)]
        expected = np.where(ended[:, None, None, None, None], observed, last(pictures, frames))
        before, (observed, _, terminated, truncated, _) = observed, env.step(actions)
        np.testing.assert_array_equal(observed, expected)
        np.testing.assert_array_equal(observed[~ended], rebuilt(before, observed, repeat)[~ended])
        same(env.render(), tuple(pictures[-1]))
        ended = terminated | truncated
    assert ended.any() == (name == "hopper_rand_params")
    env.close()
    single.close()


def play_to_the_fence(family: Fence, starts: list[float]) -> Iterator[Any]:
    """Reset and steps of worlds that go right by 0.1 in every control step."""
    env = envs.make_vector_env(family, len(starts))
    yield env.reset(seed=0, options={"task": 0})
    env.worlds.simulation.qpos[:] = [[x, 0.1] for x in starts]
    for _ in range(8 // family.action_repeat):
        yield env.step(np.tile([1.0, 0.0], (len(starts), 1)))
    env.close()


@pytest.mark.parametrize(("frames", "repeat"), [(3, 1), (3, 2), (2, 4), (3, 4), (2, 2)])
def test_an_end_within_a_repeat_repeats_the_last_picture(
    frames: int, repeat: int, drawn: list[list[int]]
) -> None:
    starts = [0.45, 0.35, 0.25, 0.15, -0.05, -0.9]  # ends after 1, 2, 3, 4, 6 control steps, and not at all
    pictures = [played[0] for played in play_to_the_fence(Fence(image_size=32), starts)]
    drawn.clear()
    ended, steps = np.zeros(6, dtype=bool), 0
    ends, needed = np.array([1, 2, 3, 4, 6, 99]), [6]
    family = Fence(image_size=32, action_repeat=repeat, frames=frames)
    for played in play_to_the_fence(family, starts):
        if steps == 0:
            observed = played[0]
        else:
            expected = last(pictures[: steps + 1], frames)
            before, observed = observed, played[0]
            np.testing.assert_array_equal(observed[~ended], expected[~ended])
            np.testing.assert_array_equal(observed[~ended], rebuilt(before, observed, repeat)[~ended])
            np.testing.assert_array_equal(observed[ended], before[ended])
            ended = played[2]
            for step in range(steps - repeat + 1, steps + 1):
                seen = (ends >= step) & ((step > steps - frames) | (ends == step))
                needed += [seen.sum()] if seen.any() else []
        steps += repeat
    assert [len(worlds) for worlds in drawn] == needed


@pytest.mark.parametrize(("frames", "repeat"), [(2, 1), (3, 1), (3, 2), (2, 5), (3, 5)])
def test_each_picture_that_is_needed_is_drawn_once(frames: int, repeat: int, drawn: list[list[int]]) -> None:
    env = stacked("point_robot", 10, frames, repeat, threads=2)
    everyone = list(range(10))
    env.reset(seed=0)
    assert drawn == [everyone]
    env.reset(options={"reset_mask": np.arange(10) == 3})
    assert drawn == [everyone, [3]]
    drawn.clear()
    for k in range(3):
        env.step(random_actions(env, k))
    assert drawn == [everyone] * 3 * min(frames, repeat)
    env.render()
    assert len(drawn) == 3 * min(frames, repeat)
    env.close()


def test_the_same_episode_is_seen_in_any_slot_whatever_is_reset_beside_it() -> None:
    alone, many = stacked("cheetah_vel", 1, 3, 2), stacked("cheetah_vel", 5, 3, 2, threads=2)
    first, _ = alone.reset(seed=[11], options={"task": 3})
    observed, _ = many.reset(seed=[1, 2, 3, 11, 5], options={"task": [0, 1, 2, 3, 0]})
    np.testing.assert_array_equal(first[0], observed[3])
    for k in range(5):
        actions = random_actions(many, k)
        one, observed = alone.step(actions[3:4])[0], many.step(actions)[0]
        np.testing.assert_array_equal(one[0], observed[3])
        again, _ = many.reset(options={"reset_mask": np.arange(5) == k % 3})
        np.testing.assert_array_equal(again[3:], observed[3:])
        np.testing.assert_array_equal(again[k % 3], np.stack([again[k % 3, -1]] * 3))
    alone.close()
    many.close()


@pytest.mark.parametrize("step", [1, 2])
def test_a_control_step_that_diverges_repeats_the_last_sound_picture(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log file where it runs
    family = envs.make_family("cheetah_vel", image_size=32, action_repeat=2, frames=3)
    env, single = envs.TaskVectorEnv(family, 2, raise_on_divergence=False), stacked("cheetah_vel", 2, 1, 1)
    env.reset(seed=0, options={"task": [0, 1]})
    pictures = [single.reset(seed=0, options={"task": [0, 1]})[0]]
    for k in range(2):
        actions = random_actions(env, k)
        before = env.step(actions)[0]
        pictures += [single.step(actions)[0] for _ in range(2)]
    actions, sound, made = random_actions(env, 2), env.worlds.step, []

    def poisoned(worlds: np.ndarray, held: np.ndarray) -> Any:
        made.append(worlds)
        if len(made) == step:
            env.worlds.simulation.qvel[1] = np.nan
        return sound(worlds, held)

    monkeypatch.setattr(env.worlds, "step", poisoned)
    observed, _, _, truncated, info = env.step(actions)
    assert info["diverged"].tolist() == truncated.tolist() == [False, True]
    pictures += [single.step(actions)[0] for _ in range(2)]
    np.testing.assert_array_equal(observed[0], last(pictures, 3)[0])
    there_is = pictures[-2 if step == 2 else -3][1]
    np.testing.assert_array_equal(observed[1], [pictures[-3][1], there_is, there_is])
    np.testing.assert_array_equal(observed, rebuilt(before, observed, 2))
    np.testing.assert_array_equal(env.step(actions)[0][1], observed[1])
    env.close()
    single.close()


def test_stacks_belong_to_the_caller() -> None:
    env = stacked("point_robot", 2, 2, 1)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second, *_ = env.step(np.ones((2, 2)))
    np.testing.assert_array_equal(first, kept)
    second[:] = 0
    np.testing.assert_array_equal(env.step(np.ones((2, 2)))[0].max(axis=(2, 3, 4)), [[255] * 2] * 2)
    env.close()


@pytest.mark.parametrize("name", ["cheetah_vel", "dmc:cheetah-run"])
@pytest.mark.parametrize("frames", [0, 4, -1, True, 2.0, "2", None])
def test_other_numbers_of_frames_are_refused_in_one_line(name: str, frames: Any) -> None:
    family = type(envs.make_family(name))
    with pytest.raises(envs.FamilyError) as caught:
        family(*[name] * name.startswith("dmc:"), frames=frames)
    assert str(caught.value) == f"{name}: frames must be one of (1, 2, 3), got {frames!r}"


def test_states_are_not_stacked() -> None:
    said = "point_robot: frames must be 1 where the state is observed, got 2"
    with pytest.raises(envs.FamilyError, match=said):
        envs.make_family("point_robot", observation="state", frames=2)
    assert envs.make_family("point_robot", observation="state").frames == 1


def test_a_constructor_that_knows_no_frames_will_do_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_point(image_size: int, action_repeat: int, observation: str) -> envs.Family:
        return PointRobot(image_size, action_repeat, observation)

    monkeypatch.setattr("metaslac.envs.registry._built_in", lambda name: make_point)
    assert envs.make_family("point_robot", image_size=32).frames == 1


def test_gymnasium_gives_stacks() -> None:
    options: dict[str, Any] = {"image_size": 32, "action_repeat": 2, "frames": 3}
    one = gymnasium.make("metaslac/CheetahVel-v0", render_mode="rgb_array", **options)
    many = gymnasium.make_vec("metaslac/CheetahVel-v0", num_envs=2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(one.unwrapped)
    observed, _ = one.reset(seed=9, options={"task": 3})
    both, _ = many.reset(seed=[1, 9], options={"task": [0, 3]})
    assert both in many.observation_space and both.shape == (2, 3, 32, 32, 3)
    for k in range(3):
        np.testing.assert_array_equal(observed, both[1])
        np.testing.assert_array_equal(one.render(), observed[-1])
        actions = random_actions(many.unwrapped, k)
        observed, both = one.step(actions[1])[0], many.step(actions)[0]
    one.close()
    many.close()


def test_supervised_worlds_stack_as_bare_ones(snag: Snag) -> None:
    family = envs.make_family("hopper_rand_params", image_size=32, action_repeat=2, frames=3)
    env, bare = make(family), envs.make_vector_env(family, 3, threads=1)
    assert env.observation_space == bare.observation_space
    same(env.reset(seed=4), bare.reset(seed=4))
    for k in range(10):
        same(env.step(random_actions(env, k)), bare.step(random_actions(env, k)))
        same(env.render(), bare.render())
    env.close()
    bare.close()


def test_a_lost_world_keeps_its_stack_until_it_is_reset(snag: Snag) -> None:
    env, fresh = make(Tall(reward=snag)), stacked("point_robot", 3, 3, 1)
    env.reset(seed=0)
    for _ in range(4):
        observed = env.step(PUSH)[0]
    assert not np.array_equal(observed[:, 0], observed[:, 2])
    kept = observed.copy()
    observed[:] = 0  # they belong to the caller
    snag.set()
    lost(env.step(-PUSH), kept, [True] * 3)
    np.testing.assert_array_equal(env.step(PUSH)[0], kept)
    same(env.render(), tuple(kept[:, -1]))
    same(env.reset(seed=1), fresh.reset(seed=1))
    for k in range(3):
        same(env.step(random_actions(env, k)), fresh.step(random_actions(env, k)))
    env.close()
    fresh.close()
