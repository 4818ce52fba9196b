"""A tiny family on a counting environment, without a renderer, and evaluations of random numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaslac.acting.agent import Agent
from metaslac.acting.rollout import run_random
from metaslac.acting.single_task import SingleTaskAgent
from metaslac.config.runtime import CheckpointConfig, RuntimeConfig
from metaslac.config.schedule import EvaluationConfig, TrainConfig
from metaslac.config.sections import (
    ActorCriticConfig,
    Config,
    FamilyConfig,
    ModelConfig,
    ReplayConfig,
    TaskConfig,
)
from metaslac.config.text import to_dict, with_values
from metaslac.evidence.evaluation_file import Evaluation, Trials
from metaslac.learning.learner import Batch, Learner
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.checkpoint import save_checkpoint
from metaslac.training import online

SIZE = 32
CPU = torch.device("cpu")


@dataclass(frozen=True)
class FakeTask:
    index: int
    params: tuple[float, ...]


class FakeVectorEnv:
    """A point on a line, drawn as a bright column; reward -|position - goal|.

    If the family is sparse, that is the dense reward, and the reward is 1 within 0.3 of the goal, else 0.
    Task i ends after `family.length(i)` steps, truly if `terminates`, else by the time limit, and stays
    as it then is. A step makes `action_repeat` control steps, an episode's last one `last_repeat`.
    With i in `diverges`, every episode of task i fails in its step number `diverges[i]`, counted from 0.
    """

    def __init__(self, family: FakeFamily, num_envs: int, raise_on_divergence: bool = True) -> None:
        self.family, self.num_envs, self.raise_on_divergence = family, num_envs, raise_on_divergence

    def reset(self, *, seed: list[int], options: dict[str, Any]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        assert len(seed) == len(options["task"]) == self.num_envs
        self.tasks = list(options["task"])
        self.position = np.array([np.random.default_rng(s).uniform(-1, 1) for s in seed])
        self.t = np.zeros(self.num_envs, dtype=int)
        self.terminated = np.zeros(self.num_envs, dtype=bool)
        self.truncated = np.zeros(self.num_envs, dtype=bool)
        return self.draw(), {}

    def step(self, actions: NDArray[np.float32]) -> tuple[Any, ...]:
        assert actions.shape == (self.num_envs, self.family.action_size) and np.abs(actions).max() <= 1
        running = ~(self.terminated | self.truncated)
        failing = running & (self.t == [self.family.diverges.get(i, -1) for i in self.tasks])
        going = running & ~failing
        self.position = np.where(going, np.clip(self.position + 0.3 * actions[:, 0], -1, 1), self.position)
        self.t += going
        goals = np.array([self.family.tasks[i].params[0] for i in self.tasks])
        rewards = np.where(going, -np.abs(self.position - goals), 0.0)
        info: dict[str, Any] = {}
        if self.family.sparse:
            info["dense_reward"] = self.family.dense_scale * rewards
            rewards = np.where(going & (rewards > -0.3), 1.0, 0.0)
        done = going & (self.t == [self.family.length(i) for i in self.tasks])
        self.terminated |= done & self.family.terminates
        self.truncated |= done & (not self.family.terminates) | failing
        repeats = np.where(done | failing, self.family.last_repeat, self.family.action_repeat)
        info["control_steps"] = running * repeats
        if failing.any():
            if self.raise_on_divergence:
                raise RuntimeError("diverged")
            info["diverged"] = failing
        return self.draw(), rewards, self.terminated.copy(), self.truncated.copy(), info

    def draw(self) -> NDArray[np.uint8]:
        frames = np.zeros((self.num_envs, SIZE, SIZE, 3), dtype=np.uint8)
        frames[:, :, :, 2] = self.t[:, None, None]
        for i, column in enumerate(((self.position + 1) / 2 * (SIZE - 4)).astype(int)):
            frames[i, :, column : column + 4, :2] = 255
        return frames

    def close(self) -> None:
        pass


class FakeFamily:
    """Tasks 0 to 3 are to train on, 4 and 5 held out; with `validation`, 6 to 8 are for that."""

    name = "fake"
    param_names = ("goal",)
    action_size = 1
    state_size = 2
    task_hash = "0" * 64

    dense_scale = 1.0

    def __init__(
        self,
        episode_steps: int = 6,
        uneven: bool = False,
        terminates: bool = False,
        sparse: bool = False,
        lengths: dict[int, int] | None = None,
        diverges: dict[int, int] | None = None,
        action_repeat: int = 1,
        last_repeat: int | None = None,
        validation: bool = False,
    ) -> None:
        self.episode_steps, self.uneven, self.terminates = episode_steps, uneven, terminates
        self.sparse = sparse
        self.lengths, self.diverges = lengths or {}, diverges or {}
        self.action_repeat, self.last_repeat = action_repeat, last_repeat or action_repeat
        self.tasks = tuple(FakeTask(i, (float(g),)) for i, g in enumerate(np.linspace(-1, 1, 6)))
        self.train_tasks, self.test_tasks = self.tasks[:4], self.tasks[4:]
        self.validation_tasks = tuple(FakeTask(i, (i / 10,)) for i in (6, 7, 8)) if validation else ()
        self.tasks += self.validation_tasks

    def length(self, task: int) -> int:
        return self.lengths.get(task, self.episode_steps - task % 6 if self.uneven else self.episode_steps)

    def make_vector_env(self, num_envs: int, threads: int = 0, tolerant: bool = False) -> FakeVectorEnv:
        return FakeVectorEnv(self, num_envs, raise_on_divergence=not tolerant)


def meta_train(
    config: Config, family: FakeFamily, run_dir: Path, device: torch.device, **options: Any
) -> None:
    """The library's, in environments of the family in which no fault raises."""

    def make_env(worlds: int, **asks: bool) -> FakeVectorEnv:
        return family.make_vector_env(worlds, tolerant=True, **asks)

    online.meta_train(config, family, make_env, run_dir, device, **options)


