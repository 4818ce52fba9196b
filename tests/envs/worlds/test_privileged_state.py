"""The true states beside the pictures: those that the family's state observation gives, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snags import PUSH, Snag, Snagging, same

from metaslac import envs


def random_actions(env: Any, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (env.num_envs, env.family.action_size))


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize(
    "name", ["cheetah_vel", "hopper_rand_params", "sparse_point_robot", "dmc:reacher-easy"]
)
def test_states_are_those_that_are_observed_instead_of_pixels(name: str, frames: int, tolerant: bool) -> None:
    options: dict[str, Any] = {"image_size": 32, "action_repeat": 2}
    pixels = envs.make_family(name, frames=frames, **options)
    told = envs.make_vector_env(pixels, 9, threads=1, tolerant=tolerant, states=True)
    plain = envs.make_vector_env(pixels, 9, threads=2)
    observed = envs.make_vector_env(envs.make_family(name, observation="state", **options), 9)
    mask = np.arange(9) % 2 == 0
    for arguments in ({"seed": 4}, {"options": {"reset_mask": mask}}, {}):
        got, expected = told.reset(**arguments), observed.reset(**arguments)
        states = got[1].pop("state")
        assert states.shape == (9, pixels.state_size)
        same(states, expected[0])
        same(got, plain.reset(**arguments))
        for k in range(10):
            actions = random_actions(told, k)
            got, expected = told.step(actions), observed.step(actions)
            states = got[4].pop("state")
            same(states, expected[0])
            same(got, plain.step(actions))
    for env in (told, plain, observed):
        env.close()


def test_they_may_stand_beside_themselves_and_belong_to_the_caller() -> None:
    env = envs.make_vector_env(envs.make_family("cheetah_vel", observation="state"), 2, states=True)
    observed, info = env.reset(seed=0)
    same(info["state"], observed)
    kept = observed.copy()
    actions = random_actions(env, 0)
    observed, _, _, _, later = env.step(actions)
    same(info["state"], kept)
    same(later["state"], observed)
    later["state"][:] = observed[:] = 7.0
    mask = np.array([True, False])
    observed, info = env.reset(options={"reset_mask": mask})
    assert not (info["state"] == 7.0).any()
    same(info["state"], observed)
    env.close()


def test_an_ended_world_keeps_its_last_state_while_the_others_go_on() -> None:
    env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 2, states=True)
    env.reset(seed=0)
    for _ in range(10):
        env.step(PUSH[:2])
    env.reset(options={"reset_mask": np.array([True, False])})
    for _ in range(10):
        _, _, _, truncated, info = env.step(PUSH[:2])
    assert truncated.tolist() == [False, True]
    later = env.step(PUSH[:2])[4]["state"]
    same(later[1], info["state"][1])
    np.testing.assert_allclose(later[0], info["state"][0] + 0.05)
    env.close()


@pytest.mark.parametrize("raises", [False, True])
def test_a_diverged_world_keeps_its_last_sound_state(
    raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log file where it runs
    family = envs.make_family("cheetah_vel", image_size=32)
    env = envs.TaskVectorEnv(family, 2, raise_on_divergence=raises, states=True)
    env.reset(seed=0)
    sound = env.step(random_actions(env, 0))[4]["state"]
    env.worlds.simulation.qvel[1] = np.nan
    if raises:
        with pytest.raises(envs.SimulationDiverged) as caught:
            env.step(random_actions(env, 1))
        info = caught.value.result[4]
    else:
        info = env.step(random_actions(env, 1))[4]
        assert info["diverged"].tolist() == [False, True]
    same(info["state"][1], sound[1])
    assert not np.array_equal(info["state"][0], sound[0])
    same(env.step(random_actions(env, 2))[4]["state"][1], sound[1])
    env.close()


def test_a_lost_world_keeps_its_last_state(snag: Snag) -> None:
    env = envs.make_vector_env(Snagging(reward=snag), 3, threads=2, tolerant=True, states=True)
    fresh = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 3, states=True)
    env.reset(seed=0)
    info = env.step(PUSH)[4]
    kept = info["state"].copy()
    info["state"][:] = 7.0
    snag.set()
    info = env.step(PUSH)[4]
    assert info.keys() == {"control_steps", "lost", "state"}
    same(info["state"], kept)
    info["state"][:] = 7.0
    mask = np.array([True, False, False])
    _, info = env.reset(seed=3, options={"reset_mask": mask})
    same(info["state"][1:], kept[1:])
    same(env.step(PUSH)[4]["state"][1:], kept[1:])
    same(env.reset(seed=1), fresh.reset(seed=1))
    same(env.step(PUSH), fresh.step(PUSH))
    assert env.restarts == 1
    env.close()
    fresh.close()
