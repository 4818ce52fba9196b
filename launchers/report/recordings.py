"""One trained agent at work, for pictures: its trials, what its model sees of them, how it explores.

How pictures are put together is in films.py; what the model sees is metaslac/evidence/reconstruction.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaslac.acting.adaptation import mean_width
from metaslac.acting.agent import networks_from_checkpoint
from metaslac.acting.filmed import watched
from metaslac.acting.inference import Drawing
from metaslac.acting.rollout import TrialEpisode, play, rng_of, run_trial
from metaslac.envs import make_vector_env
from metaslac.evidence import reconstruction
from metaslac.evidence.reconstruction import RECONSTRUCTION_STREAM, Sheet
from metaslac.launchers.api.trained import Trained
from metaslac.storage.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from metaslac.acting.adaptation import Given
    from metaslac.envs import Task
    from metaslac.launchers.media.filming import Filming

EXPLORATION_STREAM = 9
BACKGROUND_FRAMES = 400  # are enough to tell what stays

Frames = NDArray[np.uint8]


class Trial(NamedTuple):
    """A trial on one task, and the task variable of its last episode."""

    task: Task
    episodes: Sequence[TrialEpisode]
    m: NDArray[np.float32]  # (M,)

    @property
    def beliefs(self) -> NDArray[np.float32]:
        """Mean of m before the first step and after each, (number of steps + 1, M)."""
        first = self.episodes[0].belief_mean[:1]
        return np.concatenate([first, *(entry.step_means for entry in self.episodes)])

    @property
    def width(self) -> NDArray[np.float32]:
        """Likewise its standard deviation, averaged over m's dimensions."""
        first = self.episodes[0].belief_std[:1]
        return mean_width(np.concatenate([first, *(entry.step_stds for entry in self.episodes)]))


class Sample(NamedTuple):
    """One first episode, m drawn from the prior."""

    frames: Frames  # (T + 1, H, W, 3)
    first_action: NDArray[np.float32]  # (A,)
    episode_return: float


def record(
    trained: Trained,
    tasks: Sequence[Task],
    *,
    episodes: int,
    exploration: int,
    drawing: Drawing,
    seed: int,
    stream: int,
    filming: Filming,
    given: Given | None = None,
) -> list[Trial]:
    """The first trial of an evaluation with the same seed and stream on each task, up to rounding.

    `given` is as of adapt.
    """
    shown = None if given is None else [given(task, 0) for task in tasks]
    keys = [[(seed, stream, task.index, 0, episode) for task in tasks] for episode in range(episodes)]
    with (
        closing(make_vector_env(trained.family, len(tasks), trained.threads)) as worlds,
        filming.on(worlds, trained.family, tasks) as filmed,
    ):
        env = watched(filmed, trained.family.observation)
        greedy = not trained.config.evaluation.sample_actions
        trials = run_trial(
            env,
            trained.agent,
            tasks,
            keys,
            exploration,
            greedy,
            keep_beliefs=True,
            drawing=drawing,
            given=shown,
        )
    m = trained.agent.m.cpu().numpy()
    return [Trial(*parts) for parts in zip(tasks, trials, m, strict=True)]


def reconstructed(checkpoint: Path, trained: Trained, trial: Trial, *, shown: int, seed: int) -> Sheet | None:
    """The beginning of a trial's last episode: truth, posterior, and prior from the first window on.

    Shows at most `shown` frames, evenly spaced; nothing of networks without a latent model.
    """
    saved = load_checkpoint(checkpoint)
    networks = networks_from_checkpoint(saved, saved.path, trained.agent.device)
    if networks.latent_model is None:
        return None  # of agents on states, too
    episode, rng = trial.episodes[-1].episode, rng_of(seed, RECONSTRUCTION_STREAM, trial.task.index)
    window = trained.config.model.window
    return reconstruction.reconstructed(networks, episode, trial.m, window=window, shown=shown, rng=rng)


def explore(trained: Trained, task: Task, samples: int, seed: int) -> list[Sample]:
    """First episodes of one task from one start state, each with an m of its own from the prior."""
    agent = trained.agent
    # Counted from 1: a key that ends in 0 is the one without it, of the start.
    rngs = [rng_of(seed, EXPLORATION_STREAM, task.index, sample + 1) for sample in range(samples)]
    start = int(rng_of(seed, EXPLORATION_STREAM, task.index).integers(2**31))
    first: list[NDArray[np.float32]] = []

    def act() -> NDArray[np.float32]:
        actions = agent.act(deterministic=True)
        if not first:
            first.append(actions)
        return actions

    with closing(make_vector_env(trained.family, samples, trained.threads)) as worlds:
        env = watched(worlds, trained.family.observation)
        frames, info = env.reset(seed=[start] * samples, options={"task": [task.index] * samples})
        agent.begin_task(samples, np.array([task.params] * samples))
        agent.begin_episode(np.asarray(frames), rngs, explore=True)
        episodes = play(env, np.asarray(frames), act, agent.observe, info)
    return [
        Sample(episode.pictures, action, float(episode.rewards.sum(dtype=np.float64)))
        for episode, action in zip(episodes, first[0], strict=True)
    ]


def first_action_spread(samples: Sequence[Sample]) -> float:
    """Standard deviation over samples of the first action, averaged over its dimensions; at most 1."""
    actions = np.stack([sample.first_action for sample in samples])
    return float(actions.std(0).mean())


def long_exposure(frames: Frames, background: Frames) -> Frames:
    """One picture (H, W, 3) of all that moved in frames (T, H, W, 3).

    Each pixel is of the moment at which it is least like the background. Light and dark bodies both show,
    unlike in a maximum.
    """
    difference = np.abs(frames.astype(np.int16) - background).sum(-1)  # (T, H, W)
    moment = difference.argmax(0)[None, :, :, None]
    exposed: Frames = np.take_along_axis(frames, moment, 0)[0]
    return exposed


def background_of(episodes: Sequence[Frames]) -> Frames:
    """What is there most of the time over many episodes (T, H, W, 3): a picture (H, W, 3).

    They should begin in different states, or where they all begin counts as background.
    """
    every = max(1, sum(map(len, episodes)) // BACKGROUND_FRAMES)
    frames = np.concatenate([episode[::every] for episode in episodes])
    median: Frames = np.median(frames, axis=0).astype(np.uint8)
    return median
