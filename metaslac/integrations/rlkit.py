"""Environments and policies in the interface of Berkeley's rlkit, and of PEARL's code (oyster).

rlkit itself is not imported. Its interface is that of old gym: `reset()` gives an observation, `step()` four
values; an environment of many tasks has `get_all_task_idx`, `sample_tasks` and `reset_task`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from metaslac.acting.rollout import rng_of
from metaslac.acting.single_task import SingleTaskAgent
from metaslac.envs import FamilyError, SimulationDiverged, TaskEnv, make_family
from metaslac.envs.family import Family, Task
from metaslac.errors import MetaslacError

RLKIT_STREAM = 14

Observation = NDArray[Any]  # flat: pixels as uint8, or a state as float64


class FlatBox(gymnasium.spaces.Box):
    """A box of vectors that rlkit takes the size of by `flat_dim`, as it knows only old gym's own boxes."""

    @property
    def flat_dim(self) -> int:
        """The length of a vector."""
        return int(self.low.size)


class MultitaskEnv:
    """A task family as the environment of many tasks that rlkit and PEARL's code want.

    Tasks are those to train on, then those held out, so `tasks[:n]` and `tasks[-n:]` are what PEARL's code
    takes them for; those for validation are left out. Observations are flat. Starts depend on the seed, the
    task and the number of the episode alone. It can be pickled, as rlkit's snapshots do, and is then at its
    first task again.

    Where the family has dense rewards beside sparse ones, the reward is the dense one and `sparse_reward` is
    in the info, as in PEARL's code.

    Args:
        family: a family, or the name of one, made with `options`.
        seed: of all starts.
        done_at_horizon: whether `done` is true at the time limit too, with `TimeLimit.truncated` in the info,
            which rlkit knows for no true end. PEARL's code does not: there it must be false, and
            `max_path_length` at most `horizon`.
        options: as for make_family: image_size, action_repeat, observation, frames.

    Raises:
        FamilyError: there is no such family, or an option is out of its range.
    """

    def __init__(
        self, family: Family | str, seed: int = 0, done_at_horizon: bool = True, **options: Any
    ) -> None:
        made = make_family(family, **options) if isinstance(family, str) else family
        self.family = made
        self.horizon = made.episode_steps  # in decisions
        self.seed = seed
        self.done_at_horizon = done_at_horizon
        self._env = TaskEnv(made, render_mode="rgb_array")
        self.observation_space = _flat(self._env.observation_space)
        self.action_space = _flat(self._env.action_space)
        self._tasks = [*made.train_tasks, *made.test_tasks]
        self._index = 0
        self._episodes: Counter[int] = Counter()  # begun so far, of each task
        self._agents: list[SingleTaskAgent] = []
        self._frame: NDArray[Any] | None = None  # what was seen last, until the episode is over
        self._untold: list[SingleTaskAgent] = []  # who is yet to be told of the episode
        self._moments = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return MultitaskEnv, (self.family, self.seed, self.done_at_horizon)

    @property
    def tasks(self) -> list[dict[str, float]]:
        """The parameters of every task, by name. They are frozen: only the same ones may be set."""
        return [_named(self.family, task) for task in self._tasks]

    @tasks.setter
    def tasks(self, tasks: Sequence[dict[str, float]]) -> None:
        if list(tasks) != self.tasks:
            raise FamilyError(f"{self.family.name}: its tasks are frozen and cannot be set to others")

    @property
    def _goal(self) -> NDArray[np.float64]:
        """The parameters (P,) of the task, which PEARL's code keeps beside its paths."""
        return np.asarray(self._tasks[self._index].params, dtype=np.float64)

    def get_all_task_idx(self) -> range:
        """The indices of all tasks, those held out last."""
        return range(len(self._tasks))

    def sample_tasks(self, num_tasks: int) -> list[dict[str, float]]:
        """The parameters of the first `num_tasks` tasks to train on, always the same ones.

        Raises FamilyError if there are not so many.
        """
        most = len(self.family.train_tasks)
        if not 0 <= num_tasks <= most:
            raise FamilyError(f"{self.family.name}: there are {most} tasks to train on, not {num_tasks}")
        return self.tasks[:num_tasks]

    def reset_task(self, idx: int) -> None:
        """Go on to a task, and reset; attached agents forget the task before.

        Raises FamilyError if there is none of that index.
        """
        if idx not in (indices := self.get_all_task_idx()):
            raise FamilyError(f"{self.family.name}: there is no task {idx}; they are 0 to {indices[-1]}")
        self._index = int(idx)
        self.forget()
        self.reset()

    def reset(self) -> Observation:
        """Start an episode of the task; its first observation."""
        task, number = self._tasks[self._index], self._episodes[self._index]
        self._episodes[self._index] += 1
        seed = int(rng_of(self.seed, RLKIT_STREAM, task.index, number).integers(2**31))
        self._frame, _ = self._env.reset(seed=seed, options={"task": task.index})
        self._untold = list(self._agents)
        self._moments += 1
        return self._frame.ravel()

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Take an action (A,) in [-1, 1]; observation, reward, done and info.

        Raises:
            FamilyError: the action cannot be, or no episode is running.
            SimulationDiverged: the simulator cannot go on; the episode is over.
        """
        self.moment()
        if self._frame is None:
            raise FamilyError(f"{self.family.name}: no episode is running; call reset()")
        frame, reward, terminated, truncated, told = self._advance(action)
        for agent in self._agents:
            agent.observe(action, reward, frame)
        info = {"control_steps": told["control_steps"]}
        if "dense_reward" in told:
            info["sparse_reward"], reward = reward, told["dense_reward"]
        if truncated and not terminated and self.done_at_horizon:
            info["TimeLimit.truncated"] = True
        return frame.ravel(), reward, terminated or (truncated and self.done_at_horizon), info

    def _advance(self, action: ArrayLike) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._moments += 1
        try:
            frame, reward, terminated, truncated, told = self._env.step(np.asarray(action, dtype=np.float64))
        except SimulationDiverged:
            self._frame = None
            raise
        self._frame = None if terminated or truncated else frame
        return frame, reward, terminated, truncated, told

    def render(self, mode: str = "rgb_array", **_: Any) -> NDArray[np.uint8]:
        """The current picture uint8 (H, W, 3), whatever the mode; nothing is opened."""
        picture = self._env.render()
        assert picture is not None
        return picture

    def close(self) -> None:
        """Free what it draws with."""
        self._env.close()

    def attach(self, agent: SingleTaskAgent) -> None:
        """Tell an agent of every task, episode and step from now on, whoever acts; see AgentPolicy.

        Raises MetaslacError if it sees or does something else than is seen and done here.
        """
        seen, size = self._env.observation_space.shape, self.family.action_size
        if (agent.observation_shape, agent.action_size) != (seen, size):
            raise MetaslacError(
                f"the agent, of {agent.family}, takes {agent.observation_shape} and has {agent.action_size} "
                f"actions; the environment, of {self.family.name}, gives {seen} and takes {size}"
            )
        agent.begin_task(self._goal)
        self._agents.append(agent)
        self._untold.append(agent)

    def forget(self) -> None:
        """Have attached agents meet the task as a new one, with the next step or action."""
        for agent in self._agents:
            agent.begin_task(self._goal)
        self._untold = list(self._agents)

    def moment(self) -> int:
        """How many resets and steps there were; attached agents are told of the episode by now."""
        if self._frame is not None:
            for agent in self._untold:
                agent.begin_episode(self._frame)
            self._untold = []
        return self._moments


class AgentPolicy:
    """A trained agent as a policy for `rollout(env, policy, max_path_length)`, rlkit's and PEARL's code's.

    rlkit tells a policy of no reward, so the environment tells the agent: of all that happens in it, also of
    actions that are not the agent's. Its belief narrows from episode to episode, until `env.reset_task`.

    Args:
        agent: from metaslac.load.
        env: a MultitaskEnv, or a wrapper like rlkit's around one, that hands on what it does not know.
        deterministic: whether actions are the policy's mean and not samples, if get_action is not told.

    Raises:
        MetaslacError: the agent is for other observations or actions.
    """

    def __init__(self, agent: SingleTaskAgent, env: Any, deterministic: bool = True) -> None:
        self.agent = agent
        self.deterministic = deterministic
        self._env: MultitaskEnv = env
        self._acted_at = -1
        env.attach(agent)

    def reset(self) -> None:
        """Nothing: when an episode begins, the environment says so."""

    def get_action(
        self, observation: Observation | None = None, deterministic: bool | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """An action (A,) in [-1, 1], and the belief about the task before it as info.

        Args:
            observation: not looked at; the agent has it from the environment.
            deterministic: in place of the policy's own setting.

        Raises:
            MetaslacError: the environment was not reset, or made no step since the last action, as when
                another one is played.
        """
        now = self._env.moment()
        if now == self._acted_at:
            raise MetaslacError(
                "get_action: the policy's environment made no step since its last action; the one that is "
                "played must be the one that AgentPolicy was given"
            )
        action = self.agent.act(self.deterministic if deterministic is None else deterministic)
        self._acted_at = now
        belief = self.agent.belief
        told = {"belief_mean": belief.mean, "belief_std": belief.std} if len(belief.mean) else {}
        return action, told

    def update_context(self, transition: Any) -> None:
        """Nothing: what PEARL's code tells here, the environment told."""

    def clear_z(self) -> None:
        """Forget the task, as PEARL's agent does; `env.reset_task` does it too."""
        self._env.forget()


def _flat(box: Any) -> FlatBox:
    return FlatBox(box.low.ravel(), box.high.ravel(), dtype=box.dtype.type)


def _named(family: Family, task: Task) -> dict[str, float]:
    return dict(zip(family.param_names, task.params, strict=True))
