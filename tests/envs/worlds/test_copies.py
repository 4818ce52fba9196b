"""What makes an environment can be copied and sent to other processes; a live one cannot, and says so."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.point_robot import PointRobot

ID = "metaslac.envs:metaslac/PointRobot-v0"
LIVE: dict[str, Callable[[], Any]] = {
    "pixels": lambda: envs.make_vector_env(PointRobot(image_size=32), 2),
    "states": lambda: envs.make_vector_env(PointRobot(observation="state"), 2),
    "supervised": lambda: envs.make_vector_env(PointRobot(observation="state"), 2, tolerant=True),
    "suite": lambda: envs.make_vector_env(envs.make_family("dmc:pendulum-swingup", observation="state"), 1),
    "single": lambda: envs.TaskEnv("point_robot", observation="state"),
    "made": lambda: gymnasium.make(ID, observation="state"),
    "many": lambda: gymnasium.make_vec(ID, num_envs=2, observation="state"),
}


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps, cloudpickle.dumps])
@pytest.mark.parametrize("kind", LIVE)
def test_a_live_env_cannot_be_copied_and_goes_on(kind: str, how: Callable[[Any], Any]) -> None:
    env = LIVE[kind]()
    still = np.zeros(env.action_space.shape)
    env.reset(seed=0)
    if how is copy.copy and kind == "made":
        env = env.unwrapped  # a wrapper of gymnasium's is copied without what it wraps
    with pytest.raises(
        envs.FamilyError, match="a live environment cannot be copied or pickled; hand over"
    ) as told:
        how(env)
    assert "\n" not in str(told.value)
    env.step(still)
    env.close()


@pytest.mark.parametrize("name", [*envs.family_names(), "dmc:pendulum-swingup"])
@pytest.mark.parametrize("library", [pickle, cloudpickle])
def test_families_are_copied_with_their_tasks(name: str, library: Any) -> None:
    family = envs.make_family(name, image_size=32, action_repeat=1, observation="state")
    for asked in (False, True):  # before and after the lists have been read
        for other in (library.loads(library.dumps(family)), copy.deepcopy(family)):
            assert type(other) is type(family)
            assert (other.name, other.image_size, other.observation) == (name, 32, "state")
            if asked:
                assert other.tasks == family.tasks and other.task_hash == family.task_hash
        assert family.task_hash


def test_spawned_workers_play_what_one_process_plays() -> None:
    makers = [
        partial(gymnasium.make, ID, image_size=32),
        partial(envs.TaskEnv, envs.make_family("point_robot", image_size=32)),
    ]
    many = gymnasium.vector.AsyncVectorEnv(makers, context="spawn")
    alone = envs.make_vector_env(PointRobot(image_size=32), 2)
    seeds, rng = [3, 3], np.random.default_rng(0)
    np.testing.assert_array_equal(many.reset(seed=seeds)[0][1], many.reset(seed=seeds)[0][0])
    tasks = many.reset(seed=seeds, options={"task": 7})[1]["task"]
    expected, _ = alone.reset(seed=seeds, options={"task": 7})
    assert tasks.tolist() == [7, 7]
    for _ in range(3):
        actions = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
        frames, rewards, *_ = many.step(actions)
        expected, theirs, *_ = alone.step(actions)
        np.testing.assert_array_equal(frames, expected)
        np.testing.assert_allclose(rewards, theirs)
    many.close()
    alone.close()


def test_makers_of_vector_envs_are_sent_as_they_are() -> None:
    family = envs.make_family("cheetah_vel", image_size=32, observation="state")
    make = pickle.loads(pickle.dumps(partial(envs.make_vector_env, family, 2, tolerant=True)))
    ours, theirs = envs.make_vector_env(family, 2), make()
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    theirs.close()


@pytest.mark.parametrize("library", [pickle, cloudpickle])
def test_errors_are_handed_from_worker_to_parent(library: Any) -> None:
    error = envs.SimulationDiverged("the simulation diverged", (1, 2), (np.zeros(2),))
    other = library.loads(library.dumps(error))
    assert (type(other), str(other), other.worlds) == (type(error), str(error), (1, 2))
    np.testing.assert_array_equal(other.result[0], np.zeros(2))
    for kind in (envs.SimulationDiverged, envs.RenderingUnavailable, envs.UnknownFamilyError):
        assert str(kind(error)) == str(error)  # as gymnasium's AsyncVectorEnv and torch's DataLoader do
