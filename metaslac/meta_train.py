"""Meta-training: collect on a few tasks, update, evaluate on held-out tasks, and again.

The only place with a loop over time; everything it strings together lives in its own file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from metaslac.adaptation import TaskAdaptation, adapt, slots_for
from metaslac.agent import Agent
from metaslac.checkpoint import save_checkpoint
from metaslac.config import Config
from metaslac.errors import MetaslacError
from metaslac.evaluation import returns_array
from metaslac.learner import Batch, Learner
from metaslac.replay import Episode, TaskReplay
from metaslac.rollout import Key, Task, VectorEnv, rng_of, run_random, run_trial
from metaslac.run_log import RunLog

COLLECTION_STREAM = 0
VISIT_STREAM = 3
NETWORK_STREAM, NOISE_STREAM, BATCH_STREAM = 4, 5, 6

MOST_TRIALS = 8  # on a task in one visit
MOST_FAILURES = 20  # random episodes of a task, one after the other, that fail in their first step

Item = TypeVar("Item")


class Family(Protocol):
    """What is needed of a task family."""

    @property
    def name(self) -> str: ...
    @property
    def param_names(self) -> Sequence[str]: ...
    @property
    def action_size(self) -> int: ...
    @property
    def episode_steps(self) -> int: ...
    @property
    def task_hash(self) -> str: ...
    @property
    def train_tasks(self) -> Sequence[Task]: ...
    @property
    def test_tasks(self) -> Sequence[Task]: ...
    def make_vector_env(self, num_envs: int, threads: int = 0, raise_on_divergence: bool = True) -> Any: ...


class MetaTrainer:
    """Replay, learner and environments of one run; `run` is the whole of meta-training."""

    def __init__(self, config: Config, family: Family, device: torch.device) -> None:
        self.config = config
        self.family = family
        self.device = device
        self.params = torch.tensor(
            [task.params for task in family.train_tasks], dtype=torch.float32, device=device
        )
        seed = config.train.seed
        with seeded(torch_seed(seed, NETWORK_STREAM)):
            generator = torch.Generator(device).manual_seed(torch_seed(seed, NOISE_STREAM))
            self.learner = Learner(config, family.action_size, self.params.shape[1], device, generator)
        self.generator = torch.Generator(device).manual_seed(torch_seed(seed, BATCH_STREAM))
        self.agent = Agent.from_networks(
            config, self.learner.networks, family.action_size, self.params.shape[1]
        )
        self.replay = TaskReplay(
            len(family.train_tasks),
            config.replay.episodes_per_task,
            config.replay.context_episodes,
            family.episode_steps,
            config.family.image_size,
            family.action_size,
            device,
        )
        self.env_steps = 0
        self.diverged_episodes = 0
        self.update_count = 0
        self._episodes = [0] * len(family.train_tasks)  # played so far, per task: the last part of a key
        self._visits = 0

    def run(self, run_dir: Path, log: RunLog) -> None:
        """Pre-train, then alternate visits and updates until `train.updates`; evaluate, log and save."""
        train = self.config.train
        with self._environments() as (env, test_env):
            self.collect_random(env)
            self.pretrain(log)
            while self.update_count < train.updates:
                self.visit(env)
                for _ in range(min(train.updates_per_visit, train.updates - self.update_count)):
                    self.learner.anneal(self.update_count / train.updates)
                    self._after_update(self.learner.update(self.sample_batch()), run_dir, log, test_env)

    def collect_random(self, env: VectorEnv) -> None:
        """Random actions on every training task; these episodes are its first context pool.

        Each task is played until it has made `initial_episodes * episode_steps` decisions: in so many
        episodes if none ends early, else in more. What is played does not depend on the number of worlds.

        Raises:
            MetaslacError: a task's simulation diverges in the first step of every episode.
        """
        tasks, most = self.family.train_tasks, self.family.episode_steps
        missing = [self.config.train.initial_episodes * most for _ in tasks]
        failures = [0 for _ in tasks]
        # Every round plays the episodes that are needed even if none of them ends early.
        while jobs := [task for task in tasks for _ in range(-(-missing[task.index] // most))]:
            for task, decisions in zip(jobs, self._play_random(env, jobs), strict=True):
                missing[task.index] -= decisions
                failures[task.index] = 0 if decisions else failures[task.index] + 1
                if failures[task.index] == MOST_FAILURES:
                    raise MetaslacError(
                        f"{self.family.name} task {task.index}: the simulation diverged in the first step of "
                        f"{MOST_FAILURES} random episodes in a row"
                    )

    def _play_random(self, env: VectorEnv, jobs: Sequence[Task]) -> list[int]:
        """One random episode for each job, kept; the decisions it made."""
        made = []
        for start in range(0, len(jobs), env.num_envs):
            chunk = jobs[start : start + env.num_envs]
            keys = filled([self._key(task) for task in chunk], env.num_envs)
            slots, hold = filled(chunk, env.num_envs), self.config.train.random_hold
            episodes = run_random(env, slots, keys, self.family.action_size, hold)
            made += [self._keep(*played, context=True) for played in zip(chunk, episodes, strict=False)]
        return made

    def pretrain(self, log: RunLog) -> None:
        """Model-only updates on what has been collected."""
        train = self.config.train
        for update in range(train.pretrain_updates):
            metrics = self.learner.pretrain(self.sample_batch(train.pretrain_windows))
            if (update + 1) % self.config.runtime.log_every == 0 or update + 1 == train.pretrain_updates:
                log.pretraining(update + 1, train.pretrain_updates, to_floats(metrics))

    def visit(self, env: VectorEnv) -> None:
        """Trials on a few tasks, each of prior, then posterior episodes, marked for the tasks' context pools.

        A task gets one trial, and where episodes end early another one, and so on, until it has made at
        least half of the decisions that a trial can have; at most MOST_TRIALS.
        """
        train = self.config.train
        rng = rng_of(train.seed, VISIT_STREAM, self._visits)
        self._visits += 1
        chosen = rng.choice(len(self.family.train_tasks), env.num_envs, replace=False)
        tasks = [self.family.train_tasks[index] for index in chosen]
        most = (train.prior_episodes + train.posterior_episodes) * self.family.episode_steps
        made = dict.fromkeys(chosen.tolist(), 0)
        for _ in range(MOST_TRIALS):
            for task, decisions in zip(tasks, self._play_trials(env, tasks), strict=True):
                made[task.index] += decisions
            tasks = [task for task in tasks if 2 * made[task.index] < most]
            if not tasks:
                break

    def _play_trials(self, env: VectorEnv, tasks: Sequence[Task]) -> list[int]:
        """One trial on each task, kept; the decisions it made. Tasks may be fewer than the worlds."""
        train = self.config.train
        keys = [
            filled([self._key(task) for task in tasks], env.num_envs)
            for _ in range(train.prior_episodes + train.posterior_episodes)
        ]
        trials = run_trial(env, self.agent, filled(tasks, env.num_envs), keys, train.prior_episodes)
        pooled = train.prior_episodes + (train.posterior_episodes if train.posterior_context else 0)
        return [
            sum(self._keep(task, entry.episode, number < pooled) for number, entry in enumerate(trial))
            for task, trial in zip(tasks, trials, strict=False)
        ]

    def _keep(self, task: Task, episode: Episode, context: bool) -> int:
        """Store and count a training episode; the number of its decisions."""
        self.replay.add(task.index, episode, context)
        self.env_steps += episode.control_steps
        self.diverged_episodes += episode.diverged
        return len(episode.rewards)

    def sample_batch(self, windows: int | None = None) -> Batch:
        """A meta-batch of distinct training tasks: RL windows from all replay, context from the pools."""
        config = self.config
        order = torch.rand(len(self.params), device=self.device, generator=self.generator).argsort()
        tasks = order[: config.train.tasks_per_update]
        return Batch(
            self.replay.sample_windows(
                tasks, windows or config.train.windows, config.model.window, self.generator
            ),
            self.replay.sample_context(
                tasks, config.task.context_segments, config.task.context_length, self.generator
            ),
            self.params[tasks],
        )

    def evaluate(self, test_env: VectorEnv) -> list[TaskAdaptation]:
        """Adaptation to every held-out task, with the same random numbers each time."""
        evaluation = self.config.evaluation
        return adapt(
            self.agent,
            test_env,
            self.family.test_tasks,
            episodes=evaluation.episodes,
            exploration_episodes=evaluation.exploration_episodes,
            trials=evaluation.trials,
            seed=self.config.train.seed,
        )

    def save(self, run_dir: Path) -> None:
        """A checkpoint of the networks, named after the update count."""
        manifest = {
            "family": self.family.name,
            "task_hash": self.family.task_hash,
            "train_tasks": len(self.family.train_tasks),
            "test_tasks": len(self.family.test_tasks),
            "param_names": list(self.family.param_names),
            "action_size": self.family.action_size,
            "update": self.update_count,
            "env_steps": self.env_steps,
        }
        tensors = {name: tensor.cpu() for name, tensor in self.learner.networks.state_dict().items()}
        save_checkpoint(run_dir / "checkpoints" / f"{self.update_count:08d}", tensors, self.config, manifest)

    def _after_update(
        self, metrics: dict[str, torch.Tensor], run_dir: Path, log: RunLog, test_env: VectorEnv
    ) -> None:
        self.update_count += 1
        runtime, evaluation = self.config.runtime, self.config.evaluation
        if self._due(evaluation.every):
            held_out = evaluation_metrics(self.evaluate(test_env))
        else:
            held_out = dict.fromkeys(evaluation_columns(evaluation.episodes))
        if self._due(runtime.log_every) or self._due(evaluation.every):
            counts = {"env_steps": self.env_steps, "diverged_episodes": self.diverged_episodes}
            log.row(self.update_count, {**counts, **to_floats(metrics), **held_out})
        if self._due(runtime.checkpoint_every):
            self.save(run_dir)

    def _due(self, every: int) -> bool:
        """Whether something that happens every so many updates, and after the last, happens now."""
        return self.update_count % every == 0 or self.update_count == self.config.train.updates

    @contextmanager
    def _environments(self) -> Iterator[tuple[VectorEnv, VectorEnv]]:
        """One vector environment to train in and one to evaluate in; no divergence ends the run."""
        jobs = len(self.family.test_tasks) * self.config.evaluation.trials
        threads = self.config.runtime.threads
        env, test_env = (
            self.family.make_vector_env(worlds, threads, raise_on_divergence=False)
            for worlds in (self.config.train.tasks_per_visit, slots_for(jobs, self.config.runtime.worlds))
        )
        try:
            yield env, test_env
        finally:
            env.close()
            test_env.close()

    def _key(self, task: Task) -> Key:
        """The key of the task's next training episode."""
        episode = self._episodes[task.index]
        self._episodes[task.index] += 1
        return self.config.train.seed, COLLECTION_STREAM, task.index, episode


