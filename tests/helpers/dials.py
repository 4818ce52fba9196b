"""A small environment with pixels in gymnasium's manner, and families of it and of its pendulums."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from metaslac.envs import GymnasiumFamily

SIDE = 64  # of its pictures, twice that of the smallest that a family shows


class Dial(gymnasium.Env[Any, Any]):
    """A pointer at an angle in turns, moved by actions in [0, 0.2]; the reward is -distance to `goal`.

    The goal is told when it is made or reset. A picture has the angle as its red and the steps as its green;
    what is blue is noise, a seed's own. It ends for good when it is turned beyond one turn, and is cut off by
    itself after `limit` steps. In step `breaks`, counted from 0, it raises, and in step `not_a_number` its
    reward is none.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    action_space = Box(0.0, 0.2, (1,), np.float32)
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    live = 0  # how many are open

    def __init__(
        self,
        render_mode: str | None = None,
        goal: float = 0.0,
        limit: int = 100,
        breaks: int = -1,
        not_a_number: int = -1,
    ) -> None:
        self.render_mode, self.goal, self.limit = render_mode, goal, limit
        self.breaks, self.not_a_number = breaks, not_a_number
        type(self).live += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.goal = (options or {}).get("goal", self.goal)
        self.angle, self.steps = self.np_random.uniform(0.0, 0.5), 0
        self.noise = self.np_random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        if self.steps == self.breaks:
            raise ZeroDivisionError("the dial is\nbroken")
        self.angle, self.steps = self.angle + float(action[0]), self.steps + 1
        reward = np.nan if self.steps - 1 == self.not_a_number else -abs(self.angle - self.goal)
        return self.seen(), reward, self.angle > 1, self.steps >= self.limit, {}

    def seen(self) -> Any:
        return np.array([self.angle, self.steps], np.float32)

    def render(self) -> Any:
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[..., 0], picture[..., 1] = int(100 * self.angle), self.steps
        picture[..., 2] = self.noise
        return picture

    def close(self) -> None:
        type(self).live -= 1


class DialInView(Dial):
    """A dial whose observations are its pictures, and which draws nothing beside them."""

    metadata = {}
    observation_space = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    render = None  # type: ignore[assignment]

    def seen(self) -> Any:
        return Dial.render(self)


class Dials(GymnasiumFamily):
    """Dials whose goals are told when they are made."""

    name, param_names, horizon = "dials", ("goal",), 6
    kind: type[Dial] = Dial

    def task_params(self) -> Any:
        return [[0.1], [0.2], [0.3]], [[0.4], [0.5]]

    def make_env(self, **kwargs: Any) -> Dial:
        return self.kind(render_mode="rgb_array", **kwargs)

    def env_kwargs(self, task: Any) -> dict[str, Any]:
        return {"goal": task.params[0]}


class DialsAtReset(Dials):
    """Dials whose goals are told at every reset."""

    name = "dials_at_reset"

    def env_kwargs(self, task: Any) -> dict[str, Any]:
        return {}

    def reset_options(self, task: Any) -> dict[str, Any]:
        return {"goal": task.params[0]}


class DialsInView(Dials):
    """Dials whose observations are pictures."""

    name, kind = "dials_in_view", DialInView


class UnevenDials(Dials):
    """Task 1 breaks in its third step, in task 2 a reward is none, and task 3 cuts itself off after two."""

    name = "uneven_dials"
    trouble = {1: {"breaks": 2}, 2: {"not_a_number": 2}, 3: {"limit": 2}}

    def env_kwargs(self, task: Any) -> dict[str, Any]:
        return {**super().env_kwargs(task), **self.trouble.get(task.index, {})}


class Swings(GymnasiumFamily):
    """Gymnasium's pendulums, whose gravity differs."""

    name, param_names, horizon, env_id = "swings", ("g",), 200, "Pendulum-v1"

    def task_params(self) -> Any:
        return [[3.0], [10.0]], [[15.0]]

    def env_kwargs(self, task: Any) -> dict[str, Any]:
        return {"g": task.params[0]}
