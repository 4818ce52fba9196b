"""The outer loop on the fake family: files, counts, determinism, context pools."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, meta_train, tiny_config

from metaslac.acting import rollout
from metaslac.acting.agent import load_agent
from metaslac.config.limits import check_family
from metaslac.errors import MetaslacError
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.trainer import MetaTrainer

MOVES = ("infer", "oracle", "blind")


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "progress.csv").open() as file:
        return list(csv.DictReader(file))


def without_times(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if not name.startswith("time/")} for row in rows]


@pytest.mark.parametrize("inference", MOVES)
def test_a_run_leaves_rows_events_and_checkpoints(tmp_path: Path, inference: str) -> None:
    config = tiny_config(inference=inference)
    meta_train(config, FakeFamily(), tmp_path, CPU, quiet=True)
    rows = rows_of(tmp_path)
    assert [row["update"] for row in rows] == ["1", "2", "3", "4", "5", "6"]  # each has its evaluation
    assert [name for name in rows[0] if name.startswith("test/")] == [
        *("test/return_1", "test/return_2"),
        *["test/belief_std_1", "test/belief_std_2"] * (inference == "infer"),  # others have no belief
    ]
    # 4 tasks x 2 random episodes, then 2 tasks x 2 episodes before every second update; 6 steps each
    assert [int(row["env_steps"]) for row in rows] == [72, 72, 96, 96, 120, 120]
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert load_checkpoint(tmp_path).manifest["update"] == 6
    agent = load_agent(tmp_path, CPU)
    trainer = MetaTrainer(config, FakeFamily(), CPU)
    trainer.agent = agent
    returns = [entry.returns for entry in trainer.evaluate(FakeFamily().make_vector_env(2))]
    assert np.allclose(np.mean(returns, 0)[1], float(rows[-1]["test/return_2"]), atol=1e-5)


@pytest.mark.parametrize(
    ("updates", "every", "evaluated"),
    [
        (11, 500, [2, 4, 6, 8, 10, 11]),
        (11, 4, [2, 4, 6, 8, 10, 11]),
        (15, 2, [2, 4, 6, 8, 10, 12, 14, 15]),
        (3, 2, [1, 2, 3]),
    ],
)
def test_any_run_has_a_learning_curve(tmp_path: Path, updates: int, every: int, evaluated: list[int]) -> None:
    config = tiny_config()
    config = replace(
        config,
        train=replace(config.train, updates=updates),
        evaluation=replace(config.evaluation, every=every),
        runtime=replace(config.runtime, log_every=1),
    )
    meta_train(config, FakeFamily(), tmp_path, CPU, quiet=True)
    rows = rows_of(tmp_path)
    assert len(rows) == updates
    assert [int(row["update"]) for row in rows if row["test/return_2"] != "nan"] == evaluated


def test_two_runs_of_a_seed_are_the_same_and_another_seed_is_not(tmp_path: Path) -> None:
    config = tiny_config()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        seeded = replace(config, train=replace(config.train, seed=seed))
        meta_train(seeded, FakeFamily(), tmp_path / name, CPU, quiet=True)
    a, b, c = (rows_of(tmp_path / name) for name in "abc")
    assert without_times(a) == without_times(b) != without_times(c)
    weights = [load_checkpoint(tmp_path / name).tensors for name in "ab"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("posterior_context", [True, False])
def test_a_visit_renews_the_context_pool_of_its_tasks_only(posterior_context: bool) -> None:
    config = tiny_config()
    train = replace(config.train, prior_episodes=1, posterior_episodes=2, posterior_context=posterior_context)
    config = replace(config, train=train, replay=replace(config.replay, episodes_per_task=8))
    trainer = MetaTrainer(config, FakeFamily(), CPU)
    env = FakeFamily().make_vector_env(2)
    trainer.collector.collect_random(env)
    assert (trainer.replay.in_context.sum(1) == 2).all()
    trainer.collector.visit(env, trainer.agent)
    stored = (trainer.replay.lengths > 0).sum(1)
    visited = stored == 5
    assert visited.sum() == 2 and (stored[~visited] == 2).all()
    pooled = trainer.replay.in_context
    assert pooled[~visited, :3].tolist() == [[True, True, False]] * 2
    # random, random, prior, posterior, posterior: the newest two that are marked
    expected = [False, False, False, True, True] if posterior_context else [False, True, True, False, False]
    assert pooled[visited, :5].tolist() == [expected] * 2


def test_env_steps_count_control_steps(tmp_path: Path) -> None:
    config = tiny_config()
    config = replace(config, family=replace(config.family, action_repeat=3))
    trainer = MetaTrainer(config, FakeFamily(action_repeat=3), CPU)
    trainer.collector.collect_random(trainer.family.make_vector_env(2))
    assert trainer.collector.env_steps == 4 * 2 * 6 * 3
    cut = MetaTrainer(config, FakeFamily(action_repeat=3, last_repeat=1), CPU)
    cut.collector.collect_random(cut.family.make_vector_env(3))
    assert cut.collector.env_steps == 4 * 2 * (5 * 3 + 1)
    cut.collector.visit(cut.family.make_vector_env(2), cut.agent)
    assert cut.collector.env_steps == (4 * 2 + 2 * 2) * (5 * 3 + 1)


def stored_lengths(trainer: MetaTrainer) -> list[list[int]]:
    """The lengths of each task's episodes, oldest first, while none has been forgotten."""
    return [[n for n in task if n] for task in trainer.replay.lengths.tolist()]


