"""The outer loop on the fake family: files, counts, determinism, context pools."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, tiny_config

from metaslac import rollout
from metaslac.agent import load_agent
from metaslac.checkpoint import load_checkpoint
from metaslac.errors import MetaslacError
from metaslac.limits import check_memory, check_tasks
from metaslac.meta_train import MetaTrainer, meta_train

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
    assert [row["update"] for row in rows] == ["2", "3", "4", "6"]  # every 2, and the evaluations at 3 and 6
    assert [bool(row["test/return_2"]) for row in rows] == [False, True, False, True]
    # 4 tasks x 2 random episodes, then 2 tasks x 2 episodes before every second update; 6 steps each
    assert [int(row["env_steps"]) for row in rows] == [72, 96, 96, 120]
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert load_checkpoint(tmp_path).manifest["update"] == 6
    agent = load_agent(tmp_path, CPU)
    trainer = MetaTrainer(config, FakeFamily(), CPU)
    trainer.agent = agent
    returns = [entry.returns for entry in trainer.evaluate(FakeFamily().make_vector_env(2))]
    assert np.allclose(np.mean(returns, 0)[1], float(rows[-1]["test/return_2"]), atol=1e-5)


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
    trainer.collect_random(env)
    assert (trainer.replay.in_context.sum(1) == 2).all()
    trainer.visit(env)
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
    trainer = MetaTrainer(config, FakeFamily(), CPU)
    trainer.collect_random(FakeFamily().make_vector_env(2))
    assert trainer.env_steps == 4 * 2 * 6 * 3


def test_a_replay_that_cannot_fit_is_refused_with_its_size_and_the_setting() -> None:
    config = tiny_config()
    check_memory(config, FakeFamily(), CPU)
    huge = replace(config, replay=replace(config.replay, episodes_per_task=10**9))
    with pytest.raises(
        MetaslacError, match=r"needs \d+\.\d GiB .*replay\.episodes_per_task from 1000000000 to \d+"
    ):
        check_memory(huge, FakeFamily(), CPU)


@pytest.mark.parametrize("setting", ["tasks_per_visit", "tasks_per_update"])
def test_more_tasks_at_once_than_there_are_is_refused(setting: str) -> None:
    config = tiny_config()
    check_tasks(config, FakeFamily())
    config = replace(config, train=replace(config.train, **{setting: 5}))
    with pytest.raises(MetaslacError, match=rf"train\.{setting} is 5, but fake has 4 training tasks"):
        check_tasks(config, FakeFamily())


def test_params_in_a_batch_are_those_of_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = MetaTrainer(tiny_config(inference="oracle"), FakeFamily(), CPU)
    trainer.collect_random(FakeFamily().make_vector_env(2))
    drawn = []
    sample_windows = trainer.replay.sample_windows

    def spy(tasks: torch.Tensor, *others: Any) -> Any:
        drawn.append(tasks)
        return sample_windows(tasks, *others)

    monkeypatch.setattr(trainer.replay, "sample_windows", spy)
    batch = trainer.sample_batch()
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
    trainer.collect_random(env)
    trainer.visit(env)
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
    keys = [trainer._key(task) for task in trainer.family.train_tasks for _ in range(3)]
    assert len(set(keys)) == 12 and all(key[0] == 0 for key in keys)
