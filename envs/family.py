"""What a task family is: frozen lists of tasks, and a MuJoCo model with a reward that has parameters.

Worlds and vector environments of a family are made in worlds/; nothing here knows of them.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from metaslac.envs.arrays import Array, Flags, Ids
from metaslac.envs.errors import FamilyError
from metaslac.envs.overlay import Overlay
from metaslac.envs.references import Reference
from metaslac.envs.simulation import Simulation, State

if TYPE_CHECKING:
    import mujoco

IMAGE_SIZES = (32, 64, 128)
OBSERVATIONS = ("pixels", "state")
FRAMES = (1, 2, 3)
LARGEST = float(np.finfo(np.float32).max)  # of a task's parameters, which networks have to take

HOW_TO_FREEZE = (
    "let it draw from a generator of its own with a fixed seed, np.random.default_rng(0), made in that call"
)

TaskParams = Sequence[Sequence[float]] | Array

_PARAMS_NAMED = 4  # in an error
Split = Literal["train", "test", "validation", "own"]  # the last of tasks in no list


@dataclass(frozen=True)
class Task:
    """One task of a family."""

    index: int  # position in the family's list: training tasks first, then held-out ones, validation, own
    split: Split
    params: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """A control step of N worlds."""

    params: Array  # (N, P), of the tasks played
    actions: Array  # (N, A), in [-1, 1]
    before: State
    after: State
    seconds: float  # that the step took


class Family(ABC):
    """Frozen lists of tasks that differ in `param_names` only, and the worlds to play them in.

    Subclass TaskFamily for a family of your own, or GymnasiumFamily (families/of_gymnasium.py); this class
    is what the families of dm_control's suite share with them.

    Args:
        image_size: side of the square RGB picture in pixels, one of 32, 64, 128.
        action_repeat: control steps that one action is held for, their rewards summed. Divides the horizon.
        observation: what the agent gets, "pixels" or the family's "state".
        frames: how many pictures are an observation of pixels, one of 1, 2, 3: those of the last control
            steps.

    Raises:
        FamilyError: an option is out of its range.
    """

    name: str
    param_names: tuple[str, ...]
    params_said: str = ""  # what values tasks have for them, as in "a goal in [-1, 1]^2"
    own_tasks: tuple[Task, ...] = ()  # of parameters that a user chose
    action_size: int
    state_size: int  # of the state observation
    horizon: int  # control steps in an episode

    def __init__(
        self, image_size: int = 64, action_repeat: int = 1, observation: str = "pixels", frames: int = 1
    ) -> None:
        if image_size not in IMAGE_SIZES:
            raise FamilyError(f"{self.name}: image_size must be one of {IMAGE_SIZES}, got {image_size!r}")
        if isinstance(action_repeat, bool) or not isinstance(action_repeat, int) or action_repeat < 1:
            raise FamilyError(f"{self.name}: action_repeat must be a positive integer, got {action_repeat!r}")
        if self.horizon % action_repeat:
            raise FamilyError(
                f"{self.name}: action_repeat must divide the horizon of {self.horizon}, got {action_repeat}"
            )
        if observation not in OBSERVATIONS:
            raise FamilyError(f"{self.name}: observation must be one of {OBSERVATIONS}, got {observation!r}")
        if isinstance(frames, bool) or not isinstance(frames, int) or frames not in FRAMES:
            raise FamilyError(f"{self.name}: frames must be one of {FRAMES}, got {frames!r}")
        if frames > 1 and observation == "state":
            raise FamilyError(f"{self.name}: frames must be 1 where the state is observed, got {frames}")
        self.image_size = image_size
        self.action_repeat = action_repeat
        self.observation = observation
        self.frames = frames

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Every task: the training tasks, then the held-out ones, then those for validation.

        Raises:
            FamilyError: they are no task lists, or not the same ones when they are asked for again.
        """
        rows, again = self._rows(), self._rows()
        for hook, splits in (("task_params", ("train", "test")), ("validation_params", ("validation",))):
            first, second = ([row for row in drawn if row[0] in splits] for drawn in (rows, again))
            if first != second:
                raise FamilyError(f"{self.name}: {hook}() gives other tasks at every call; {HOW_TO_FREEZE}")
        return tuple(Task(index, split, row) for index, (split, row) in enumerate(rows))

    @cached_property
    def train_tasks(self) -> tuple[Task, ...]:
        """The tasks to train on."""
        return tuple(task for task in self.tasks if task.split == "train")

    @cached_property
    def test_tasks(self) -> tuple[Task, ...]:
        """The tasks held out from training, to judge agents on."""
        return tuple(task for task in self.tasks if task.split == "test")

    @cached_property
    def validation_tasks(self) -> tuple[Task, ...]:
        """Further tasks held out from training, to choose settings on; none if the family has none."""
        return tuple(task for task in self.tasks if task.split == "validation")

    @property
    def episode_steps(self) -> int:
        """Decisions of the agent in an episode."""
        return self.horizon // self.action_repeat

    @cached_property
    def task_hash(self) -> str:
        """SHA-256 (hex) of training and held-out tasks: names, sizes and every parameter, bit for bit."""
        return self._hash_of(self.train_tasks, self.test_tasks)

    @cached_property
    def validation_hash(self) -> str:
        """The same of the validation tasks, which `task_hash` knows nothing of."""
        return self._hash_of(self.validation_tasks)

    def task(self, index: int) -> Task:
        """The task at `index`; raises FamilyError if there is none."""
        whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
        every = self.tasks + self.own_tasks
        if not whole or not 0 <= index < len(every):
            raise FamilyError(f"{self.name}: unknown task {index!r}; the tasks are 0 to {len(every) - 1}")
        return every[index]

    def with_own_task(self, params: Sequence[float]) -> Self:
        """This family with one task more, of parameters (P,) that need be in no list: the last `own_tasks`.

        Its lists and their hashes stay as they are.

        Raises:
            FamilyError: not P numbers, or such as no task of this family has.
        """
        values = tuple(float(value) for value in params)
        if len(values) != len(self.param_names):
            raise FamilyError(f"{self.name} takes {self._params_in_words()}; given: {len(values)}")
        allowed = self.may_have if self._of_its_tasks("may_have") else partial(Family.may_have, self)
        if not allowed(values):
            given = " ".join(f"{value:g}" for value in values[:_PARAMS_NAMED])
            given += " ..." * (len(values) > _PARAMS_NAMED)
            raise FamilyError(f"{self.name} takes {self._params_in_words()}; {given} is outside of that")
        family = copy.copy(self)
        family.own_tasks = (*self.own_tasks, Task(len(self.tasks) + len(self.own_tasks), "own", values))
        return family

    def may_have(self, params: tuple[float, ...]) -> bool:
        """Whether tasks are drawn from a distribution that has these parameters (P,), NaN among them or not.

        Default: each lies between its least and its largest value in the lists. Like `validation_params`,
        and `params_said`, not asked of a subclass that has a `task_params` of its own and takes this from its
        base.
        """
        low, high = self._extremes()
        return bool(((low <= params) & (params <= high)).all())

    @abstractmethod
    def task_params(self) -> tuple[TaskParams, TaskParams]:
        """Rows of P parameters, or arrays (N, P), of the training and the held-out tasks; always the same."""

    def validation_params(self) -> TaskParams:
        """Rows of P parameters of the validation tasks, likewise; drawn as the others are. Default: none.

        Not asked of a subclass that has a `task_params` of its own and takes this from its base, which draws
        other tasks.
        """
        return []

    def overlay(self, task: Task) -> Overlay:
        """What people are shown of a task in pictures and films; no agent sees it. Default: nothing."""
        return Overlay()

    def references(self, tasks: Sequence[Task]) -> Sequence[Reference]:
        """Mean returns of an episode on these tasks, to read an agent's by in a report. Default: none.

        Like `validation_params`, not asked of a subclass that has a `task_params` of its own.
        """
        return ()

    def known_references(self, tasks: Sequence[Task]) -> tuple[Reference, ...]:
        """The same, of the tasks that this family has; raises FamilyError for one that is not a number."""
        known = tuple(self.references(tasks)) if self._of_its_tasks("references") else ()
        for reference in known:
            if not np.isfinite(reference.value):
                raise FamilyError(f"{self.name}: the reference {reference.name!r} is {reference.value}")
        return known

    def _extremes(self) -> tuple[Array, Array]:
        """The least and the largest value of each parameter in the lists, (P,) each."""
        params = np.array([task.params for task in self.tasks])
        return params.min(axis=0), params.max(axis=0)

    def _params_in_words(self) -> str:
        """How many parameters a task has, which, and what values they take."""
        number, names = len(self.param_names), ", ".join(self.param_names[:_PARAMS_NAMED])
        if not number:
            return "no parameters: its one task is all there is"
        said = self.params_said if self._of_its_tasks("params_said") else ""
        if not said:
            ranges = [f"{low:g} to {high:g}" for low, high in zip(*self._extremes(), strict=True)]
            said = ", ".join(ranges[:_PARAMS_NAMED]) + ", ..." * (number > _PARAMS_NAMED)
        names += ", ..." * (number > _PARAMS_NAMED)
        return f"{number} parameter{'s' * (number > 1)} ({names}): {said}"

    def _rows(self) -> list[tuple[Split, tuple[float, ...]]]:
        """The parameters of every task, asked for anew."""
        train, test = self._checked_params("task_params", self.task_params())
        drawn = self.validation_params() if self._of_its_tasks("validation_params") else ()
        (validation,) = self._checked_params("validation_params", (drawn,))
        if not train or not test:
            raise FamilyError(f"{self.name}: there must be training tasks and held-out tasks")
        splits: tuple[tuple[Split, Sequence[tuple[float, ...]]], ...]
        splits = ("train", train), ("test", test), ("validation", validation)
        return [(split, row) for split, part in splits for row in part]

    def _checked_params(self, hook: str, parts: Any) -> list[list[tuple[float, ...]]]:
        """What a hook gave, lists or arrays, as rows of numbers; FamilyError if it will not do."""
        wanted = 2 if hook == "task_params" else 1
        try:
            checked = [[tuple(float(value) for value in row) for row in part] for part in parts]
        except (TypeError, ValueError) as error:
            raise FamilyError(f"{self.name}: {hook} must give rows of numbers: {error}") from error
        if len(checked) != wanted:
            raise FamilyError(f"{self.name}: {hook} must give training tasks and held-out tasks")
        rows = [row for part in checked for row in part]
        if any(len(row) != len(self.param_names) for row in rows):
            raise FamilyError(f"{self.name}: every task needs a value for each of {self.param_names}")
        if not all(abs(value) <= LARGEST for row in rows for value in row):  # nor NaN
            raise FamilyError(f"{self.name}: every task's values must be finite, up to {LARGEST:.1e}")
        return checked

    def _of_its_tasks(self, hook: str) -> bool:
        """Whether an attribute tells of the tasks that this family has, and not of those of a base."""
        nearest = next(kind for kind in type(self).__mro__ if {"task_params", hook} & vars(kind).keys())
        return hook in vars(nearest)

    def _hash_of(self, *splits: Sequence[Task]) -> str:
        header = json.dumps([self.name, list(self.param_names), [len(tasks) for tasks in splits]]).encode()
        params = np.asarray([task.params for tasks in splits for task in tasks], dtype="<f8")
        return hashlib.sha256(header + params.tobytes()).hexdigest()