def test_random_episodes_are_played_until_there_are_enough_steps_whatever_the_worlds() -> None:
    trainers = []
    for worlds in (1, 3, 5):
        trainer = MetaTrainer(tiny_config(), FakeFamily(lengths={0: 2, 2: 5}), CPU)
        trainer.collector.collect_random(trainer.family.make_vector_env(worlds))
        assert stored_lengths(trainer) == [[2] * 6, [6, 6], [5, 5, 5], [6, 6]]  # the fewest with 12 steps
        assert trainer.collector.env_steps == 12 + 12 + 15 + 12
        assert trainer.replay.in_context.sum(1).tolist() == [6, 2, 3, 2]
        trainers.append(trainer)
    starts = {
        len(set(trainer.replay.by_task(trainer.replay.actions)[0, ::3].flatten().tolist()))
        for trainer in trainers
    }
    assert starts == {7}  # six episodes of three frames, all different, and nothing behind them
    for other in trainers[1:]:
        assert torch.equal(other.replay.actions, trainers[0].replay.actions)
        assert torch.equal(other.replay.offsets, trainers[0].replay.offsets)
        frames = [trainer.replay.frames[:18] for trainer in (trainers[0], other)]
        assert torch.equal(*frames)


def test_many_short_random_episodes_are_no_failure() -> None:
    trainer = MetaTrainer(tiny_config(), FakeFamily(episode_steps=30, lengths={0: 1}), CPU)
    trainer.collector.collect_random(trainer.family.make_vector_env(4))
    assert stored_lengths(trainer) == [[1] * 60, [30] * 2, [30] * 2, [30] * 2]


def test_a_visit_repeats_its_trial_on_tasks_whose_episodes_are_short() -> None:
    config = tiny_config()
    config = replace(config, train=replace(config.train, posterior_context=False))
    trainer = MetaTrainer(config, FakeFamily(lengths={0: 1, 1: 2, 2: 3}), CPU)
    trainer.collector.visit(trainer.family.make_vector_env(4), trainer.agent)
    # until half of 2 x 6 steps are made; 3 + 3 are just enough
    assert stored_lengths(trainer) == [[1] * 6, [2] * 4, [3] * 2, [6] * 2]
    pooled = trainer.replay.in_context[:, :6].tolist()
    expected = [[True, False] * 3, [True, False] * 2, [True, False], [True, False]]  # the prior ones
    assert [task[: len(marks)] for task, marks in zip(pooled, expected, strict=True)] == expected
    assert trainer.collector.env_steps == 6 + 8 + 6 + 12


def test_a_visit_has_at_most_eight_trials() -> None:
    config = tiny_config()
    trainer = MetaTrainer(config, FakeFamily(episode_steps=20, lengths={3: 1}), CPU)
    trainer.collector.visit(trainer.family.make_vector_env(4), trainer.agent)
    assert [len(lengths) for lengths in stored_lengths(trainer)] == [2, 2, 2, 16]


