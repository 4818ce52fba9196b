"""Worlds of gymnasium's environments against those environments, stepped side by side."""

import threading
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from helpers.dials import SIDE, Dial, Dials, DialsAtReset, DialsInView, Swings, UnevenDials

from metaslac import envs


class Arms(envs.GymnasiumFamily):
    name, param_names, horizon, env_id = "arms", ("frame_skip",), 50, "Reacher-v5"

    def task_params(self) -> Any:
        return [[1.0], [2.0]], [[5.0]]

    def env_kwargs(self, task: Any) -> dict[str, Any]:
        return {"frame_skip": int(task.params[0]), "width": 32, "height": 32}


def seed_of(seed: int) -> int:
    """What an environment is seeded with in an episode that a world plays from this seed."""
    return int(np.random.default_rng(seed).integers(2**31))


def test_rewards_and_states_equal_those_of_the_environments() -> None:
    env = envs.make_vector_env(Swings(observation="state"), 3)
    theirs = [gymnasium.make("Pendulum-v1", g=g) for g in (3.0, 15.0, 10.0)]
    states, _ = env.reset(seed=[5, 5, 8], options={"task": [0, 2, 1]})
    expected = [other.reset(seed=seed_of(seed))[0] for other, seed in zip(theirs, (5, 5, 8), strict=True)]
    np.testing.assert_array_equal(states, expected)
    rng = np.random.default_rng(0)
    for step in range(200):
        actions = rng.uniform(-1, 1, (3, 1))
        states, rewards, terminated, truncated, _ = env.step(actions)
        steps = [other.step(np.float32(2 * a)) for other, a in zip(theirs, actions, strict=True)]
        np.testing.assert_array_equal(states, [step[0] for step in steps])
        np.testing.assert_array_equal(rewards, [step[1] for step in steps])
        assert not terminated.any() and truncated.all() == (step == 199)
    env.close()


def drawn_alone(frame_skip: int, seed: int, actions: list[Any]) -> list[np.ndarray]:
    """Pictures of gymnasium's own arm, in a thread where no other environment has drawn."""
    pictures: list[np.ndarray] = []

    def play() -> None:
        arm = gymnasium.make(
            "Reacher-v5", render_mode="rgb_array", frame_skip=frame_skip, width=32, height=32
        )
        arm.reset(seed=seed_of(seed))
        pictures.append(arm.render())
        for action in actions:
            arm.step(action)
            pictures.append(arm.render())
        arm.close()

    thread = threading.Thread(target=play)
    thread.start()
    thread.join()
    return pictures


def test_pictures_equal_those_of_environments_that_draw_alone() -> None:
    env = envs.make_vector_env(Arms(image_size=32), 3)
    for tasks in ([0, 1, 2], [0, 2, 1]):  # so that an environment is closed between others that go on
        frames, _ = env.reset(seed=[1, 1, 2], options={"task": tasks})
        seen, actions = [frames], np.random.default_rng(0).uniform(-1, 1, (4, 3, 2)).astype(np.float32)
        for action in actions:
            seen.append(env.step(action)[0])
        for world, (task, seed) in enumerate(zip(tasks, (1, 1, 2), strict=True)):
            expected = drawn_alone((1, 2, 5)[task], seed, list(actions[:, world]))
            np.testing.assert_array_equal([frames[world] for frames in seen], expected)
            assert len(np.unique(expected[-1])) > 10
    env.close()


@pytest.mark.parametrize("family", [Dials, DialsAtReset, DialsInView])
def test_tasks_told_either_way_and_pictures_of_either_kind(family: type[Dials]) -> None:
    env = envs.make_vector_env(family(image_size=64), 2)
    for tasks in ([4, 0], [1, 1]):
        frames, _ = env.reset(seed=[3, 3], options={"task": tasks})
        np.testing.assert_array_equal(frames[0], frames[1])
        _, rewards, *_ = env.step([[-1.0], [0.5]])
        angle = np.random.default_rng(seed_of(3)).uniform(0, 0.5)  # as gymnasium's own generator draws it
        goals = np.array([0.1, 0.2, 0.3, 0.4, 0.5])[tasks]
        np.testing.assert_allclose(rewards, -abs(angle + np.array([0.0, 0.15]) - goals), atol=1e-6)
    env.close()


def test_a_smaller_picture_has_the_means_of_its_pixels() -> None:
    small, whole = (envs.make_vector_env(Dials(image_size=size), 1) for size in (32, SIDE))
    frames, _ = small.reset(seed=0, options={"task": 0})
    pixels = whole.reset(seed=0, options={"task": 0})[0].reshape(32, 2, 32, 2, 3).astype(float)
    assert np.abs(frames[0] - pixels.mean(axis=(1, 3))).max() <= 1
    assert pixels[..., 2].std() > 50
    for env in (small, whole):
        env.close()


def test_actions_are_held_rewards_summed_and_frames_stacked() -> None:
    env = envs.make_vector_env(Dials(action_repeat=2, frames=3), 1)
    frames, _ = env.reset(seed=0, options={"task": 0})
    angle = np.random.default_rng(seed_of(0)).uniform(0, 0.5)
    assert frames[0, :, 0, 0, 1].tolist() == [0, 0, 0]  # the steps made, as each picture shows them
    frames, rewards, _, _, info = env.step([[-0.8]])
    assert frames[0, :, 0, 0, 1].tolist() == [0, 1, 2] and info["control_steps"] == 2
    np.testing.assert_allclose(rewards, -abs(angle + 0.02 - 0.1) - abs(angle + 0.04 - 0.1), atol=1e-6)
    env.close()