def meta_train(
    config: Config, family: Family, run_dir: Path, device: torch.device, *, quiet: bool = False
) -> None:
    """Meta-train in a run directory that is ready; rows, events and checkpoints go into it."""
    trainer = MetaTrainer(config, family, device)
    with RunLog(run_dir, total_updates=config.train.updates, quiet=quiet) as log:
        trainer.run(run_dir, log)


def evaluation_metrics(adaptations: Sequence[TaskAdaptation]) -> dict[str, float | None]:
    """Columns of progress.csv: the mean held-out return of each episode, and the belief's width after it.

    Where a simulation diverged, the mean return is not a number rather than that of the other tasks.
    """
    returns = returns_array(adaptations).mean((0, 1))
    stds = np.stack([entry.belief_width for entry in adaptations]).mean(0)[1:]
    return dict(zip(evaluation_columns(len(returns)), map(float, (*returns, *stds)), strict=True))


def evaluation_columns(episodes: int) -> list[str]:
    """Names of what evaluation_metrics gives, in its order."""
    return [f"test/{what}_{e + 1}" for what in ("return", "belief_std") for e in range(episodes)]


def filled(jobs: Sequence[Item], size: int) -> list[Item]:
    """`jobs`, and the first of them again for every slot left over; those are played and dropped."""
    return [*jobs, *[jobs[0]] * (size - len(jobs))]


def to_floats(metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    """0-d tensors to floats: the one place that waits for the device."""
    return {name: float(value) for name, value in metrics.items()}


def torch_seed(seed: int, stream: int) -> int:
    """A seed for torch that no other seed and stream share."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint32)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's default generator seeded for building networks, and put back as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
