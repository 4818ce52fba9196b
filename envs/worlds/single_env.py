"""One world of a family as a plain gymnasium environment.

It is a vector environment of one world; many are vector_env.py.
"""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metaslac.envs.arrays import Array, Frames
from metaslac.envs.errors import FamilyError
from metaslac.envs.family import Family
from metaslac.envs.registry import make_family
from metaslac.envs.worlds.arguments import numbers
from metaslac.envs.worlds.live import refuse_to_be_copied
from metaslac.envs.worlds.spaces import spaces, spec_of
from metaslac.envs.worlds.vector_env import Observations, TaskVectorEnv


class TaskEnv(gymnasium.Env[Any, Any]):
    """One world of a family as a plain gymnasium environment: `gymnasium.make("metaslac/CheetahVel-v0")`.

    Args:
        family: a family or its name.
        image_size, action_repeat, observation, frames: as for make_family; left alone if `family` is not a
            name.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}
    _spec: EnvSpec | None = None
    __reduce_ex__ = refuse_to_be_copied

    def __init__(
        self,
        family: str | Family,
        image_size: int = 64,
        action_repeat: int = 1,
        observation: str = "pixels",
        render_mode: str | None = None,
        frames: int = 1,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise FamilyError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        if isinstance(family, str):
            family = make_family(family, image_size, action_repeat, observation, frames)
        self.family = family
        self.observation_space, self.action_space = spaces(self.family)
        self.render_mode = render_mode
        self._world = TaskVectorEnv(self.family, 1, threads=1)
        self.metadata = {**self.metadata, "render_fps": self._world.metadata["render_fps"]}

    @property
    def spec(self) -> EnvSpec | None:
        """gymnasium's description, whose max_episode_steps are the decisions of an episode."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec_of(self.family, spec)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode of `options["task"]`, or else of a training task drawn from the generator.

        Returns:
            frame uint8 (H, W, 3), of several frames (frames, H, W, 3), or state float64 (S,), and
            {"task": index of the task}.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        task = options.pop("task", None)
        if options:
            raise FamilyError(f"unknown reset options {sorted(options)}; there is 'task'")
        chosen = {} if task is None else {"task": task}
        observations, _ = self._world.reset(seed=[self.np_random], options=chosen)
        played = self._world.tasks[0]
        assert played is not None
        return observations[0], {"task": played.index}

    def step(self, action: Array) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """As TaskVectorEnv.step, for an action (A,); what the info holds are numbers."""
        action = numbers(action)
        if action.shape != (self.family.action_size,):
            raise FamilyError(f"action must have shape {(self.family.action_size,)}, got {action.shape}")
        observations, rewards, terminated, truncated, info = self._world.step(action[None])
        info = {name: values[0].item() for name, values in info.items()}
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Frames | None:
        """The current frame uint8 (H, W, 3), or None without a render mode."""
        return self._world.render()[0] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the OpenGL context and its thread."""
        self._world.close()
