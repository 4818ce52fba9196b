"""Training on a data set: the updates are those on a replay of the same episodes, and nothing is played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import CPU, SIZE, FakeFamily, FakeVectorEnv, tiny_config
from runs import assert_equal, at, rows, train

from metaslac.acting.rollout import run_random
from metaslac.config.sections import Config
from metaslac.config.text import with_values
from metaslac.errors import MetaslacError
from metaslac.replay.data_set import About, DataSet, RecordedTask, open_data_set
from metaslac.replay.data_writer import written_data_set
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.loop import StopRequested
from metaslac.training.offline import offline_train
from metaslac.training.trainer import MetaTrainer

LATENTS = {"actor_critic.actor_input": "latent", "actor_critic.critic_input": "latent"}
LOMPO = {**LATENTS, "model.heads": 3, "imagination.share": 0.5, "imagination.penalty": "log_prob"}
WAYS: dict[str, dict[str, Any]] = {
    "actor-critic": {},
    "lompo": LOMPO,
    "lompo at rest": {**LOMPO, "train.freeze_encoder": True, "actor_critic.standardise": True},
    "cloning": {
        "train.cloning": True,
        "train.encoder_from_critic": True,
        "train.pretrain_updates": 0,
        "model.elbo_weight": 0.0,
        "actor_critic.critic_input": "features",
        "task.gradient": "critic",
    },
}


def record(path: Path, family: FakeFamily, episodes: int = 3, seed: int = 0) -> DataSet:
    """Random episodes of every training task."""
    about = About(
        *("fake", family.task_hash, "train", family.param_names, family.action_size, SIZE, 1, 1, "pixels"),
        state_size=0,
        episode_steps=family.episode_steps,
        seed=seed,
    )
    env = family.make_vector_env(len(family.train_tasks))
    with written_data_set(path, about) as writer:
        for number in range(episodes):
            keys = [(seed, task.index, number) for task in family.train_tasks]
            for task, episode in zip(
                family.train_tasks, run_random(env, family.train_tasks, keys, 1), strict=True
            ):
                assert writer.add(RecordedTask(task.index, task.params), episode, "random")
    return open_data_set(path)


def learn(
    run_dir: Path,
    data: DataSet,
    config: Config,
    stop: Callable[[], bool] = lambda: False,
    family: FakeFamily | None = None,
) -> bool:
    """Train or go on; whether it came to its end."""
    last = run_dir / "checkpoints"
    family = family or FakeFamily(uneven=True, terminates=True)
    try:
        offline_train(
            config,
            family,
            data,
            lambda worlds: family.make_vector_env(worlds, tolerant=True),
            run_dir,
            CPU,
            quiet=True,
            checkpoint=load_checkpoint(last) if last.exists() else None,
            stop=stop,
        )
    except StopRequested:
        return False
    return True


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return record(tmp_path_factory.mktemp("data") / "random", FakeFamily(uneven=True, terminates=True))


@pytest.mark.parametrize("way", list(WAYS))
def test_stops_change_nothing(data: DataSet, tmp_path: Path, way: str) -> None:
    config = with_values(tiny_config(), WAYS[way])
    asked = 0

    def never() -> bool:
        nonlocal asked
        asked += 1
        return False

    assert learn(tmp_path / "whole", data, config, never)
    for share in (0.1, 0.6):
        cut = tmp_path / str(share)
        assert not learn(cut, data, config, at(int(share * asked)))
        assert learn(cut, data, config)
        assert_equal(tmp_path / "whole", cut)
    assert [int(row["env_steps"]) for row in rows(tmp_path / "whole")] == [0] * len(rows(tmp_path / "whole"))


def test_updates_are_those_of_a_replay_with_the_same_episodes(data: DataSet, tmp_path: Path) -> None:
    """Against the learner in a plain loop, which draws from a ring that the episodes were put into."""
    config = tiny_config()
    assert learn(tmp_path, data, config)
    family = FakeFamily(uneven=True, terminates=True)
    trainer = MetaTrainer(with_values(config, {"replay.context_episodes": 99}), family, CPU)
    trainer.replay = trainer.batches.replay = TaskReplay(4, 9, 9, family.episode_steps, SIZE, 1, CPU)
    for number, (task, *_) in enumerate(data.episodes.tolist()):
        trainer.replay.add(task, data.episode(number), context=True)
    train, learner = config.train, trainer.learner
    for number in range(train.pretrain_updates):
        learner.anneal_pretraining(number / train.pretrain_updates)
        learner.pretrain(trainer.batches.sample(train.pretrain_windows))
    for number in range(train.updates):
        learner.anneal(number / train.updates)
        learner.update(trainer.batches.sample())
    saved = load_checkpoint(tmp_path).tensors
    for name, tensor in learner.networks.state_dict().items():
        assert torch.equal(tensor, saved[name]), name


def test_nothing_is_played_but_to_evaluate(data: DataSet, tmp_path: Path) -> None:
    family, met = FakeFamily(uneven=True, terminates=True), set()

    class Watched(FakeFamily):
        def make_vector_env(self, num_envs: int, threads: int = 0, tolerant: bool = False) -> FakeVectorEnv:
            env = super().make_vector_env(num_envs, threads, tolerant)
            reset = env.reset

            def watched(*, seed: list[int], options: dict[str, Any]) -> Any:
                met.update(options["task"])
                return reset(seed=seed, options=options)

            env.reset = watched
            return env

    assert learn(tmp_path, data, tiny_config(), family=Watched(uneven=True, terminates=True))
    assert met == {task.index for task in family.test_tasks}


def test_a_run_goes_on_with_its_own_data_alone(data: DataSet, tmp_path: Path) -> None:
    config = tiny_config()
    other = record(tmp_path / "other", FakeFamily(uneven=True, terminates=True), seed=1)
    assert not learn(tmp_path / "run", data, config, at(9))
    with pytest.raises(MetaslacError, match="was trained on another data set, or on none"):
        learn(tmp_path / "run", other, config)
    assert not train(tmp_path / "online", at(20))
    with pytest.raises(MetaslacError, match="was trained on another data set, or on none"):
        learn(tmp_path / "online", data, config)
    with pytest.raises(MetaslacError, match="was trained on another data set, or on none"):
        train(tmp_path / "run")


def test_tasks_are_numbered_as_in_the_data(tmp_path: Path) -> None:
    """Only tasks 3 and 1 were recorded: the oracle is told their parameters with their episodes."""
    family = FakeFamily()
    kept = replace_tasks(family, [3, 1])
    config = with_values(tiny_config(inference="oracle"), {"train.tasks_per_update": 2})
    data = record(tmp_path / "data", kept)
    assert learn(tmp_path / "run", data, config, family=family)
    assert load_checkpoint(tmp_path / "run").tensors["task_params.mean"].tolist() == [
        pytest.approx(sum(family.tasks[i].params[0] for i in (1, 3)) / 2, abs=1e-6)
    ]


def replace_tasks(family: FakeFamily, indices: list[int]) -> FakeFamily:
    chosen = FakeFamily(family.episode_steps)
    chosen.train_tasks = tuple(family.tasks[index] for index in indices)
    return chosen
