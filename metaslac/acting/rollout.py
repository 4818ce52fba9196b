"""Trials: one agent playing several episodes of many tasks side by side in a vector environment.

Collection, adaptation and evaluation are all trials; they differ in what is kept of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaslac.acting.agent import Agent, Frames
from metaslac.acting.inference import ONCE, Drawing
from metaslac.replay.experience import Episode

Item = TypeVar("Item")


class Task(Protocol):
    """What is needed of a task: its index in its family and its true parameters."""

    @property
    def index(self) -> int: ...
    @property
    def params(self) -> Sequence[float]: ...


class VectorEnv(Protocol):
    """What is needed of an environment: gymnasium's VectorEnv with autoreset disabled.

    A step's info has "control_steps" (N,), the control steps that were made of it: the whole of an action
    repeat, what there was of it before the episode's end, none after that. Where simulations failed in
    this step it has "diverged" (N,), which ones: their episode is over, and the step did not happen. The
    same goes for "lost" (N,), where a worker died or hung and was replaced. An environment whose rewards
    are sparse may put "dense_reward" (N,) there: it is what training learns from, and nothing that acts
    ever sees it. The same goes for "state" (N, S), there and in reset's info: the simulator's, for critics;
    and for "picture", uint8 (N, H, W, 3), for people to watch agents that see none.
    """

    num_envs: int

    def reset(self, *, seed: list[int], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]: ...
    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]: ...


class Interruptible:
    """An environment that asks before every step whether to go on."""

    def __init__(self, env: VectorEnv, between: Callable[[], None]) -> None:
        self.num_envs = env.num_envs
        self._env = env
        self._between = between

    def reset(self, *, seed: list[int], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """As of the environment."""
        self._between()
        return self._env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As of the environment."""
        self._between()
        return self._env.step(actions)


class TrialEpisode(NamedTuple):
    """One episode of a trial, with the belief (mean and std) as it stood before and after it, (2, M)."""

    episode: Episode
    belief_mean: NDArray[np.float32]
    belief_std: NDArray[np.float32]
    step_means: NDArray[np.float32]  # (T, M) after each step, if asked for; else (0, M)
    step_stds: NDArray[np.float32]  # likewise

    @property
    def episode_return(self) -> float:
        """Sum of the episode's rewards; not a number if it diverged or was lost before its end."""
        broken = self.episode.diverged or self.episode.lost
        return math.nan if broken else float(self.episode.rewards.sum(dtype=np.float64))


Key = tuple[int, ...]


def rng_of(*key: int) -> np.random.Generator:
    """The generator of a key such as (seed, stream, task, episode): equal keys, equal numbers."""
    return np.random.default_rng(np.random.SeedSequence(key))


def run_trial(
    env: VectorEnv,
    agent: Agent,
    tasks: Sequence[Task],
    keys: Sequence[Sequence[Key]],
    exploration_episodes: int,
    deterministic: bool = False,
    keep_beliefs: bool = False,
    drawing: Drawing = ONCE,
    given: Sequence[Sequence[Episode]] | None = None,
) -> list[list[TrialEpisode]]:
    """Play len(keys) episodes in a row on every task, the belief carried from one to the next.

    `keys[e][i]` names the generator of slot i's episode e, which draws the start state, m and the
    action noise. The first `exploration_episodes` act on m ~ N(0, I), later ones on a sample of
    the belief over the whole trial so far; within an episode, m is drawn anew as `drawing` says. Beliefs
    within an episode are there with `keep_beliefs`. With episodes `given` for each slot, played by somebody
    else, the belief takes them in before the trial.
    Returns the episodes of each slot, in order.
    """
    agent.begin_task(len(tasks), np.array([task.params for task in tasks]))
    if given is not None:
        agent.take_in([[(e.frames, e.actions, e.rewards) for e in episodes] for episodes in given])
    beliefs = [agent.belief]
    trials: list[list[TrialEpisode]] = [[] for _ in tasks]
    for number, episode_keys in enumerate(keys):
        rngs = [rng_of(*key) for key in episode_keys]

        def act() -> NDArray[np.float32]:
            return agent.act(deterministic)

        steps: list[NDArray[np.float32]] = []  # (2, N, M): mean and std

        def observe(*seen: Any, steps: list[NDArray[np.float32]] = steps) -> None:
            agent.observe(*seen)
            if keep_beliefs:
                steps.append(np.stack([part.cpu().numpy() for part in agent.belief]))

        frames, info = reset(env, tasks, rngs)
        agent.begin_episode(frames, rngs, number < exploration_episodes, drawing)
        episodes = play(env, frames, act, observe, info)
        beliefs = [beliefs[-1], agent.belief]
        mean, std = (
            np.stack([part.cpu().numpy() for part in parts], 1) for parts in zip(*beliefs, strict=True)
        )
        for slot, episode in enumerate(episodes):
            kept = [parts[:, slot] for parts in steps[: len(episode.actions)]]
            within = np.array(kept, dtype=np.float32).reshape(len(kept), 2, agent.task_size)
            trials[slot].append(TrialEpisode(episode, mean[slot], std[slot], within[:, 0], within[:, 1]))
    return trials


