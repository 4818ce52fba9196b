"""Pictures of agents that see none themselves, for people to watch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from metaslac.acting.rollout import VectorEnv


class DrawnVectorEnv(VectorEnv, Protocol):
    """A vector environment whose worlds can be drawn, each as uint8 (H, W, 3)."""

    def render(self) -> Any: ...


def watched(env: DrawnVectorEnv, observation: str) -> VectorEnv:
    """`env`, whose episodes have pictures to show, also where its observation is the state."""
    return env if observation == "pixels" else Filmed(env)


class Filmed:
    """A vector environment whose infos have "picture", uint8 (N, H, W, 3), of every world.

    Args:
        env: whose worlds are drawn after every reset and step; it is not closed here.
    """

    def __init__(self, env: DrawnVectorEnv) -> None:
        self.num_envs = env.num_envs
        self._env = env

    def reset(self, *, seed: list[int], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """As of the environment."""
        frames, info = self._env.reset(seed=seed, options=options)
        return frames, self._with_picture(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As of the environment."""
        frames, rewards, terminated, truncated, info = self._env.step(actions)
        return frames, rewards, terminated, truncated, self._with_picture(info)

    def _with_picture(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "picture": np.stack(self._env.render())}
