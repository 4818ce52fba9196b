"""Adaptation: E episodes on tasks the agent has not met, from what those show, and what it is given of them.

The adapter has an agent and an environment. No replay is within its reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaslac.acting.agent import Agent
from metaslac.acting.inference import ONCE, Drawing
from metaslac.acting.rollout import Task, VectorEnv, filled, run_trial
from metaslac.config.validation import check_seed
from metaslac.ranks.ranks import Ranks
from metaslac.replay.experience import Episode

ADAPTATION_STREAM = 1  # of `adapt`, and of the returns that a run is watched by
# Of `evaluate`, whatever the tasks: one who picks a checkpoint by such returns picks its luck there as well.
EVALUATION_STREAM = 10


Given = Callable[[Task, int], Sequence[Episode]]  # for a task and a trial, episodes that others played


@dataclass(frozen=True)
class TaskAdaptation:
    """One trial on one task: every episode's return, and the belief before the first and after each."""

    task: Task
    trial: int
    returns: list[float]  # E
    belief_mean: NDArray[np.float32]  # (E + 1, M)
    belief_std: NDArray[np.float32]  # (E + 1, M)
    frames: list[NDArray[np.uint8]]  # pictures, E arrays (T + 1, H, W, 3), or nothing unless asked for
    # (number of steps + 1, M), before the first step and after each; likewise
    step_means: NDArray[np.float32]
    step_stds: NDArray[np.float32]

    @property
    def belief_width(self) -> NDArray[np.float32]:
        """The belief's standard deviation averaged over m's dimensions, (E + 1,); 0 where m has none."""
        return mean_width(self.belief_std)

    @property
    def step_width(self) -> NDArray[np.float32]:
        """The same after each step of the trial, (number of steps + 1,)."""
        return mean_width(self.step_stds)


def adapt(
    agent: Agent,
    env: VectorEnv,
    tasks: Sequence[Task],
    *,
    episodes: int,
    exploration_episodes: int = 1,
    trials: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    keep_frames: bool = False,
    keep_beliefs: bool = False,
    drawing: Drawing = ONCE,
    played: Callable[[int], object] = lambda trials: None,
    stream: int = ADAPTATION_STREAM,
    given: Given | None = None,
) -> list[TaskAdaptation]:
    """`trials` independent trials of `episodes` episodes on every task, task by task.

    Actions are the tanh of the policy's mean unless `deterministic` is off. What is random in an episode
    depends on (seed, stream, task, trial, episode) alone, not on slots or on other tasks. `drawing` says when
    m is drawn anew within an episode. `played` is told of so many more trials whenever some are over. `given`
    has, for a task and a trial, episodes that the belief takes in first.

    Raises MetaslacError for a seed that is out of range.
    """
    check_seed(seed)
    jobs = [(task, trial) for task in tasks for trial in range(trials)]
    results = []
    for start in range(0, len(jobs), env.num_envs):
        chunk = jobs[start : start + env.num_envs]
        slots = filled(chunk, env.num_envs)  # the last chunk may be short
        keys = [
            [(seed, stream, task.index, trial, episode) for task, trial in slots]
            for episode in range(episodes)
        ]
        trials_played = run_trial(
            env,
            agent,
            [task for task, _ in slots],
            keys,
            exploration_episodes,
            deterministic,
            keep_beliefs,
            drawing,
            None if given is None else [given(*slot) for slot in slots],
        )
        for (task, trial), trial_episodes in zip(chunk, trials_played, strict=False):
            means = [entry.belief_mean for entry in trial_episodes]
            stds = [entry.belief_std for entry in trial_episodes]
            results.append(
                TaskAdaptation(
                    task,
                    trial,
                    [entry.episode_return for entry in trial_episodes],
                    np.stack([means[0][0], *(mean[1] for mean in means)]),
                    np.stack([stds[0][0], *(std[1] for std in stds)]),
                    [entry.episode.pictures for entry in trial_episodes] if keep_frames else [],
                    np.concatenate([means[0][:1], *(entry.step_means for entry in trial_episodes)]),
                    np.concatenate([stds[0][:1], *(entry.step_stds for entry in trial_episodes)]),
                )
            )
        played(len(chunk))
    return results


def of_all(own: Sequence[TaskAdaptation], tasks: Sequence[Task], ranks: Ranks) -> list[TaskAdaptation]:
    """Every rank's adaptations to its own of these tasks, as `dealt` deals them, task by task; no frames."""
    if ranks.size == 1:
        return list(own)
    told = ranks.tell(
        [[entry.trial, entry.returns, entry.belief_mean.tolist(), entry.belief_std.tolist()] for entry in own]
    )
    nothing = np.zeros((0, 0), dtype=np.float32)
    place = {task.index: number for number, task in enumerate(tasks)}
    found = []
    for rank, entries in enumerate(told):
        trials = len(entries) // max(len(tasks[rank :: ranks.size]), 1)
        for number, (trial, returns, mean, std) in enumerate(entries):
            task = tasks[rank + number // trials * ranks.size]
            means, stds = (
                np.array(part, dtype=np.float32).reshape(len(returns) + 1, -1) for part in (mean, std)
            )
            found.append(TaskAdaptation(task, trial, returns, means, stds, [], nothing, nothing))
    return sorted(found, key=lambda entry: place[entry.task.index])


def mean_width(stds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations (N, M) averaged over m's dimensions, (N,); 0 where m has none."""
    width: NDArray[np.float32] = stds.sum(1) / max(stds.shape[1], 1)
    return width


def slots_for(jobs: int, worlds: int) -> int:
    """Environments to step side by side for so many jobs: at most `worlds`, in rounds as even as can be."""
    rounds = -(-jobs // worlds)
    return -(-jobs // rounds)
