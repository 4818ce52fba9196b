"""Episodes to record: what an agent, or chance, plays on many tasks, one episode after the other.

Where they are written is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metaslac.acting.agent import Agent
from metaslac.acting.inference import ONCE, Drawing
from metaslac.acting.rollout import Key, Task, VectorEnv, filled, run_random, run_trial
from metaslac.replay.experience import Episode

RECORDING_STREAM = 11

Recorded = Iterator[tuple[Task, Episode]]
Job = tuple[Task, int]


def record_trials(
    agent: Agent,
    env: VectorEnv,
    tasks: Sequence[Task],
    *,
    episodes: int,
    trial_episodes: int = 2,
    exploration_episodes: int = 1,
    seed: int = 0,
    source: int = 0,
    deterministic: bool = False,
    drawing: Drawing = ONCE,
) -> Recorded:
    """`episodes` episodes on every task, in independent trials of `trial_episodes`; the last may be shorter.

    A trial is played as `adapt` plays one: the first `exploration_episodes` with m from the prior, later ones
    with m from the posterior of that trial so far. Actions are sampled unless `deterministic`. What is random
    in an episode depends on (seed, source, task, trial, episode) alone.
    """
    whole, rest = divmod(episodes, trial_episodes)
    lengths = [trial_episodes] * whole + [rest] * (rest > 0)
    for length in dict.fromkeys(lengths):
        trials = [number for number, other in enumerate(lengths) if other == length]
        for chunk, slots in _rounds([(task, trial) for trial in trials for task in tasks], env.num_envs):
            keys: list[list[Key]] = [
                [(seed, RECORDING_STREAM, source, task.index, trial, episode) for task, trial in slots]
                for episode in range(length)
            ]
            played = run_trial(
                env,
                agent,
                [task for task, _ in slots],
                keys,
                exploration_episodes,
                deterministic,
                drawing=drawing,
            )
            for (task, _), trial_played in zip(chunk, played, strict=False):
                yield from ((task, entry.episode) for entry in trial_played)


def record_random(
    env: VectorEnv, tasks: Sequence[Task], action_size: int, *, episodes: int, seed: int = 0, hold: int = 1
) -> Recorded:
    """`episodes` episodes of uniform random actions on every task, each action held for `hold` decisions."""
    jobs = [(task, episode) for episode in range(episodes) for task in tasks]
    for chunk, slots in _rounds(jobs, env.num_envs):
        keys = [(seed, RECORDING_STREAM, 0, task.index, episode) for task, episode in slots]
        played = run_random(env, [task for task, _ in slots], keys, action_size, hold)
        yield from zip([task for task, _ in chunk], played, strict=False)


def _rounds(jobs: Sequence[Job], worlds: int) -> Iterator[tuple[Sequence[Job], Sequence[Job]]]:
    """So many jobs at a time, and what every world plays: the first again where there are fewer."""
    for start in range(0, len(jobs), worlds):
        chunk = jobs[start : start + worlds]
        yield chunk, filled(chunk, worlds)