def test_an_end_for_good_is_kept_apart_from_a_limit_of_either_kind() -> None:
    env = envs.make_vector_env(UnevenDials(), 3)
    env.reset(seed=0, options={"task": [0, 3, 4]})
    ends: dict[int, tuple[int, str]] = {}
    for step in range(1, 7):
        _, _, terminated, truncated, _ = env.step([[-1.0], [-1.0], [1.0]])
        assert not (terminated & truncated).any()
        for name, flags in (("terminated", terminated), ("truncated", truncated)):
            for world in np.flatnonzero(flags):
                ends.setdefault(int(world), (step, name))
    angle = np.random.default_rng(seed_of(2)).uniform(0, 0.5)
    turns = int(np.ceil((1 - angle) / 0.2))
    assert ends == {0: (6, "truncated"), 1: (2, "truncated"), 2: (turns, "terminated")}
    env.close()


def test_a_world_that_fails_ends_alone_and_is_named_with_the_place() -> None:
    env = envs.make_vector_env(UnevenDials(), 3)
    env.reset(seed=0, options={"task": [0, 1, 2]})
    still = np.full((3, 1), -1.0)
    for _ in range(2):
        before, *_ = env.step(still)
    live = Dial.live
    with pytest.raises(envs.SimulationDiverged) as caught:
        env.step(still)
    assert Dial.live == live - 2  # those that failed are closed, whatever is wrong with them
    message = str(caught.value)
    assert "world 1 (uneven_dials task 1: goal=0.2): ZeroDivisionError: the dial is broken (" in message
    assert (
        "dials.py, line " in message
        and "world 2 (uneven_dials task 2: goal=0.3): the reward is nan" in message
    )
    assert "\n" not in message and caught.value.worlds == (1, 2)
    frames, rewards, terminated, truncated, _ = caught.value.result
    assert truncated.tolist() == [False, True, True] and not terminated.any()
    assert rewards[0] < 0 and rewards[1:].tolist() == [0, 0]
    np.testing.assert_array_equal(frames[1:], before[1:])
    assert frames[0, 0, 0, 1] == 3
    frames, *_ = env.step(still)
    assert frames[:, 0, 0, 1].tolist() == [4, 2, 2]  # the others go on
    frames, _ = env.reset(seed=0, options={"task": 1})
    assert frames[:, 0, 0, 1].tolist() == [0, 0, 0]  # and those begin anew
    env.close()


def test_a_tolerant_env_goes_on_and_warns_once_of_each_reason() -> None:
    env = envs.make_vector_env(UnevenDials(), 2, tolerant=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            env.reset(seed=0, options={"task": [1, 0]})
            infos = [env.step([[-1.0], [-1.0]])[-1] for _ in range(3)]
            assert infos[-1]["diverged"].tolist() == [True, False] and "diverged" not in infos[0]
    (said,) = (str(one.message) for one in caught)
    assert "uneven_dials task 1: goal=0.2): ZeroDivisionError" in said and said.endswith("end there")
    assert env.restarts == 0
    env.close()


def test_what_cannot_be_started_or_drawn_is_told_in_one_line() -> None:
    def fail(self: Any, **_: Any) -> Any:
        raise OSError("no\ndisk")

    for hook, error, said in (
        ("reset", envs.FamilyError, "dials: task 0 cannot be started: OSError: no disk ("),
        ("render", envs.RenderingUnavailable, "dials: the environment cannot be drawn: OSError: no disk ("),
    ):
        family = type("Failing", (Dials,), {"kind": type("Failing", (Dial,), {hook: fail})})()
        env = envs.make_vector_env(family, 1)
        with pytest.raises(error) as caught:
            env.reset(seed=0, options={"task": 0})
        assert said in str(caught.value) and "\n" not in str(caught.value)
        env.close()


def test_the_same_seed_is_the_same_start_in_any_slot_after_anything() -> None:
    env = envs.make_vector_env(DialsAtReset(), 3)
    first, _ = env.reset(seed=[1, 2, 1], options={"task": 3})
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    env.step(np.ones((3, 1)))
    again, _ = env.reset(seed=[2, 1, 7], options={"task": 3})
    np.testing.assert_array_equal(again[:2], first[[1, 0]])
    env.close()


def test_environments_are_closed_when_nobody_plays_them() -> None:
    before = Dial.live
    env = envs.make_vector_env(Dials(), 3)
    for tasks in ([0, 1, 2], [2, 1, 0]):
        env.reset(seed=0, options={"task": tasks})
        assert Dial.live == before + 3
    env.close()
    env.close()
    assert Dial.live == before
    bare = envs.make_vector_env(Dials(observation="state"), 2)
    bare.reset(seed=0)
    bare.close()
    assert Dial.live == before


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_check_env_passes(observation: str) -> None:
    env = envs.TaskEnv(DialsAtReset(observation=observation), render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*spec")  # TaskEnv was not made by gymnasium.make
        warnings.filterwarnings("ignore", message=".*infinity")  # a state has no bounds
        check_env(env)
    assert env.metadata["render_fps"] == 20
    env.close()
