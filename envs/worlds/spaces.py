"""What gymnasium is told of a family: its spaces, and how long an episode is."""

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from metaslac.envs.family import Family


def spaces(family: Family) -> tuple[gymnasium.spaces.Box[Any], gymnasium.spaces.Box[Any]]:
    """The spaces of one observation and of one action, [-1, 1]^A.

    An observation is uint8 (H, W, 3), with several frames (frames, H, W, 3), or a state float64 (S,).
    """
    box = gymnasium.spaces.Box
    size = family.image_size
    if family.observation == "pixels":
        stacked = (family.frames,) if family.frames > 1 else ()
        observed = box(0, 255, (*stacked, size, size, 3), np.uint8)
    else:
        observed = box(-np.inf, np.inf, (family.state_size,), np.float64)  # type: ignore[arg-type, assignment]
    return observed, box(-1.0, 1.0, (family.action_size,), np.float32)


def spec_of(family: Family, spec: EnvSpec | None) -> EnvSpec | None:
    """A copy of gymnasium's description of an environment that says how many decisions an episode has."""
    if spec is not None:
        spec = copy.copy(spec)
        spec.max_episode_steps = family.episode_steps
    return spec