class TaskFamily(Family):
    """A family on one MuJoCo model; the class to derive a family from.

    A subclass sets the class attributes and gives the task lists, the model, the start state and the reward;
    the other hooks have defaults. What happens in a step is vectorised: N worlds, P parameters, A actions.
    Nothing that is drawn may depend on the task.
    """

    frame_skip: int  # physics steps in a control step
    camera: str  # name of the camera that the agent sees through
    reads: tuple[str, ...] = ()  # fields of mujoco.MjData that State needs besides qpos and qvel
    randomises: tuple[str, ...] = ()  # fields of mujoco.MjModel that differ between tasks, and are not drawn

    @abstractmethod
    def model(self) -> mujoco.MjModel:
        """A new copy of the compiled model. Nothing in it may depend on the task."""

    @abstractmethod
    def start_state(self, model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
        """(qpos, qvel) at the start of an episode of `task`, all chance drawn from `rng`."""

    @abstractmethod
    def reward(self, step: Step) -> Array:
        """Rewards (N,) of a control step: what the agent is judged by and infers the task from."""

    def dense_reward(self, step: Step) -> Array | None:
        """Rewards (N,) to train on in place of sparse ones; never shown to task inference. Default: none."""
        return None

    def terminated(self, params: Array, state: State) -> Flags:
        """Which worlds (N,) ended for good in the state reached; the time limit is no end. Default: none."""
        return np.zeros(len(state.qpos), dtype=bool)

    def task_model(self, model: mujoco.MjModel, task: Task) -> Mapping[str, Array]:
        """For each field that the family `randomises`, its values in the worlds of `task`."""
        return {}

    def apply_action(self, simulation: Simulation, worlds: Ids, actions: Array) -> None:
        """Write actions (N, A) into these worlds before a control step.

        Default: they are the controls, [-1, 1] stretched to each actuator's control range.
        """
        simulation.ctrl[worlds] = simulation.ctrl_middle + simulation.ctrl_reach * actions

    def state_observation(self, state: State) -> Array:
        """The state observation (N, state_size). Default: positions, then velocities."""
        return np.concatenate([state.qpos, state.qvel], axis=1)
