"""Families of gymnasium's environments: what they are made of, and what is refused in one line."""

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Sequence
from helpers.dials import Dial, Dials, DialsAtReset, DialsInView, Swings

from metaslac import envs


def changed(base: type[envs.GymnasiumFamily] = Dials, **attributes: Any) -> type[envs.GymnasiumFamily]:
    return type("Changed", (base,), attributes)


def with_space(**spaces: Any) -> type[envs.GymnasiumFamily]:
    return changed(kind=type("Odd", (Dial,), spaces))


def refusal(family: type[envs.GymnasiumFamily], **options: Any) -> str:
    with pytest.raises(envs.FamilyError) as caught:
        family(**options).task_hash  # noqa: B018
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{family.name}: ")
    return message.removeprefix(f"{family.name}: ")


def test_sizes_and_limits_are_the_environments() -> None:
    family = Swings(action_repeat=4)
    assert (family.action_size, family.state_size, family.episode_steps) == (1, 3, 50)
    assert family.control_seconds == 1 / 30
    assert [task.split for task in family.tasks] == ["train", "train", "test"]
    assert (Dials().state_size, DialsInView().state_size) == (2, 0)


def test_no_environment_is_left_open_and_a_family_can_be_sent_anywhere() -> None:
    before = Dial.live
    family = pickle.loads(pickle.dumps(DialsAtReset(image_size=32, frames=2)))
    assert Dial.live == before
    assert (family.image_size, family.frames, family.task_hash) == (32, 2, DialsAtReset().task_hash)


def test_states_are_observations_flattened_or_what_the_family_makes_of_them() -> None:
    space = Dict({"far": Box(-1, 1, (2,)), "near": Box(-1, 1, (2, 2))})
    seen = {"far": np.array([1, 2], np.float32), "near": np.array([[3, 4], [5, 6]], np.float32)}
    kind = type("Twofold", (Dial,), {"observation_space": space, "seen": lambda self: seen})
    family = changed(kind=kind)(observation="state")
    env = envs.make_vector_env(family, 1)
    np.testing.assert_array_equal(env.reset(seed=0)[0], [[1, 2, 3, 4, 5, 6]])
    env.close()

    def near(self: Any, env: Any, observation: Any) -> Any:
        return observation["near"].ravel()

    family = changed(kind=kind, state_size=4, state_observation=near)(observation="state")
    env = envs.make_vector_env(family, 1)
    np.testing.assert_array_equal(env.reset(seed=0)[0], [[3, 4, 5, 6]])
    env.close()


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (
            with_space(action_space=Discrete(4)),
            "actions must be continuous, a Box of floats; Discrete(4) is not",
        ),
        (with_space(action_space=Box(0, 3, (2,), np.int64)), "actions must be continuous, a Box of floats"),
        (with_space(action_space=Box(-np.inf, np.inf, (2,))), "every action needs finite bounds"),
        (with_space(action_space=Box(1, 1, (2,))), "every action needs finite bounds"),
        (with_space(observation_space=Sequence(Box(0, 1, (1,)))), "have no fixed size; set state_size"),
        (changed(Swings, horizon=201), "the horizon is 201, but its environment ends after 200"),
        (changed(Swings, env_id=""), "set env_id to an id of gymnasium's, or override make_env"),
        (changed(make_env=lambda self, **kwargs: object()), "make_env gives a object and no gymnasium.Env"),
        (
            changed(task_params=lambda self: (np.random.default_rng().random((2, 1)), [[1.0]])),
            "task_params() gives other tasks at every call; let it draw from a generator of its own",
        ),
        (changed(task_params=lambda self: ([[0.1, 0.2]], [[0.1]])), "every task needs a value for each of"),
    ],
)
def test_what_cannot_be_played_is_refused(family: type[envs.GymnasiumFamily], said: str) -> None:
    assert said in refusal(family)


def test_states_of_pictures_are_refused() -> None:
    assert "there is no state to observe" in refusal(DialsInView, observation="state")
    env = envs.make_vector_env(DialsInView(), 1, states=True)
    with pytest.raises(envs.FamilyError, match="there are no states"):
        env.reset(seed=0)
    env.close()


def no_picture(self: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("render", "said"),
    [
        (no_picture, "not None; it needs an environment with render_mode='rgb_array'"),
        (lambda self: np.zeros((8, 8), np.uint8), "not uint8 (8, 8)"),
        (lambda self: np.zeros((8, 8, 3)), "not float64 (8, 8, 3)"),
    ],
)
def test_no_pictures_are_refused(render: Any, said: str) -> None:
    env = envs.make_vector_env(changed(kind=type("Blind", (Dial,), {"render": render}))(), 1)
    with pytest.raises(envs.FamilyError, match="dials: a picture must be uint8") as caught:
        env.reset(seed=0)
    assert said in str(caught.value)
    env.close()


def test_an_environment_with_other_actions_than_the_first_is_refused() -> None:
    def make_env(self: Any, goal: float) -> Dial:
        made = Dial("rgb_array", goal)
        if goal > 0.1:
            made.action_space = Box(0, 1, (2,), np.float32)
        return made

    env = envs.make_vector_env(changed(make_env=make_env)(), 1)
    with pytest.raises(envs.FamilyError, match="dials: task 1 has 2 actions, and the first 1"):
        env.reset(seed=0, options={"task": 1})
    env.close()


def test_an_unknown_id_is_gymnasiums_to_refuse() -> None:
    with pytest.raises(gymnasium.error.Error, match="Pendulums"):
        changed(Swings, env_id="Pendulums-v1")()
