"""Collection in the background: the same numbers whatever the timing, and a run that can stop anywhere."""

from __future__ import annotations

import copy
import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoints import forge
from fakes import CPU, FakeFamily, FakeVectorEnv, tiny_config
from runs import Stop, assert_equal, at, rows, train, train_counted

from metaslac import ahead as module
from metaslac import collection
from metaslac.agent import Agent
from metaslac.checkpoint import load_checkpoint
from metaslac.config import Config
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.learner import Learner
from metaslac.meta_train import MetaTrainer, meta_train
from metaslac.training_state import NUMBERS, TENSORS

UPDATES, PER_VISIT, VISITS = 7, 2, 4  # visits are due before updates 0, 2, 4 and 6


def config(
    collect_ahead: bool = True,
    updates: int = UPDATES,
    every: int = 3,
    inference: str = "infer",
    **train: Any,
) -> Config:
    """Of a run with several visits; checkpoints are all kept."""
    base = tiny_config(inference=inference)
    settings = {"updates": updates, "updates_per_visit": PER_VISIT, "collect_ahead": collect_ahead, **train}
    return replace(
        base, train=replace(base.train, **settings), checkpoint=replace(base.checkpoint, every=every, keep=99)
    )


def in_background() -> bool:
    return threading.current_thread().name.startswith("metaslac-ahead")


def background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("metaslac-ahead")]


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Any:
    yield
    assert background_threads() == []


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An uninterrupted run with a checkpoint after every update, and how often it could have been stopped."""
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, train_counted(run_dir, config(every=1))


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
    for _ in range(settings.pretrain_updates):
        trainer.learner.pretrain(trainer.sample_batch(settings.pretrain_windows))
    agent = trainer.agent
    for update in range(UPDATES):
        if update % PER_VISIT == 0:
            now = copy.deepcopy(trainer.agent)
            trainer.collector.visit(env, agent)
            agent = now
        trainer.learner.anneal(update / UPDATES)
        trainer.learner.update(trainer.sample_batch())
    other = MetaTrainer(config(inference=inference), FakeFamily(uneven=True, terminates=True), CPU)
    other.resume(load_checkpoint(tmp_path))
    for name, tensor in trainer.learner.networks.state_dict().items():
        assert torch.equal(tensor, other.learner.networks.state_dict()[name]), name
    assert trainer.replay.stored == other.replay.stored
    for task, stored in enumerate(trainer.replay.stored):
        for episode in stored:
            steps = slice(episode.offset, episode.offset + episode.length)
            assert torch.equal(trainer.replay.actions[task, steps], other.replay.actions[task, steps])
            assert torch.equal(trainer.replay.frames[task, steps], other.replay.frames[task, steps])
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

    def counted(*arguments: Any) -> Any:
        trials = run_trial(*arguments)
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


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    for updates in (4, 6):
        assert train(tmp_path / "a", config=config(updates=updates))
    assert train(tmp_path / "b", config=config(updates=6))
    first, second = (load_checkpoint(tmp_path / name) for name in "ab")
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    # In memory: a mapped file must not be forged.
    return safetensors.torch.load((checkpoint / TENSORS).read_bytes())


def ahead_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    tensors = tensors_of(checkpoint)
    return {
        name.removeprefix("ahead/"): value for name, value in tensors.items() if name.startswith("ahead/")
    }


def test_a_checkpoint_holds_the_weights_that_the_next_visit_is_played_with(whole: tuple[Path, int]) -> None:
    # Those of update 0 before are from before and within pre-training.
    names = ["00000000-4", *(f"{update:08d}" for update in range(1, UPDATES + 1))]
    checkpoints = [whole[0] / "checkpoints" / name for name in names]
    assert not ahead_of(checkpoints[0])
    for update, path in enumerate(checkpoints[1:], 1):
        held = ahead_of(path)
        # That of update 2 is written before the visit that is due there.
        then = load_checkpoint(checkpoints[(update - 1) // PER_VISIT * PER_VISIT]).tensors
        parts = "encoder", "context_encoder", "actor", "task_params"
        acting = {name for name in then if name.split(".")[0] in parts}
        assert held.keys() == acting
        assert all(torch.equal(held[name], then[name]) for name in acting)


def test_checkpoints_of_other_runs_hold_no_more_than_before(tmp_path: Path) -> None:
    assert train(tmp_path, config=config(collect_ahead=False))
    names = load_checkpoint(tmp_path).read_tensors(TENSORS)
    assert {name.partition("/")[0] for name in names} == {"generator", "learner", "replay"}


def refusal(directory: Path, collect_ahead: bool = True) -> str:
    """The line with which a checkpoint is refused."""
    family = FakeFamily(uneven=True, terminates=True)
    with pytest.raises(MetaslacError) as error:
        MetaTrainer(config(collect_ahead), family, CPU).resume(load_checkpoint(directory))
    message = str(error.value)
    assert len(message.splitlines()) == 1 and str(directory / TENSORS) in message
    return message


@pytest.fixture
def saved(whole: tuple[Path, int], tmp_path: Path) -> Path:
    """A copy of the checkpoint after the third update."""
    return Path(shutil.copytree(whole[0] / "checkpoints/00000003", tmp_path / "saved"))


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor] | None] = {
    "gone": None,
    "none": lambda x: x.new_zeros(0),
    "one more": lambda x: torch.cat([x.reshape(-1), x.new_zeros(1)]),
    "one dimension more": lambda x: x.unsqueeze(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_cannot_be_are_refused(saved: Path, change: str) -> None:
    tensors = tensors_of(saved)
    for name in [name for name in tensors if name.startswith("ahead/")][::5]:
        changed, function = dict(tensors), CHANGES[change]
        tensor = changed.pop(name)
        if function is not None:
            changed[name] = function(tensor)
        forge(saved, {TENSORS: safetensors.torch.save(changed)})
        assert name.removeprefix("ahead/") in refusal(saved)


def test_weights_that_do_not_belong_there_are_refused(whole: tuple[Path, int], saved: Path) -> None:
    assert "weights to play ahead with" in refusal(saved, collect_ahead=False)
    tensors = tensors_of(saved)
    forge(saved, {TENSORS: safetensors.torch.save({**tensors, "ahead/more": torch.zeros(1)})})
    assert "more" in refusal(saved)
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("ahead/")}
    forge(saved, {TENSORS: safetensors.torch.save(without)})
    refusal(saved)
    first = Path(shutil.copytree(whole[0] / "checkpoints/00000000", saved.with_name("first")))
    early = {**tensors_of(first), **{f"ahead/{n}": t for n, t in tensors.items()}}
    forge(first, {TENSORS: safetensors.torch.save(early)})
    assert "before the first visit" in refusal(first)


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
