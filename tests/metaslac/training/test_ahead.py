"""Collection in the background: the same numbers whatever the timing, and a run that can stop anywhere."""

from __future__ import annotations

import copy
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FakeFamily, FakeVectorEnv, meta_train
from runs import PER_VISIT, UPDATES, VISITS, Stop, assert_equal, at, background_threads, rows, train
from runs import ahead_config as config

from metaslac.acting.agent import Agent
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.learning.learner import Learner
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training import ahead as module
from metaslac.training import collection
from metaslac.training.state import NUMBERS
from metaslac.training.trainer import MetaTrainer


def in_background() -> bool:
    return threading.current_thread().name.startswith("metaslac-ahead")


class Hooked(FakeFamily):
    """Calls `hook` before every step of an environment, and counts those made in the background.

    Closing an environment that is still played in is an error.
    """

    hook: Callable[[], None] = staticmethod(lambda: None)
    steps = 0

    def make_vector_env(self, num_envs: int, threads: int = 0, tolerant: bool = False) -> FakeVectorEnv:
        env = super().make_vector_env(num_envs, threads, tolerant)
        step = env.step

        def hooked(actions: Any) -> Any:
            if in_background():
                type(self).steps += 1
            type(self).hook()
            return step(actions)

        def close() -> None:
            assert background_threads() == []

        env.step, env.close = hooked, close  # type: ignore[method-assign]
        return env


def hooked(hook: Callable[[], None]) -> type[Hooked]:
    return type("HookedOnce", (Hooked,), {"hook": staticmethod(hook)})


@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
def test_every_visit_has_the_weights_of_one_visit_before(tmp_path: Path, inference: str) -> None:
    """A run written out in one thread: a copy of the agent is put by at each visit, for the next one."""
    train(tmp_path, config=config(inference=inference))
    trainer = MetaTrainer(
        config(collect_ahead=False, inference=inference), FakeFamily(uneven=True, terminates=True), CPU
    )
    settings = trainer.config.train
    env = trainer.family.make_vector_env(settings.tasks_per_visit)
    trainer.collector.collect_random(env)
    for update in range(settings.pretrain_updates):
        trainer.learner.anneal_pretraining(update / settings.pretrain_updates)
        trainer.learner.pretrain(trainer.batches.sample(settings.pretrain_windows))
    agent = trainer.agent
    for update in range(UPDATES):
        if update % PER_VISIT == 0:
            now = copy.deepcopy(trainer.agent)
            trainer.collector.visit(env, agent)
            agent = now
        trainer.learner.anneal(update / UPDATES)
        trainer.learner.update(trainer.batches.sample())
    other = MetaTrainer(config(inference=inference), FakeFamily(uneven=True, terminates=True), CPU)
    other.resume(load_checkpoint(tmp_path))
    for name, tensor in trainer.learner.networks.state_dict().items():
        assert torch.equal(tensor, other.learner.networks.state_dict()[name]), name
    assert trainer.replay.stored == other.replay.stored
    for task, stored in enumerate(trainer.replay.stored):
        for episode in stored:
            first = trainer.replay.place(task, episode.offset)
            steps = slice(first, first + episode.length)
            assert torch.equal(trainer.replay.actions[steps], other.replay.actions[steps])
            assert torch.equal(trainer.replay.frames[steps], other.replay.frames[steps])
    assert trainer.collector.state() == other.collector.state()


