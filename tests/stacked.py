"""The counting environment seen through stacks of pictures, and with its true state for critics that ask."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes import FakeFamily, FakeVectorEnv, tiny_config
from numpy.typing import NDArray

from metaslac.config.sections import Config
from metaslac.config.text import with_values

STACK = 3


class StackedVectorEnv(FakeVectorEnv):
    """Its last pictures, the first one repeated after a reset; its state is position and time."""

    def __init__(self, family: FakeFamily, num_envs: int, *, tolerant: bool, states: bool) -> None:
        super().__init__(family, num_envs, raise_on_divergence=not tolerant)
        self.states = states

    def reset(self, **options: Any) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        picture, _ = super().reset(**options)
        self.stack = np.stack([picture] * STACK, 1)
        return self.stack.copy(), self.told()

    def step(self, actions: NDArray[np.float32]) -> tuple[Any, ...]:
        picture, *rest, info = super().step(actions)
        going = info["control_steps"] > 0
        self.stack[going] = np.concatenate((self.stack[going, 1:], picture[going, None]), 1)
        return self.stack.copy(), *rest, info | self.told()

    def told(self) -> dict[str, Any]:
        return {"state": np.stack((self.position, self.t), 1)} if self.states else {}


class StackedFamily(FakeFamily):
    """Tells its states where that is asked for, and counts how often it was."""

    asked_for_states = 0

    def make_vector_env(
        self, num_envs: int, threads: int = 0, tolerant: bool = False, states: bool = False
    ) -> StackedVectorEnv:
        self.asked_for_states += states
        return StackedVectorEnv(self, num_envs, tolerant=tolerant, states=states)


def resting(**values: Any) -> Config:
    """A tiny run whose encoder learns first and then rests, its features kept."""
    settings = {
        "family.frames": STACK,
        "model.feature_norm": True,
        "model.elbo_weight": 0.0,
        **dict.fromkeys(
            [f"model.{name}_weight" for name in ("inverse", "last_action", "contrast", "feature_reward")], 1.0
        ),
        "actor_critic.critic_input": "features",
        "actor_critic.standardise": True,
        "actor_critic.actor_layer_norm": True,
        "train.freeze_encoder": True,
        "train.steps_per_batch": 2,
        "train.extra_steps": 2,
    }
    return with_values(tiny_config(), {**settings, **values})