def filled(jobs: Sequence[Item], slots: int) -> list[Item]:
    """`jobs`, and the first of them again for every slot left over; what comes of those is dropped."""
    return [*jobs, *[jobs[0]] * (slots - len(jobs))]


def run_random(
    env: VectorEnv, tasks: Sequence[Task], keys: Sequence[Key], action_size: int, hold: int = 1
) -> list[Episode]:
    """One episode of uniform random actions on every task, each action held for `hold` steps."""
    rngs = [rng_of(*key) for key in keys]

    def actions() -> Iterator[NDArray[np.float32]]:
        while True:
            action = np.stack([rng.uniform(-1, 1, action_size) for rng in rngs]).astype(np.float32)
            yield from itertools.repeat(action, hold)

    frames, info = reset(env, tasks, rngs)
    return play(env, frames, actions().__next__, None, info)


def reset(
    env: VectorEnv, tasks: Sequence[Task], rngs: Sequence[np.random.Generator]
) -> tuple[Frames, dict[str, Any]]:
    """Start each slot's task from a state that its generator decides.

    Returns the first frames, as Agent.begin_episode takes them, and the environment's info.
    """
    seeds = [int(rng.integers(2**31)) for rng in rngs]
    frames, info = env.reset(seed=seeds, options={"task": [task.index for task in tasks]})
    return np.asarray(frames), info


def play(
    env: VectorEnv,
    first: Frames,
    act: Callable[[], NDArray[np.float32]],
    observe: Callable[..., None] | None,
    first_info: Mapping[str, Any],
) -> list[Episode]:
    """Step until every slot's episode is over; slots that end early wait for the others.

    An episode whose simulation diverges or is lost ends before that step, which is not observed either.
    States (N, S) and pictures are kept if the reset's info has some, and are shown to nobody who acts.
    """
    beside = {name: [first_info[name]] for name in ("state", "picture") if name in first_info}
    frames, actions, rewards, dense_rewards = [first], [], [], []
    active = np.ones(len(first), dtype=bool)
    lengths, control_steps = (np.zeros(len(first), dtype=int) for _ in range(2))
    terminated, diverged, lost = (np.zeros(len(first), dtype=bool) for _ in range(3))
    while active.any():
        action = act()
        frame, reward, ended, truncated, info = env.step(action)
        control_steps += info["control_steps"]
        diverged |= active & info.get("diverged", False)
        lost |= active & info.get("lost", False)
        active &= ~(diverged | lost)
        if observe is not None:
            observe(action, reward, frame, active)
        frames.append(frame)
        for name, values in beside.items():
            values.append(info[name])
        actions.append(action)
        rewards.append(reward)
        dense_rewards.append(info.get("dense_reward", reward))
        lengths += active
        terminated |= active & ended
        active &= ~(ended | truncated)
    observed, acted = np.stack(frames, 1), np.stack(actions, 1)
    kept = {name: np.stack(values, 1) for name, values in beside.items()}
    states, film = kept.get("state"), kept.get("picture")
    received, dense = (np.stack(parts, 1).astype(np.float32) for parts in (rewards, dense_rewards))
    return [
        Episode(
            observed[i, : n + 1],
            acted[i, :n],
            received[i, :n],
            dense[i, :n],
            bool(terminated[i]),
            bool(diverged[i]),
            int(control_steps[i]),
            bool(lost[i]),
            None if states is None else states[i, : n + 1].astype(np.float32),
            None if film is None else film[i, : n + 1],
        )
        for i, n in enumerate(lengths)
    ]
