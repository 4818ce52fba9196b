"""Stand-ins with the call patterns of rlkit's and PEARL's roll-outs, and no more of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np


def rlkit_rollout(env: Any, agent: Any, max_path_length: float = np.inf) -> dict[str, Any]:
    """As of rlkit.samplers.rollout_functions: the policy is reset and asked, and told nothing."""
    agent.reset()
    steps, observation, done = [], env.reset(), False
    while len(steps) < max_path_length and not done:
        action, agent_info = agent.get_action(observation)
        after, reward, done, info = env.step(copy.deepcopy(action))
        terminal = done and not info.pop("TimeLimit.truncated", False)
        steps.append((observation, action, reward, after, terminal, agent_info, info))
        observation = after
    return path_of(steps)


def pearl_rollout(env: Any, agent: Any, max_path_length: float = np.inf) -> dict[str, Any]:
    """As of rlkit.samplers.util in PEARL's code: the agent is told each transition, and never reset."""
    steps, observation, done = [], env.reset(), False
    while len(steps) < max_path_length and not done:
        action, agent_info = agent.get_action(observation)
        after, reward, done, info = env.step(action)
        agent.update_context([observation, action, reward, after, done, info])
        steps.append((observation, action, reward, after, done, agent_info, info))
        observation = after
    return path_of(steps)


def path_of(steps: list[tuple[Any, ...]]) -> dict[str, Any]:
    observations, actions, rewards, after, terminals, agent_infos, env_infos = zip(*steps, strict=True)
    return {
        "observations": np.array(observations),
        "actions": np.array(actions),
        "rewards": np.array(rewards).reshape(-1, 1),
        "next_observations": np.array(after),
        "terminals": np.array(terminals).reshape(-1, 1),
        "agent_infos": list(agent_infos),
        "env_infos": list(env_infos),
    }


class Wrapper:
    """Hands on what it does not know, as rlkit's ProxyEnv and PEARL's do."""

    def __init__(self, env: Any) -> None:
        self._wrapped_env = env

    def reset(self) -> Any:
        return self._wrapped_env.reset()

    def step(self, action: Any) -> Any:
        return self._wrapped_env.step(action)

    def __getattr__(self, name: str) -> Any:
        if name == "_wrapped_env":
            raise AttributeError
        return getattr(self._wrapped_env, name)