@pytest.mark.parametrize("slow", ["environment", "learner", "both"])
def test_timing_changes_nothing(
    whole: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    rng, update, played_while_learning = random.Random(slow), Learner.update, []

    def sleep() -> None:
        time.sleep(rng.uniform(0, 0.02))

    def slow_update(self: Learner, batch: Any) -> Any:
        before = family.steps
        if slow != "environment":
            time.sleep(rng.uniform(0, 0.2))
        metrics = update(self, batch)
        played_while_learning.append(family.steps - before)
        return metrics

    family = hooked((lambda: None) if slow == "learner" else sleep)
    monkeypatch.setattr(Learner, "update", slow_update)
    assert train(tmp_path, config=config(every=1), kind=family)
    assert_equal(whole[0], tmp_path)
    assert sum(played_while_learning) > 0 or slow == "environment"


def test_the_ratio_of_steps_to_updates_is_that_without(whole: tuple[Path, int], tmp_path: Path) -> None:
    assert train(tmp_path, config=config(collect_ahead=False))
    ahead, without = rows(whole[0]), rows(tmp_path)
    for name in ("update", "env_steps"):
        assert [row[name] for row in ahead] == [row[name] for row in without]
    assert ahead[0] == without[0]  # up to the second visit nothing is different
    assert ahead[-1] != without[-1]


def test_no_visit_is_played_that_no_update_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trial, ends = collection.run_trial, []

    def counted(*arguments: Any, **options: Any) -> Any:
        trials = run_trial(*arguments, **options)
        ends.append(in_background())
        return trials

    monkeypatch.setattr(collection, "run_trial", counted)
    for updates, visits in ((UPDATES, VISITS), (6, 3), (2, 1)):
        ends.clear()
        # Without ends before the time limit, a visit is one trial.
        assert train(tmp_path / str(updates), config=config(updates=updates), uneven=False, terminates=False)
        assert ends == [False] + [True] * (visits - 1)


@pytest.mark.parametrize("moment", [0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 0.999])
def test_one_stop_changes_nothing(whole: tuple[Path, int], tmp_path: Path, moment: float) -> None:
    run_dir, asked = whole
    assert not train(tmp_path, at(int(moment * asked)), config(every=1))
    assert train(tmp_path, config=config(every=1))
    assert_equal(run_dir, tmp_path)


@pytest.mark.slow
def test_a_stop_anywhere_changes_nothing(whole: tuple[Path, int], tmp_path: Path) -> None:
    run_dir, asked = whole
    for moment in range(asked):
        assert not train(tmp_path / str(moment), at(moment), config())
        assert train(tmp_path / str(moment), config=config())
        assert_equal(run_dir, tmp_path / str(moment))


def test_many_stops_change_nothing(whole: tuple[Path, int], tmp_path: Path) -> None:
    stops = 0
    while not train(tmp_path, at(1 if stops % 2 else 8), config()):
        stops += 1
    assert stops > 4
    assert_equal(whole[0], tmp_path)


@pytest.mark.parametrize("update", range(UPDATES))
def test_any_checkpoint_is_gone_on_from(whole: tuple[Path, int], tmp_path: Path, update: int) -> None:
    """As after a kill: nothing but the checkpoint is left, the visit that was played is lost."""
    checkpoint = load_checkpoint(whole[0] / f"checkpoints/{update:08d}")
    family = FakeFamily(uneven=True, terminates=True)
    meta_train(config(every=1), family, tmp_path, CPU, quiet=True, checkpoint=checkpoint)
    assert_equal(whole[0], tmp_path)


def stops_while_waiting(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Asks for a stop as soon as a visit is waited for."""
    waits = 0
    wait = module.wait

    def counted(*arguments: Any) -> Any:
        nonlocal waits
        waits += 1
        return wait(*arguments)

    monkeypatch.setattr(module, "SECONDS_BETWEEN_QUESTIONS", 0.001)
    monkeypatch.setattr(module, "wait", counted)
    return lambda: waits > 0


def test_a_stop_while_a_visit_is_waited_for_ends_it(
    whole: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dawdle() -> None:
        if in_background():
            time.sleep(0.2)

    family = hooked(dawdle)
    assert not train(tmp_path, stops_while_waiting(monkeypatch), config(every=1), kind=family)
    assert 0 < family.steps < 6
    numbers = json.loads(load_checkpoint(tmp_path).read(NUMBERS))
    assert numbers["progress"]["updates"] == PER_VISIT and numbers["progress"]["until_visit"] == 0
    assert numbers["collector"]["visits"] == 1
    monkeypatch.undo()
    assert train(tmp_path, config=config(every=1))
    assert_equal(whole[0], tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_ends_the_learner_ends_the_visit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    begun = threading.Event()

    def dawdle() -> None:
        if in_background():
            begun.set()
            time.sleep(0.05)

    def broken(self: Learner, batch: Any) -> Any:
        assert begun.wait(10)
        raise error

    family = hooked(dawdle)
    monkeypatch.setattr(Learner, "update", broken)
    with pytest.raises(error):
        train(tmp_path, config=config(), kind=family)
    assert 0 < family.steps < 12


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (MetaslacError("no use"), TrainingFault, "no use; the last good checkpoint is .*00000002"),
        (MemoryError(), TrainingFault, "no memory on cpu: in a new run, lower"),
        (RuntimeError("DefaultCPUAllocator: can't"), TrainingFault, "no memory on cpu: in a new run, lower"),
        (OSError("as an environment's own"), OSError, "as an environment's own"),
    ],
)
def test_errors_of_a_visit_are_raised_when_it_is_due(
    whole: tuple[Path, int], tmp_path: Path, error: Exception, raised: type[Exception], words: str
) -> None:
    def fail() -> None:
        if in_background():
            raise error

    with pytest.raises(raised, match=words):
        train(tmp_path, config=config(every=1), kind=hooked(fail))
    assert load_checkpoint(tmp_path).manifest["update"] == PER_VISIT
    assert train(tmp_path, config=config(every=1))
    assert_equal(whole[0], tmp_path)


def test_a_visit_draws_from_no_shared_generator_and_changes_nothing() -> None:
    trainer = MetaTrainer(config(), FakeFamily(), CPU)
    env = trainer.family.make_vector_env(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    state, weights = trainer.collector.state(), copy.deepcopy(trainer.agent.networks.state_dict())
    first, second = (trainer.collector.play(env, trainer.agent) for _ in range(2))
    assert all(
        np.array_equal(a.episode.actions, b.episode.actions) for a, b in zip(first, second, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert trainer.collector.state() == state and trainer.replay.steps() == 0
    assert all(torch.equal(weights[name], now) for name, now in trainer.agent.networks.state_dict().items())


def test_the_copy_of_an_agent_does_not_learn() -> None:
    trainer = MetaTrainer(config(), FakeFamily(), CPU)
    agent: Agent = trainer.agent.copy()
    with torch.no_grad():
        for parameter in trainer.learner.networks.parameters():
            parameter.add_(1)
    for mine, its in zip(agent.networks.parameters(), trainer.agent.networks.parameters(), strict=True):
        assert torch.equal(mine + 1, its)


def test_the_thread_computes_with_as_many_threads_as_the_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a visit could differ in rounding from one that is played where it is due."""
    told: list[int] = []
    family = hooked(lambda: told.append(torch.get_num_threads()))()
    trainer = MetaTrainer(config(), family, CPU)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert trainer.ahead is not None
        env = family.make_vector_env(2)
        for _ in range(2):
            trainer.ahead.visit(env)
        trainer.ahead.close()
        assert family.steps and set(told) == {before + 1} and torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
