"""Families of gymnasium's environments, whoever wrote them: the class to derive one from.

How such environments are seeded, stepped and drawn is in worlds/kinds/of_gymnasium.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metaslac.envs.arrays import Array, Frames
from metaslac.envs.errors import FamilyError
from metaslac.envs.family import Family, Task

STEPS_PER_SECOND = 30  # of environments that do not say what theirs are; films are shown at this rate


class GymnasiumFamily(Family):
    """A family whose tasks are told to an environment of gymnasium's, when it is made or when it is reset.

    A subclass sets `name`, `param_names`, `horizon` and `env_id`, gives the task lists and says in
    `env_kwargs` or `reset_options` what a task is; the other hooks have defaults. Actions are the agent's, in
    [-1, 1], stretched to the environment's bounds; sizes are the environment's. An episode begins with
    `env.reset(seed=...)`, from which all its chance must come. It is truncated at the horizon, or earlier by
    the environment, and terminated by the environment alone.

    Args:
        image_size, action_repeat, observation, frames: as for every family.

    Raises:
        FamilyError: an option is out of its range, or the environment is of no kind that can be played.
    """

    env_id: str = ""  # gymnasium's; or override make_env
    render_mode: str | None = "rgb_array"  # that `env_id` is made with; None where observations are pictures
    control_seconds: float  # that a step takes; the environment's

    def __init__(
        self, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels", frames: int = 1
    ) -> None:
        super().__init__(image_size, action_repeat, observation, frames)
        env = self.make(self.train_tasks[0])
        try:
            self.action_size = len(action_bounds(self.name, env.action_space)[0])
            self.state_size = self._size_of_state(env)
            rate = env.metadata.get("render_fps") or STEPS_PER_SECOND
            self.control_seconds = 1.0 / float(rate)
            limit = env.spec.max_episode_steps if env.spec is not None else None
        finally:
            env.close()
        if limit is not None and limit < self.horizon:
            raise FamilyError(
                f"{self.name}: the horizon is {self.horizon}, but its environment ends after {limit}"
            )
        if observation == "state" and not self.state_size:
            raise FamilyError(f"{self.name}: its observations are pictures, so there is no state to observe")

    def make_env(self, **kwargs: Any) -> gymnasium.Env[Any, Any]:
        """An environment. Default: `gymnasium.make(env_id, render_mode=render_mode, **kwargs)`.

        Args:
            kwargs: what env_kwargs gave for the task to be played first.
        """
        if not self.env_id:
            raise FamilyError(f"{self.name}: set env_id to an id of gymnasium's, or override make_env")
        made: gymnasium.Env[Any, Any] = gymnasium.make(
            self.env_id, render_mode=self.render_mode, disable_env_checker=True, **kwargs
        )
        return made

    def env_kwargs(self, task: Task) -> Mapping[str, Any]:
        """What make_env gets for a task; where it is not empty, each task has environments of its own."""
        return {}

    def reset_options(self, task: Task) -> dict[str, Any] | None:
        """The `options` of every `env.reset` for a task. Default: none."""
        return None

    def picture(self, env: gymnasium.Env[Any, Any], observation: Any) -> Frames:
        """What the agent sees, uint8 (H, W, 3) of any size; it is scaled to the square that was asked for.

        Default: the observation where that is such a picture, else `env.render()`. Nothing in it may give
        the task away.
        """
        if is_picture(env.observation_space):
            shown: Frames = observation
        else:
            shown = env.render()  # type: ignore[assignment]
        return shown

    def state_observation(self, env: gymnasium.Env[Any, Any], observation: Any) -> Array:
        """The state observation (state_size,). Default: the observation as gymnasium flattens it.

        Set `state_size` as well where this is overridden.
        """
        return np.asarray(spaces.flatten(env.observation_space, observation), dtype=np.float64)

    def make(self, task: Task) -> gymnasium.Env[Any, Any]:
        """An environment to play a task in; raises FamilyError if it is none of gymnasium's."""
        env: Any = self.make_env(**self.env_kwargs(task))
        if not isinstance(env, gymnasium.Env):
            raise FamilyError(f"{self.name}: make_env gives a {type(env).__name__} and no gymnasium.Env")
        return env

    def _size_of_state(self, env: gymnasium.Env[Any, Any]) -> int:
        declared: int | None = getattr(type(self), "state_size", None)
        if declared is not None:
            return declared
        if is_picture(env.observation_space):
            return 0
        try:
            return spaces.flatdim(env.observation_space)
        except (NotImplementedError, ValueError) as error:
            raise FamilyError(
                f"{self.name}: observations {env.observation_space} have no fixed size; set state_size and "
                "override state_observation"
            ) from error


def is_picture(space: spaces.Space[Any]) -> bool:
    """Whether what is observed is a picture, uint8 (H, W, 3)."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and space.shape[2:] == (3,)


def action_bounds(name: str, space: spaces.Space[Any]) -> tuple[Array, Array]:
    """The lowest and highest actions (A,) of an environment; raises FamilyError where they are none."""
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise FamilyError(f"{name}: actions must be continuous, a Box of floats; {space} is not supported")
    low, high = (np.asarray(bound, dtype=np.float64).ravel() for bound in (space.low, space.high))
    if not len(low) or not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise FamilyError(f"{name}: every action needs finite bounds, to stretch [-1, 1] to; it has {space}")
    return low, high
