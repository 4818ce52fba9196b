"""Adaptation: nothing but the trial's own episodes can change it, and the replay is out of reach."""

import gc
import inspect

import numpy as np
import pytest
import torch
from fakes import CPU, SIZE, FakeFamily, make_agent, tiny_config

from metaslac.acting.adaptation import TaskAdaptation, adapt, slots_for
from metaslac.replay.task_replay import TaskReplay
from metaslac.training.loop import evaluation_metrics
from metaslac.training.trainer import MetaTrainer


def same(one: list[TaskAdaptation], other: list[TaskAdaptation]) -> bool:
    return all(
        a.returns == b.returns
        and np.array_equal(a.belief_mean, b.belief_mean)
        and np.array_equal(a.belief_std, b.belief_std)
        for a, b in zip(one, other, strict=True)
    )


def test_a_poisoned_replay_changes_nothing() -> None:
    family = FakeFamily()
    trainer = MetaTrainer(tiny_config(), family, CPU)
    env = family.make_vector_env(2)
    trainer.collector.collect_random(env)
    trainer.collector.visit(env, trainer.agent)
    clean = trainer.evaluate(family.make_vector_env(2))
    trainer.replay.frames.fill_(255)
    trainer.replay.actions.fill_(float("nan"))
    trainer.replay.rewards.fill_(float("nan"))
    trainer.replay.in_context.fill_(True)
    assert same(clean, trainer.evaluate(family.make_vector_env(2)))


def test_dense_rewards_train_and_sparse_ones_are_judged_and_inferred_from() -> None:
    family = FakeFamily(sparse=True)
    trainer = MetaTrainer(tiny_config(), family, CPU)
    env = family.make_vector_env(2)
    trainer.collector.collect_random(env)
    trainer.collector.visit(env, trainer.agent)
    batch = trainer.batches.sample(64)
    positions = batch.windows.frames[..., 0].float().mean(-2).argmax(-1) / (SIZE - 4) * 2 - 1  # (K, W, L + 1)
    expected = -(positions[..., 1:] - batch.params[:, None]).abs()
    real = batch.windows.valid[..., :-1]
    assert (batch.windows.r - expected)[real].abs().max() < 4 / SIZE
    assert set(batch.context.r[batch.context.valid].tolist()) == {0.0, 1.0}
    held_out = trainer.evaluate(family.make_vector_env(2))
    assert all(float(value).is_integer() and value >= 0 for entry in held_out for value in entry.returns)
    family.dense_scale = float("nan")
    assert same(held_out, trainer.evaluate(family.make_vector_env(2)))


def test_the_agent_cannot_reach_a_replay() -> None:
    """Walk everything an agent refers to, through every attribute and container."""
    trainer = MetaTrainer(tiny_config(), FakeFamily(), CPU)
    trainer.collector.visit(FakeFamily().make_vector_env(2), trainer.agent)
    seen: set[int] = set()
    reachable = [trainer.agent]
    while reachable:
        thing = reachable.pop()
        if id(thing) in seen or inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isroutine(thing):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, TaskReplay | MetaTrainer)
        assert not (isinstance(thing, torch.Tensor) and thing.data_ptr() == trainer.replay.frames.data_ptr())
        reachable += gc.get_referents(thing)
    assert id(trainer.agent._actor) in seen
    parameters = inspect.signature(adapt).parameters
    assert not any("replay" in name or "trainer" in name for name in parameters)


def test_trials_do_not_depend_on_how_they_are_spread_over_slots() -> None:
    family, agent = FakeFamily(), make_agent()
    options = {"episodes": 2, "trials": 3, "seed": 4}
    spread = [adapt(agent, family.make_vector_env(n), family.test_tasks, **options) for n in (1, 4, 6)]
    assert [(a.task.index, a.trial) for a in spread[0]] == [(4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2)]
    for other in spread[1:]:
        for a, b in zip(spread[0], other, strict=True):
            assert a.task == b.task and a.trial == b.trial
            np.testing.assert_allclose(a.returns, b.returns, atol=1e-5)
            np.testing.assert_allclose(a.belief_std, b.belief_std, atol=1e-5)


def test_trials_differ_and_the_belief_starts_at_the_prior_and_narrows() -> None:
    family = FakeFamily()
    results = adapt(make_agent(), family.make_vector_env(2), family.test_tasks, episodes=3, trials=2)
    assert results[0].returns != results[1].returns
    for result in results:
        assert len(result.returns) == 3 and result.belief_std.shape == (4, 2)
        assert (result.belief_std[0] == 1).all() and (np.diff(result.belief_std, axis=0) < 0).all()


def test_an_episode_that_diverged_has_no_return() -> None:
    family = FakeFamily(diverges={5: 2})
    env = family.make_vector_env(2, tolerant=True)
    good, failed = adapt(make_agent(), env, family.test_tasks, episodes=2)
    assert np.isfinite(good.returns).all() and np.isnan(failed.returns).all()
    assert np.isfinite(failed.belief_std).all() and (failed.belief_std[1] < 1).all()
    means = evaluation_metrics([good, failed], "test", infers=True)
    missing = [name for name, value in means.items() if np.isnan(value)]
    assert missing == ["test/return_1", "test/return_2", "AverageReturn"]


@pytest.mark.parametrize("keep_beliefs", [False, True])
def test_an_agent_without_a_task_variable_plays_too(keep_beliefs: bool) -> None:
    family = FakeFamily()
    trainer = MetaTrainer(tiny_config(inference="blind", size=0), family, CPU)
    env = family.make_vector_env(2)
    for entry in adapt(trainer.agent, env, family.test_tasks, episodes=2, keep_beliefs=keep_beliefs):
        assert len(entry.returns) == 2 and entry.belief_mean.shape == (3, 0)
        assert (entry.step_width == 0).all()


def test_beliefs_within_episodes_are_kept_when_asked_for() -> None:
    family, agent = FakeFamily(), make_agent()
    kept = adapt(agent, family.make_vector_env(2), family.test_tasks, episodes=2, keep_beliefs=True)
    for entry in kept:
        assert len(entry.step_width) == 1 + 2 * family.episode_steps
        np.testing.assert_array_equal(entry.step_stds[:: family.episode_steps], entry.belief_std)
        np.testing.assert_array_equal(entry.step_means[:: family.episode_steps], entry.belief_mean)
    fewer = adapt(agent, family.make_vector_env(2), family.test_tasks, episodes=2)
    assert same(kept, fewer) and all(len(entry.step_width) == 1 for entry in fewer)


def test_frames_are_kept_only_when_asked_for() -> None:
    family, agent = FakeFamily(), make_agent()
    kept = adapt(agent, family.make_vector_env(1), family.test_tasks[:1], episodes=2, keep_frames=True)[0]
    assert [frames.shape for frames in kept.frames] == [(7, 32, 32, 3)] * 2
    assert not adapt(agent, family.make_vector_env(1), family.test_tasks[:1], episodes=2)[0].frames


@pytest.mark.parametrize(("jobs", "worlds", "slots"), [(30, 16, 15), (16, 16, 16), (17, 16, 9), (1, 16, 1)])
def test_slots_are_as_even_as_can_be(jobs: int, worlds: int, slots: int) -> None:
    assert slots_for(jobs, worlds) == slots
