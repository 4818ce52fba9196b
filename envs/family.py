"""What a task family is: a MuJoCo model, a reward with parameters, and frozen lists of tasks.

Stepping many worlds of a family is in vector_env.py, drawing them in rendering.py.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import mujoco
import numpy as np
import numpy.typing as npt

from envs.errors import FamilyError

if TYPE_CHECKING:
    from envs.simulation import Simulation
    from envs.vector_env import TaskVectorEnv

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

IMAGE_SIZES = (32, 64, 128)


@dataclass(frozen=True)
class Task:
    """One task of a family."""

    index: int  # position in the family's list: training tasks first, then held-out ones
    split: Literal["train", "test"]
    params: tuple[float, ...]


class TaskFamily(ABC):
    """A family of tasks that differ in `param_names` only.

    A subclass sets the class attributes and gives the task lists, the model, the start state and the reward;
    the other hooks have defaults. What happens in a step is vectorised: N worlds, P parameters, A actions.

    Args:
        image_size: side of the square RGB picture in pixels, one of 32, 64, 128.
        action_repeat: control steps that one action is held for, their rewards summed. Divides the horizon.

    Raises:
        FamilyError: an option is out of its range.
    """

    name: ClassVar[str]
    param_names: ClassVar[tuple[str, ...]]
    action_size: ClassVar[int]
    horizon: ClassVar[int]  # control steps in an episode
    frame_skip: ClassVar[int]  # physics steps in a control step
    camera: ClassVar[str]  # name of the camera that the agent sees through

    def __init__(self, image_size: int = 64, action_repeat: int = 1) -> None:
        if image_size not in IMAGE_SIZES:
            raise FamilyError(f"{self.name}: image_size must be one of {IMAGE_SIZES}, got {image_size!r}")
        if isinstance(action_repeat, bool) or not isinstance(action_repeat, int) or action_repeat < 1:
            raise FamilyError(f"{self.name}: action_repeat must be a positive integer, got {action_repeat!r}")
        if self.horizon % action_repeat:
            raise FamilyError(
                f"{self.name}: action_repeat must divide the horizon of {self.horizon}, got {action_repeat}"
            )
        self.image_size = image_size
        self.action_repeat = action_repeat

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Every task: the training tasks, then the held-out ones."""
        train, test = self.task_params()
        rows = [tuple(float(value) for value in row) for row in (*train, *test)]
        if any(len(row) != len(self.param_names) for row in rows):
            raise FamilyError(f"{self.name}: every task needs a value for each of {self.param_names}")
        return tuple(Task(i, "train" if i < len(train) else "test", row) for i, row in enumerate(rows))

    @property
    def train_tasks(self) -> tuple[Task, ...]:
        """The tasks to train on."""
        return tuple(task for task in self.tasks if task.split == "train")

    @property
    def test_tasks(self) -> tuple[Task, ...]:
        """The tasks held out from training."""
        return tuple(task for task in self.tasks if task.split == "test")

    @property
    def episode_steps(self) -> int:
        """Decisions of the agent in an episode."""
        return self.horizon // self.action_repeat

    @cached_property
    def task_hash(self) -> str:
        """SHA-256 (hex) of the names, the sizes of the splits and every parameter, bit for bit."""
        sizes = [len(self.train_tasks), len(self.test_tasks)]
        header = json.dumps([self.name, list(self.param_names), sizes]).encode()
        params = np.asarray([task.params for task in self.tasks], dtype="<f8")
        return hashlib.sha256(header + params.tobytes()).hexdigest()

    def task(self, index: int) -> Task:
        """The task at `index`; raises FamilyError if there is none."""
        whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
        if not whole or not 0 <= index < len(self.tasks):
            last = len(self.tasks) - 1
            raise FamilyError(f"{self.name}: unknown task {index!r}; the tasks are 0 to {last}")
        return self.tasks[index]

    def make_vector_env(self, num_envs: int, threads: int = 0) -> "TaskVectorEnv":
        """`num_envs` worlds stepped and drawn together on `threads` threads (0: as many as pay off)."""
        from envs.vector_env import TaskVectorEnv

        return TaskVectorEnv(self, num_envs, threads)

    @abstractmethod
    def task_params(self) -> tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]:
        """Rows of P parameters of the training and of the held-out tasks; the same at every call."""

    @abstractmethod
    def model(self) -> mujoco.MjModel:
        """A new copy of the compiled model. Nothing in it may depend on the task."""

    @abstractmethod
    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        """(qpos, qvel) at the start of an episode of `task`, all chance drawn from `rng`."""

    @abstractmethod
    def reward(self, params: Array, qpos_before: Array, qpos_after: Array, actions: Array) -> Array:
        """Rewards (N,) of a control step: params (N, P), positions (N, nq) around it, actions (N, A)."""

    def terminated(self, params: Array, qpos: Array, qvel: Array) -> npt.NDArray[np.bool_]:
        """Which worlds (N,) ended for good in the state reached; the time limit is no end. Default: none."""
        return np.zeros(len(qpos), dtype=bool)

    def apply_action(self, simulation: "Simulation", worlds: Ids, actions: Array) -> None:
        """Write actions (N, A) into these worlds before a control step. Default: they are the controls."""
        simulation.ctrl[worlds] = actions