def test_a_diverged_simulation_is_counted_and_shown_and_ends_no_run(tmp_path: Path) -> None:
    """Task 1 fails in its fourth step, the held-out task 4 in its first."""
    config, family = tiny_config(), FakeFamily(diverges={1: 3, 4: 0})
    config = replace(config, train=replace(config.train, tasks_per_visit=4))
    meta_train(config, family, tmp_path, CPU, quiet=True)
    rows = rows_of(tmp_path)
    columns = list(rows[0])
    assert columns[columns.index("env_steps") + 1] == "diverged_episodes"
    # 4 random episodes of 3 steps to make 12, then a trial of 2 in each visit: 3 + 3 is half of 12
    assert [int(row["diverged_episodes"]) for row in rows] == [6, 6, 8, 8, 10, 10]
    # a failed step is paid for as well: 4 x 4 and 3 x 12, then 2 x 4 and 3 x 12 in each visit
    assert [int(row["env_steps"]) for row in rows] == [52 + paid for paid in (44, 44, 88, 88, 132, 132)]
    shown = [row["test/return_1"] for row in rows] + [row["test/return_2"] for row in rows]
    assert shown == ["nan"] * 12
    assert all(row["test/belief_std_2"] != "nan" for row in rows)


def test_a_task_that_fails_in_every_first_step_is_named() -> None:
    trainer = MetaTrainer(tiny_config(), FakeFamily(diverges={2: 0}), CPU)
    env = trainer.family.make_vector_env(3, tolerant=True)
    with pytest.raises(MetaslacError, match="fake task 2: 20 random episodes in a row diverged"):
        trainer.collector.collect_random(env)


@pytest.mark.parametrize("setting", ["tasks_per_visit", "tasks_per_update"])
def test_more_tasks_at_once_than_there_are_is_refused(setting: str) -> None:
    config = tiny_config()
    check_family(config, FakeFamily())
    config = replace(config, train=replace(config.train, **{setting: 5}))
    with pytest.raises(MetaslacError, match=rf"train\.{setting} is 5, but fake has 4 training tasks"):
        check_family(config, FakeFamily())


def test_params_in_a_batch_are_those_of_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = MetaTrainer(tiny_config(inference="oracle"), FakeFamily(), CPU)
    trainer.collector.collect_random(FakeFamily().make_vector_env(2))
    drawn = []
    sample_windows = trainer.replay.sample_windows

    def spy(tasks: torch.Tensor, *others: Any) -> Any:
        drawn.append(tasks)
        return sample_windows(tasks, *others)

    monkeypatch.setattr(trainer.replay, "sample_windows", spy)
    batch = trainer.batches.sample()
    goals = [trainer.family.train_tasks[i].params[0] for i in drawn[0]]
    assert batch.params[:, 0].tolist() == pytest.approx(goals)
    assert len(set(drawn[0].tolist())) == 3


def test_training_explores_with_noise_and_evaluation_is_greedy_on_numbers_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = MetaTrainer(tiny_config(), FakeFamily(), CPU)
    greedy: list[bool] = []
    keys: list[tuple[int, ...]] = []
    act, rng_of = trainer.agent.act, rollout.rng_of

    def spy_act(deterministic: bool = False) -> Any:
        greedy.append(deterministic)
        return act(deterministic)

    def spy_rng(*key: int) -> Any:
        keys.append(key)
        return rng_of(*key)

    monkeypatch.setattr(trainer.agent, "act", spy_act)
    monkeypatch.setattr(rollout, "rng_of", spy_rng)
    env = FakeFamily().make_vector_env(2)
    trainer.collector.collect_random(env)
    trainer.collector.visit(env, trainer.agent)
    assert greedy and not any(greedy)
    training = set(keys)
    assert len(training) == len(keys)
    greedy.clear()
    keys.clear()
    trainer.evaluate(env)
    assert greedy and all(greedy)
    assert keys and not training & set(keys)


def test_every_episode_has_its_own_key() -> None:
    trainer = MetaTrainer(tiny_config(), FakeFamily(), CPU)
    numbers = [0] * 4
    keys = [trainer.collector._key(task, numbers) for task in trainer.family.train_tasks for _ in range(3)]
    assert len(set(keys)) == 12 and all(key[0] == 0 for key in keys)
