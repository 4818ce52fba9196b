"""One picture of what a trained agent does and sees: the end of a trial, above what its model makes of it.

The statistics of an agent are evaluation.py's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metaslac.acting.adaptation import ADAPTATION_STREAM
from metaslac.acting.agent import Agent
from metaslac.acting.inference import Drawing
from metaslac.acting.rollout import Task, VectorEnv, rng_of, run_trial
from metaslac.config.sections import Config
from metaslac.evidence.reconstruction import RECONSTRUCTION_STREAM, reconstructed
from metaslac.networks.meta_slac import MetaSLAC

MOMENTS = 12  # frames beside each other


def last_episode(
    agent: Agent, networks: MetaSLAC, env: VectorEnv, task: Task, config: Config
) -> NDArray[np.uint8] | None:
    """The beginning of the last episode of a trial on a task, uint8 (3 H, MOMENTS W, 3) or less wide.

    Rows: what was seen, the latent model's posterior and its prior, as of `reconstructed`; the first alone
    without a latent model. None of agents that see no pixels. The trial is the first of `adapt`.
    """
    if config.on_states:
        return None
    evaluation, seed = config.evaluation, config.train.seed
    keys = [
        [(seed, ADAPTATION_STREAM, task.index, 0, episode)] * env.num_envs
        for episode in range(evaluation.episodes)
    ]
    trials = run_trial(
        env,
        agent,
        [task] * env.num_envs,
        keys,
        evaluation.exploration_episodes,
        deterministic=not evaluation.sample_actions,
        drawing=Drawing(evaluation.redraw_every, evaluation.mean_below),
    )
    episode = trials[0][-1].episode
    if networks.latent_model is None:
        steps = np.unique(np.linspace(0, len(episode.frames) - 1, MOMENTS).round().astype(int))
        return _beside(episode.pictures[steps])
    rng = rng_of(seed, RECONSTRUCTION_STREAM, task.index)
    m = agent.m[0].cpu().numpy()
    sheet = reconstructed(networks, episode, m, window=config.model.window, shown=MOMENTS, rng=rng)
    return np.concatenate([_beside(row) for row in (sheet.truth, sheet.posterior, sheet.prior)])


def _beside(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (F, H, W, 3) as one picture (H, F W, 3)."""
    return np.concatenate(list(frames), axis=1)
