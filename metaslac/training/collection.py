"""Collection: random episodes at the start of a run, then visits to a few tasks at a time, all into replay.

When a visit is due and what is learned between them is decided in online.py; ahead.py plays visits in the
background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from metaslac.acting.agent import Agent
from metaslac.acting.inference import Drawing
from metaslac.acting.rollout import Key, Task, VectorEnv, filled, rng_of, run_random, run_trial
from metaslac.config.limits import random_decisions
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.ranks.sharding import Shard
from metaslac.replay.experience import Episode
from metaslac.replay.task_replay import TaskReplay

COLLECTION_STREAM = 0
VISIT_STREAM = 3

MOST_TRIALS = 8  # on a task in one visit
MOST_FAILURES = 20  # random episodes of a task, one after the other, of which nothing can be kept


class Tally(NamedTuple):
    """What is counted of a training episode, on all ranks."""

    task: int
    control_steps: int
    decisions: int
    diverged: bool
    lost: bool


class CollectedFamily(Protocol):
    """What is needed of a task family here."""

    @property
    def name(self) -> str: ...
    @property
    def action_size(self) -> int: ...
    @property
    def episode_steps(self) -> int: ...
    @property
    def train_tasks(self) -> Sequence[Task]: ...


class Played(NamedTuple):
    """A training episode."""

    task: Task
    episode: Episode
    context: bool  # whether it is for the task's context pool

    @property
    def decisions(self) -> int:
        """How many of its decisions can be kept."""
        return 0 if self.episode.lost else len(self.episode.rewards)

    def tally(self) -> Tally:
        """What is counted of it."""
        episode = self.episode
        return Tally(
            self.task.index, episode.control_steps, self.decisions, bool(episode.diverged), bool(episode.lost)
        )


class Collector:
    """Plays training tasks, stores and counts what was played.

    Episodes have generators of their own, keyed by task and number: what is played does not depend on
    how it is spread over worlds or ranks, and the counters are all the state there is. Every rank plays and
    stores its own tasks, and counts all.
    """

    def __init__(
        self, config: Config, family: CollectedFamily, replay: TaskReplay, shard: Shard | None = None
    ) -> None:
        self.config = config
        self.family = family
        self.replay = replay
        self.env_steps = 0
        self.diverged_episodes = 0
        self.lost_episodes = 0
        self.visits = 0
        tasks = len(family.train_tasks)
        self._shard = shard or Shard(tasks=tasks)
        self._episodes = [0] * tasks  # played so far, per task: the last part of a key
        self._missing = [random_decisions(config, family.episode_steps)] * tasks
        self._failures = [0] * tasks

    def counts(self) -> dict[str, int]:
        """For progress.csv."""
        return {
            "env_steps": self.env_steps,
            "diverged_episodes": self.diverged_episodes,
            "lost_episodes": self.lost_episodes,
        }

    def state(self) -> dict[str, Any]:
        """All that goes on from one episode to the next but the replay, for JSON."""
        return {
            **self.counts(),
            "episodes": list(self._episodes),
            "visits": self.visits,
            "missing": list(self._missing),
            "failures": list(self._failures),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.env_steps = int(state["env_steps"])
        self.diverged_episodes = int(state["diverged_episodes"])
        self.lost_episodes = int(state["lost_episodes"])
        self.visits = int(state["visits"])
        self._episodes, self._missing, self._failures = (
            [int(number) for _, number in zip(self._episodes, state[name], strict=True)]
            for name in ("episodes", "missing", "failures")
        )

    def collect_random(self, env: VectorEnv, between: Callable[[], None] = lambda: None) -> None:
        """Random actions on every training task; these episodes are its first context pool.

        Each task is played, whole episodes, until it has made as many decisions as `initial_episodes` full
        episodes have, or `initial_decisions`. `between` is called whenever the state is whole.

        Raises:
            MetaslacError: nothing can be kept of any episode of a task.
        """
        while any(missing > 0 for missing in self._missing):
            jobs = list(self._random_jobs(env.num_envs))
            for tally in self._store(self._play_random(env, jobs) if jobs else []):
                self._count_random(tally)
            between()

    def visit(self, env: VectorEnv, agent: Agent) -> int:
        """Play the next visit and keep it; how many decisions were kept."""
        return self.keep(self.play(env, agent))

    def play(self, env: VectorEnv, agent: Agent) -> list[Played]:
        """The next visit, not yet kept: trials on a few tasks, each of prior, then posterior episodes.

        A task gets one trial, and where episodes end early another one, and so on, until it has made at
        least half of the decisions that a trial can have; at most MOST_TRIALS.
        """
        train = self.config.train
        chosen = self._visited(env.num_envs)
        tasks = [self.family.train_tasks[index] for index in chosen]
        most = (train.prior_episodes + train.posterior_episodes) * self.family.episode_steps
        made = dict.fromkeys(chosen, 0)
        numbers = list(self._episodes)
        played: list[Played] = []
        for _ in range(MOST_TRIALS):
            if not tasks:
                break
            trials = self._play_trials(env, agent, tasks, numbers)
            for entry in trials:
                made[entry.task.index] += entry.decisions
            played += trials
            tasks = [task for task in tasks if 2 * made[task.index] < most]
        return played

    def keep(self, visit: Sequence[Played]) -> int:
        """Store and count a visit that was played; how many decisions were kept, by all ranks together."""
        self.visits += 1
        tallies = self._store(visit)
        for tally in tallies:
            self._count(tally)
        self.replay.settle()
        return sum(tally.decisions for tally in tallies)

    def _random_jobs(self, most: int) -> Iterator[Task]:
        """The next random episodes of this rank's tasks, at most so many.

        Of every task those that it needs even if none of them ends early, so that what is played in the
        end does not depend on how many are played at once.
        """
        for task in (self.family.train_tasks[index] for index in self._shard.indices):
            for _ in range(-(-self._missing[task.index] // self.family.episode_steps)):
                if not most:
                    return
                most -= 1
                yield task

    def _play_random(self, env: VectorEnv, jobs: Sequence[Task]) -> list[Played]:
        numbers = list(self._episodes)
        keys = filled([self._key(task, numbers) for task in jobs], env.num_envs)
        slots, hold = filled(jobs, env.num_envs), self.config.train.random_hold
        episodes = run_random(env, slots, keys, self.family.action_size, hold)
        return [Played(task, episode, context=True) for task, episode in zip(jobs, episodes, strict=False)]

    def _visited(self, worlds: int) -> list[int]:
        """The tasks of the next visit that are this rank's: as many as there are worlds, where it is alone.

        They are drawn from one generator, rank by rank.
        """
        shard, train = self._shard, self.config.train
        rng = rng_of(train.seed, VISIT_STREAM, self.visits)
        total = worlds if shard.ranks.size == 1 else train.tasks_per_visit
        drawn = [
            rng.choice(shard.of(rank), count, replace=False).tolist()
            for rank, count in enumerate(shard.visited(total, self.visits))
        ]
        own: list[int] = drawn[shard.ranks.rank]
        return own

    def _count_random(self, tally: Tally) -> None:
        self._count(tally)
        task = tally.task
        self._missing[task] -= tally.decisions
        self._failures[task] = 0 if tally.decisions else self._failures[task] + 1
        if self._failures[task] == MOST_FAILURES:
            raise MetaslacError(
                f"{self.family.name} task {task}: {MOST_FAILURES} random episodes in a row diverged in "
                "their first step or were lost"
            )

    def _play_trials(
        self, env: VectorEnv, agent: Agent, tasks: Sequence[Task], numbers: list[int]
    ) -> list[Played]:
        """One trial on each task; they may be fewer than the worlds. `numbers` is as for _key."""
        train = self.config.train
        keys = [
            filled([self._key(task, numbers) for task in tasks], env.num_envs)
            for _ in range(train.prior_episodes + train.posterior_episodes)
        ]
        drawing = Drawing(train.redraw_every)
        slots = filled(tasks, env.num_envs)
        trials = run_trial(env, agent, slots, keys, train.prior_episodes, drawing=drawing)
        pooled = train.prior_episodes + (train.posterior_episodes if train.posterior_context else 0)
        return [
            Played(task, entry.episode, number < pooled)
            for task, trial in zip(tasks, trials, strict=False)
            for number, entry in enumerate(trial)
        ]

    def _store(self, played: Sequence[Played]) -> list[Tally]:
        """Store training episodes but for lost ones; what is to be counted of all ranks'."""
        for task, episode, context in played:
            if not episode.lost:
                self.replay.add(self._shard.number(task.index), episode, context)
        told = self._shard.ranks.tell([entry.tally() for entry in played])
        return [Tally(*tally) for tallies in told for tally in tallies]

    def _count(self, tally: Tally) -> None:
        self._episodes[tally.task] += 1
        self.env_steps += tally.control_steps
        self.diverged_episodes += tally.diverged
        self.lost_episodes += tally.lost

    def _key(self, task: Task, numbers: list[int]) -> Key:
        """The key of the task's next training episode, which `numbers` then counts."""
        episode = numbers[task.index]
        numbers[task.index] += 1
        return self.config.train.seed, COLLECTION_STREAM, task.index, episode