def tiny_config(**task: Any) -> Config:
    """A configuration of every part at its smallest."""
    return Config(
        family=FamilyConfig(name="fake", image_size=SIZE),
        model=ModelConfig(base_depth=4, feature_size=8, z1_size=3, z2_size=4, hidden_size=8, window=3),
        task=replace(
            TaskConfig(
                size=2, hidden_size=8, context_segments=2, context_length=4, context_min=2, context_max=5
            ),
            **task,
        ),
        actor_critic=ActorCriticConfig(hidden_size=8),
        replay=ReplayConfig(episodes_per_task=4, context_episodes=2),
        train=TrainConfig(
            updates=6,
            pretrain_updates=3,
            tasks_per_visit=2,
            updates_per_visit=2,
            tasks_per_update=3,
            model_windows=2,
            windows=4,
            steps_per_batch=2,
        ),
        evaluation=EvaluationConfig(every=3, episodes=2),
        runtime=RuntimeConfig(device="cpu", precision="float32", log_every=2, worlds=3),
        checkpoint=CheckpointConfig(every=3),
    )


def make_agent(config: Config | None = None) -> Agent:
    """An untrained agent for FakeFamily, always the same one."""
    config = config or tiny_config()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Agent.from_networks(config, MetaSLAC(config, 1, 1), 1, 1)


FRAME = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def begun(agent: SingleTaskAgent | None = None) -> SingleTaskAgent:
    """An agent within the first episode of its first task."""
    agent = agent or SingleTaskAgent(make_agent())
    agent.begin_task()
    agent.begin_episode(FRAME)
    return agent


def observed(agent: SingleTaskAgent) -> SingleTaskAgent:
    agent.observe([0.5], -1.0, FRAME)
    return agent


def untrained_checkpoint(directory: Path, family: Any, **task: Any) -> Path:
    """A whole checkpoint of an agent for `family`, 32 x 32, that has learned nothing; always the same one."""
    config = with_values(tiny_config(**task), {"family.name": family.name})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = MetaSLAC(config, family.action_size, len(family.param_names))
    manifest = {
        "family": family.name,
        "task_hash": family.task_hash,
        "train_tasks": len(family.train_tasks),
        "test_tasks": len(family.test_tasks),
        "param_names": list(family.param_names),
        "action_size": family.action_size,
        "update": 1,
        "env_steps": 1,
    }
    save_checkpoint(directory, networks.state_dict(), config, manifest)
    return directory


def make_learner(config: Config) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Learner(config, 1, 1, CPU, torch.Generator().manual_seed(1))


def random_replay(family: FakeFamily) -> TaskReplay:
    """Two random episodes of each training task."""
    replay = TaskReplay(4, 2, 2, family.episode_steps, 32, 1, CPU)
    env = family.make_vector_env(4)
    for repeat in range(2):
        keys = [(repeat, task) for task in range(4)]
        for task, episode in enumerate(run_random(env, family.train_tasks, keys, 1)):
            replay.add(task, episode, context=True)
    return replay


def make_batch(config: Config, terminates: bool = False, seed: int = 2) -> Batch:
    family = FakeFamily(uneven=True, terminates=terminates)
    replay = random_replay(family)
    generator = torch.Generator().manual_seed(seed)
    tasks = torch.tensor([3, 1, 0])
    params = torch.tensor([family.tasks[i].params for i in tasks])
    task = config.task
    return Batch(
        replay.sample_windows(tasks, config.train.windows, config.model.window, generator),
        replay.sample_context(tasks, task.context_segments, task.context_length, generator, task.count_once),
        params,
    )


def snapshot(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.networks.state_dict().items()}


def changed(learner: Learner, before: dict[str, torch.Tensor]) -> set[str]:
    after = learner.networks.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


EPISODES, TRIALS, DECISIONS = 2, 3, 4


def trials(tasks: int, seed: int = 0) -> Trials:
    rng = np.random.default_rng(seed)
    each = (tasks, TRIALS)
    widths = rng.uniform(size=(tasks, EPISODES * DECISIONS + 1)).round(2)
    widths[0, 5:] = np.nan  # of a task whose episodes always ended early
    return Trials(
        list(range(tasks)),
        rng.normal(size=(tasks, 2)),
        rng.normal(size=(*each, EPISODES)),
        rng.normal(size=(*each, EPISODES + 1, 5)).round(3),
        widths,
    )


def evaluation(**about: Any) -> Evaluation:
    given = {
        "family": "point_robot",
        "task_hash": "ab",
        "param_names": ["goal_x", "goal_y"],
        "inference": "infer",
        "train_seed": 0,
        "update": 10,
        "env_steps": 100,
        "split": "test",
        "episodes": EPISODES,
        "trials": TRIALS,
        "seed": 0,
        "stream": 1,
        "exploration_episodes": 1,
        "redraw_every": 0,
        "mean_below": 0.0,
        "sample_actions": False,
        "context": "",
        "observation": "pixels",
        "privileged": False,
        "decisions": DECISIONS,
        "settings": to_dict(Config()),
        "command": "metaslac evaluate",
        "commit": None,
        "versions": {"metaslac": "0"},
        "trained_with": {"metaslac": "0", "commit": None},
        "hardware": {"cores": 2},
    }
    return Evaluation({**given, **about}, trials(4), trials(6, seed=1))
