"""Collection: random episodes at the start of a run, then visits to a few tasks at a time, all into replay.

When a visit is due and what is learned between them is decided in online.py; ahead.py plays visits in the
background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from metaslac.acting.agent import Agent, Drawing
from metaslac.acting.rollout import Key, Task, VectorEnv, rng_of, run_random, run_trial
from metaslac.config.limits import random_decisions
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.replay.experience import Episode
from metaslac.replay.task_replay import TaskReplay

COLLECTION_STREAM = 0
VISIT_STREAM = 3

MOST_TRIALS = 8  # on a task in one visit
MOST_FAILURES = 20  # random episodes of a task, one after the other, of which nothing can be kept

Item = TypeVar("Item")


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


class Collector:
    """Plays training tasks, stores and counts what was played.

    Episodes have generators of their own, keyed by task and number: what is played does not depend on
    how it is spread over worlds, and the counters are all the state there is.
    """

    def __init__(self, config: Config, family: CollectedFamily, replay: TaskReplay) -> None:
        self.config = config
        self.family = family
        self.replay = replay
        self.env_steps = 0
        self.diverged_episodes = 0
        self.lost_episodes = 0
        self.visits = 0
        tasks = len(family.train_tasks)
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
        while jobs := list(self._random_jobs(env.num_envs)):
            numbers = list(self._episodes)
            keys = filled([self._key(task, numbers) for task in jobs], env.num_envs)
            slots, hold = filled(jobs, env.num_envs), self.config.train.random_hold
            episodes = run_random(env, slots, keys, self.family.action_size, hold)
            for task, episode in zip(jobs, episodes, strict=False):
                self._take_random(Played(task, episode, context=True))
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
        rng = rng_of(train.seed, VISIT_STREAM, self.visits)
        chosen = rng.choice(len(self.family.train_tasks), env.num_envs, replace=False)
        tasks = [self.family.train_tasks[index] for index in chosen]
        most = (train.prior_episodes + train.posterior_episodes) * self.family.episode_steps
        made = dict.fromkeys(chosen.tolist(), 0)
        numbers = list(self._episodes)
        played: list[Played] = []
        for _ in range(MOST_TRIALS):
            trials = self._play_trials(env, agent, tasks, numbers)
            for entry in trials:
                made[entry.task.index] += entry.decisions
            played += trials
            tasks = [task for task in tasks if 2 * made[task.index] < most]
            if not tasks:
                break
        return played

    def keep(self, visit: Sequence[Played]) -> int:
        """Store and count a visit that was played; how many decisions were kept."""
        self.visits += 1
        for played in visit:
            self._keep(played)
        return sum(played.decisions for played in visit)

    def _random_jobs(self, most: int) -> Iterator[Task]:
        """The next random episodes, at most so many.

        Of every task those that it needs even if none of them ends early, so that what is played in the
        end does not depend on how many are played at once.
        """
        for task in self.family.train_tasks:
            for _ in range(-(-self._missing[task.index] // self.family.episode_steps)):
                if not most:
                    return
                most -= 1
                yield task

    def _take_random(self, played: Played) -> None:
        self._keep(played)
        task = played.task.index
        self._missing[task] -= played.decisions
        self._failures[task] = 0 if played.decisions else self._failures[task] + 1
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

    def _keep(self, played: Played) -> None:
        """Store and count a training episode. A lost one is only counted."""
        task, episode, context = played
        self._episodes[task.index] += 1
        self.env_steps += episode.control_steps
        self.diverged_episodes += episode.diverged
        self.lost_episodes += episode.lost
        if not episode.lost:
            self.replay.add(task.index, episode, context)

    def _key(self, task: Task, numbers: list[int]) -> Key:
        """The key of the task's next training episode, which `numbers` then counts."""
        episode = numbers[task.index]
        numbers[task.index] += 1
        return self.config.train.seed, COLLECTION_STREAM, task.index, episode


def filled(jobs: Sequence[Item], size: int) -> list[Item]:
    """`jobs`, and the first of them again for every slot left over; those are played and dropped."""
    return [*jobs, *[jobs[0]] * (size - len(jobs))]
