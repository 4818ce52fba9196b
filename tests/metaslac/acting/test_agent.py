"""Acting: history at the start of episodes, the belief, slots, and the same inputs as in training."""

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, make_agent, tiny_config

from metaslac.acting.agent import Agent
from metaslac.acting.rollout import rng_of, run_trial
from metaslac.errors import MetaslacError
from metaslac.networks.actor_critic import History
from metaslac.replay.task_replay import TaskReplay


class Recorder(Agent):
    """An agent that notes what the actor is shown."""

    def act(self, deterministic: bool = False) -> np.ndarray:
        self.shown.append((self._history.f.clone(), self._history.a.clone()))
        return super().act(deterministic)


def test_the_actor_is_shown_the_same_history_when_acting_and_in_training_windows() -> None:
    """Play an episode, store it, draw windows: each shows the very inputs acting had at that step."""
    agent = make_agent()
    agent.__class__, agent.shown = Recorder, []
    family = FakeFamily()
    env = family.make_vector_env(1)
    [[entry]] = run_trial(env, agent, family.tasks[:1], [[(0, 0)]], 1)
    replay = TaskReplay(1, 1, 1, family.episode_steps, 32, 1, CPU)
    replay.add(0, entry.episode, context=True)
    windows = replay.sample_windows(torch.tensor([0]), 60, 3, torch.Generator().manual_seed(0))
    seen = set()
    for w in range(60):
        t = int(windows.frames[0, w, -2, 0, 0, 2])  # the blue channel counts steps
        f = agent._encoder(windows.frames[0, w, :-1])
        torch.testing.assert_close(f, agent.shown[t][0][0])
        torch.testing.assert_close(windows.a[0, w, :-1], agent.shown[t][1][0])
        seen.add(t)
    assert seen == set(range(family.episode_steps))


def test_history_before_the_first_frame_is_that_frame_with_zero_actions() -> None:
    history = History(window=3, action_size=2)
    history.begin(torch.tensor([[1.0], [2.0]]))
    assert history.f[:, :, 0].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert not history.a.any() and history.a.shape == (2, 2, 2)
    history.append(torch.full((2, 2), 0.5), torch.tensor([[3.0], [4.0]]))
    assert history.f[:, :, 0].tolist() == [[1, 1, 3], [2, 2, 4]]
    assert history.a[0].tolist() == [[0, 0], [0.5, 0.5]]


def test_a_window_of_one_needs_no_actions() -> None:
    history = History(window=1, action_size=2)
    history.begin(torch.zeros(2, 1))
    history.append(torch.ones(2, 2), torch.ones(2, 1))
    assert history.a.shape == (2, 0, 2) and history.f.tolist() == [[[1.0]], [[1.0]]]


def test_belief_is_the_product_over_the_whole_trial_and_m_is_fixed_within_an_episode() -> None:
    agent = make_agent()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 7, 32, 32, 3), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (2, 6, 1)).astype(np.float32)
    rewards = rng.normal(size=(2, 6)).astype(np.float32)
    agent.begin_task(2)
    for episode in range(2):
        agent.begin_episode(frames[:, 3 * episode], [rng_of(episode, s) for s in range(2)])
        m = agent.m.clone()
        for t in range(3 * episode, 3 * episode + 3):
            agent.observe(actions[:, t], rewards[:, t], frames[:, t + 1])
            assert torch.equal(agent.m, m)
    f = agent._encoder(torch.from_numpy(frames))
    observed = agent._context_encoder(
        f[:, :-1], torch.from_numpy(actions), torch.from_numpy(rewards), f[:, 1:]
    )
    directions, values = observed.directions.flatten(1, 2), observed.values.flatten(1, 2)
    covariance = (torch.eye(2) + directions.mT @ directions).inverse()  # the prior is a factor
    torch.testing.assert_close(
        agent.belief.mean, (covariance @ directions.mT @ values[..., None])[..., 0], rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(agent.belief.std, covariance.diagonal(dim1=1, dim2=2).sqrt())


def test_exploration_samples_the_prior_and_later_episodes_the_belief() -> None:
    agent = make_agent()
    frames = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    agent.begin_task(1)
    agent.begin_episode(frames, [rng_of(7)], explore=True)
    noise = torch.from_numpy(rng_of(7).standard_normal((1, 2), dtype=np.float32))
    assert torch.equal(agent.m, noise)
    agent.observe(np.zeros((1, 1), np.float32), np.ones(1), frames)
    agent.begin_episode(frames, [rng_of(7)], explore=True)
    assert torch.equal(agent.m, noise)
    agent.begin_episode(frames, [rng_of(7)])
    factor = torch.linalg.cholesky(agent._inference._known.belief.precision[0])
    spread = torch.linalg.solve(factor.T, noise[0].double()).float()
    torch.testing.assert_close(agent.m[0], agent.belief.mean[0] + spread)


def test_slots_that_are_over_learn_nothing() -> None:
    agent = make_agent()
    frames = rng_of(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    agent.begin_task(2)
    agent.begin_episode(frames, [rng_of(0), rng_of(1)])
    agent.observe(np.zeros((2, 1), np.float32), np.ones(2), frames, np.array([True, False]))
    assert (agent.belief.std[0] < 1).any()
    assert torch.equal(agent.belief.mean[1], torch.zeros(2)) and torch.equal(
        agent.belief.std[1], torch.ones(2)
    )


def test_actions_stay_in_bounds_and_greedy_ones_use_no_noise() -> None:
    agent = make_agent()
    frames = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    agent.begin_task(3)
    agent.begin_episode(frames, [rng_of(5) for _ in range(3)])
    sampled, again = agent.act(), agent.act()
    assert np.abs(sampled).max() <= 1 and not np.array_equal(sampled, again)
    assert np.array_equal(agent.act(deterministic=True), agent.act(deterministic=True))


def test_oracle_acts_on_the_parameters_it_is_given_and_blind_on_zero() -> None:
    frames = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    oracle = make_agent(tiny_config(inference="oracle"))
    with pytest.raises(MetaslacError, match="oracle"):
        oracle.begin_task(2)
    oracle.begin_task(2, np.array([[0.25], [0.5]]))
    oracle.begin_episode(frames, [rng_of(0), rng_of(1)])
    with torch.no_grad():
        assert torch.equal(oracle.m, oracle._task_params(torch.tensor([[0.25], [0.5]])))
    blind = make_agent(tiny_config(inference="blind"))
    blind.begin_task(2)
    blind.begin_episode(frames, [rng_of(0), rng_of(1)])
    assert not blind.m.any()
