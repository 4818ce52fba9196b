"""Trials against the counting environment: alignment, early ends, keys."""

import numpy as np
import pytest
import torch
from fakes import FakeFamily, make_agent, tiny_config

from metaslac.acting.rollout import rng_of, run_random, run_trial
from metaslac.errors import MetaslacError


def test_actions_and_rewards_belong_to_the_step_from_their_frame_to_the_next() -> None:
    family = FakeFamily()
    env = family.make_vector_env(2)
    [episodes_a, _] = run_trial(env, make_agent(), family.tasks[:2], [[(0, 0), (0, 1)]], 1)
    episode = episodes_a[0].episode
    assert episode.frames[:, 0, 0, 2].tolist() == list(range(7))
    position = rng_start((0, 0))
    for t in range(6):
        position = np.clip(position + 0.3 * episode.actions[t, 0], -1, 1)
        assert np.isclose(episode.rewards[t], -abs(position - family.tasks[0].params[0]))


def rng_start(key: tuple[int, ...]) -> float:
    return float(np.random.default_rng(int(rng_of(*key).integers(2**31))).uniform(-1, 1))


def test_episodes_that_end_early_are_cut_and_marked() -> None:
    family = FakeFamily(uneven=True, terminates=True)
    env = family.make_vector_env(3)
    episodes = run_random(env, family.tasks[:3], [(0,), (1,), (2,)], 1)
    assert [len(episode.rewards) for episode in episodes] == [6, 5, 4]
    assert [len(episode.frames) for episode in episodes] == [7, 6, 5]
    assert all(episode.terminated for episode in episodes)
    limited = FakeFamily(uneven=True)
    episodes = run_random(limited.make_vector_env(3), limited.tasks[:3], [(0,), (1,), (2,)], 1)
    assert not any(episode.terminated for episode in episodes)


def test_a_failed_step_is_neither_kept_nor_observed() -> None:
    """Against an environment whose episode ends, by the time limit, just before the step that fails here."""
    failing, ending = FakeFamily(diverges={1: 2}), FakeFamily(lengths={1: 2})
    trials = []
    for family in (failing, ending):
        env = family.make_vector_env(3, tolerant=True)
        trials.append(
            run_trial(env, make_agent(), family.tasks[:3], [[(0,), (1,), (2,)], [(3,), (4,), (5,)]], 1)
        )
    for slot, (failed, ended) in enumerate(zip(*trials, strict=True)):
        for one, other in zip(failed, ended, strict=True):
            assert one.episode.diverged == (slot == 1) and not other.episode.diverged
            assert not one.episode.terminated
            assert len(one.episode.rewards) == (2 if slot == 1 else 6)
            for a, b in zip(one.episode[:4], other.episode[:4], strict=True):
                assert np.array_equal(a, b)
            assert np.array_equal(one.belief_mean, other.belief_mean)
            assert np.array_equal(one.belief_std, other.belief_std)
            assert np.isnan(one.episode_return) if slot == 1 else one.episode_return == other.episode_return


def test_an_episode_that_fails_at_once_is_its_first_frame() -> None:
    family = FakeFamily(diverges={0: 0, 1: 0})
    env = family.make_vector_env(2, tolerant=True)
    [[entry], _] = run_trial(env, make_agent(), family.tasks[:2], [[(0,), (1,)]], 1)
    assert entry.episode.frames.shape == (1, 32, 32, 3) and entry.episode.actions.shape == (0, 1)
    assert entry.episode.diverged and np.isnan(entry.episode_return)
    assert (entry.belief_mean == 0).all() and (entry.belief_std == 1).all()


def test_episodes_given_are_taken_in_as_those_that_were_played() -> None:
    """A trial of two episodes, and one of the second with the first given: the same belief, and m of it."""
    family, agent = FakeFamily(uneven=True), make_agent()
    env, tasks = family.make_vector_env(3), family.tasks[:3]
    keys = [[(e, slot) for slot in range(3)] for e in range(2)]
    played = run_trial(env, agent, tasks, keys, 1)
    given = [[first.episode] for first, _ in played]
    after = run_trial(env, agent, tasks, keys[1:], 0, given=given)
    for (_, second), (entry,) in zip(played, after, strict=True):
        assert (entry.belief_std[0] < 1).all()
        np.testing.assert_allclose(entry.belief_mean, second.belief_mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(entry.belief_std, second.belief_std, rtol=1e-4)
        np.testing.assert_allclose(entry.episode.actions, second.episode.actions, rtol=1e-4, atol=1e-5)
    twice = run_trial(env, agent, tasks, keys[1:], 0, given=[2 * episodes for episodes in given])
    assert all(
        (two.belief_std[0] < one.belief_std[0]).all() for (two,), (one,) in zip(twice, after, strict=True)
    )


def test_what_is_given_and_makes_no_belief_changes_nothing() -> None:
    family, agent = FakeFamily(), make_agent()
    env, tasks = family.make_vector_env(1), family.tasks[:1]
    ((entry,),) = run_trial(env, agent, tasks, [[(0,)]], 1)
    frames, actions, rewards = entry.episode.frames, entry.episode.actions, entry.episode.rewards
    before = agent.belief
    with pytest.raises(MetaslacError, match="the belief after the episodes given is not finite"):
        agent.take_in([[(frames, actions, np.full_like(rewards, np.nan))]])
    assert all(map(torch.equal, before, agent.belief))


def test_control_steps_are_those_that_were_made() -> None:
    family = FakeFamily(uneven=True, diverges={2: 1}, action_repeat=4, last_repeat=3)
    env = family.make_vector_env(3, tolerant=True)
    episodes = run_random(env, family.tasks[:3], [(0,), (1,), (2,)], 1)
    assert [episode.control_steps for episode in episodes] == [5 * 4 + 3, 4 * 4 + 3, 4 + 3]


def test_a_trial_depends_on_its_keys_and_not_on_its_slot() -> None:
    family, agent = FakeFamily(), make_agent()
    keys = [(9, task) for task in range(3)]
    together = run_trial(family.make_vector_env(3), agent, family.tasks[:3], [keys, keys], 1)
    alone = run_trial(family.make_vector_env(1), agent, family.tasks[2:3], [keys[2:], keys[2:]], 1)
    for one, other in zip(together[2], alone[0], strict=True):
        assert np.array_equal(one.episode.frames, other.episode.frames)
        np.testing.assert_allclose(one.episode.actions, other.episode.actions, atol=1e-6)


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    family = FakeFamily()
    run_trial(family.make_vector_env(1), make_agent(tiny_config()), family.tasks[:1], [[(0,)]], 1)
    after = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    assert np.array_equal(before[0], after[0]) and torch.equal(before[1], after[1])
