"""An agent for one task at a time in somebody else's loop: plain frames and numbers, checked at the door.

What it does with them is agent.py's. Neither training nor any environment is imported; `metaslac.load`
is the way in.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from metaslac.acting.agent import Agent, Frames, load_agent
from metaslac.acting.inference import Drawing
from metaslac.config.runtime import DEVICES
from metaslac.config.sections import Config
from metaslac.config.validation import check_seed
from metaslac.errors import MetaslacError
from metaslac.storage.files import user_path

LOOP_STREAM = 7
ACTION_TOLERANCE = 1e-6
LARGEST = float(np.finfo(np.float32).max)


class Belief(NamedTuple):
    """What the agent holds the task variable m to be: a Gaussian, mean and standard deviation (M,)."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


class SingleTaskAgent:
    """Acts on one task at a time.

    begin_task() forgets what was learned about the task before; begin_episode() samples m; act() and
    observe() then alternate. What is refused is refused with a MetaslacError and changes nothing; arrays
    are copied, not kept.

    Args:
        agent: whose networks act; nobody else may use it meanwhile.
        seed: of the noise in episodes that are given no generator.
        redraw_every: decisions after which m is drawn anew from the belief, 0 once an episode; None is what
            the agent's configuration says for evaluation.
        mean_below: standard deviation of the belief under which its mean is acted on; None likewise.
    """

    def __init__(
        self,
        agent: Agent,
        seed: int = 0,
        redraw_every: int | None = None,
        mean_below: float | None = None,
    ) -> None:
        check_seed(seed)
        self.seed = int(seed)
        self._agent = agent
        self._drawing = drawing_of(agent.config, redraw_every, mean_below)
        self._tasks = self._episodes = 0  # begun: tasks so far, episodes of the present one

    @property
    def config(self) -> Config:
        """The configuration it was trained with."""
        return self._agent.config

    @property
    def family(self) -> str:
        """Name of the task family it was trained on."""
        return self.config.family.name

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape (H, W, 3) of the frames it takes, uint8, or (k, H, W, 3) of stacks of `family.frames`.

        Of an agent on states, `family.observation=state`, it is (S,), and they are numbers.
        """
        return self._agent.observation_shape

    @property
    def action_size(self) -> int:
        """A, the size of an action; every entry is in [-1, 1]."""
        return self._agent.action_size

    @property
    def belief(self) -> Belief:
        """m given all that was observed since begin_task(); stays the prior N(0, I) where m is not inferred.

        Raises MetaslacError before the first begin_task().
        """
        self._need_task("belief")
        mean, std = (part[0].cpu().numpy() for part in self._agent.belief)
        return Belief(mean, std)

    def begin_task(self, params: ArrayLike | None = None) -> None:
        """Meet a new task: the belief is the prior, the next episode its first.

        Args:
            params: the task's true parameters (P,), for an agent trained with task.inference=oracle; others
                never look at them.

        Raises:
            MetaslacError: they are missing, of another shape or not finite.
        """
        checked = None
        if self.config.task.inference == "oracle":
            size = self._agent.num_params
            if params is None:
                raise MetaslacError(
                    "begin_task(params): this agent was trained with task.inference=oracle and needs "
                    f"the task's {size} true parameters"
                )
            checked = _numbers("params", params, size)
        self._agent.begin_task(1, checked)
        self._tasks += 1
        self._episodes = 0

    def begin_episode(
        self,
        frame: Frames,
        rng: np.random.Generator | None = None,
        explore: bool | None = None,
    ) -> None:
        """Start an episode of the task from its first frame.

        Args:
            frame: uint8 (H, W, 3), or a stack or state as `observation_shape` says.
            rng: draws m now and the noise of sampled actions later; as default, a generator that depends on
                the seed and on the numbers of task and episode alone.
            explore: whether m is drawn from the prior, whatever was observed, and not from the belief. As
                default, in the first `evaluation.exploration_episodes` episodes of a task, as adapt does.

        Raises:
            MetaslacError: the frame or the generator cannot be, or no task has begun.
        """
        self._need_task("begin_episode()")
        frames = self._checked_frame(frame)
        if rng is None:
            key = self.seed, LOOP_STREAM, self._tasks - 1, self._episodes
            rng = np.random.default_rng(np.random.SeedSequence(key))
        elif not isinstance(rng, np.random.Generator):
            raise MetaslacError(f"rng must be a numpy.random.Generator, not {_described(rng)}")
        if explore is None:
            explore = self._episodes < self.config.evaluation.exploration_episodes
        self._agent.begin_episode(frames, [rng], explore, self._drawing)
        self._episodes += 1

    def act(self, deterministic: bool = True) -> NDArray[np.float32]:
        """An action (A,) in [-1, 1]: the tanh of the policy's mean, or else a sample of the policy.

        Raises MetaslacError before the task's first begin_episode().
        """
        self._need_episode("act()")
        action: NDArray[np.float32] = self._agent.act(deterministic)[0]
        return action

    def observe(self, action: ArrayLike, reward: SupportsFloat, frame: Frames) -> None:
        """Take in one step; the belief learns from it.

        Args:
            action: (A,) in [-1, 1], the one that was taken, whether or not it is act()'s.
            reward: a number, what the step earned; over all control steps, where an action is repeated.
            frame: likewise, where it led, also at the episode's end.

        Raises:
            MetaslacError: one of them cannot be, or no episode of the task has begun.
        """
        self._need_episode("observe()")
        actions = np.clip(_numbers("action", action, self.action_size, 1 + ACTION_TOLERANCE), -1.0, 1.0)
        rewards, frames = np.array([_finite_number("reward", reward)]), self._checked_frame(frame)
        self._agent.observe(actions.astype(np.float32), rewards, frames)

    def _need_task(self, what: str) -> None:
        if not self._tasks:
            raise MetaslacError(f"{what}: call begin_task() first")

    def _need_episode(self, what: str) -> None:
        self._need_task(what)
        if not self._episodes:
            raise MetaslacError(f"{what}: call begin_episode(frame) first, for every task anew")

    def _checked_frame(self, frame: Any) -> Frames:
        """A copy (1, H, W, 3), laid out in memory like a vector environment's, or of a state (1, S)."""
        shape = self.observation_shape
        if self.config.on_states:
            return _numbers("frame", frame, *shape)
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape != shape:
            raise MetaslacError(f"frame must be a NumPy array, uint8 {shape}, not {_described(frame)}")
        # Not frame[None]: for the stride of its new axis torch convolves in another way, to other bits.
        frames = np.empty((1, *shape), np.uint8)
        frames[0] = frame
        return frames


def load_single_task(
    path: str | os.PathLike[str],
    device: str | torch.device,
    seed: int,
    redraw_every: int | None,
    mean_below: float | None,
) -> SingleTaskAgent:
    """What `metaslac.load` returns, and its errors."""
    agent = load_agent(user_path(path), _chosen_device(device))
    return SingleTaskAgent(agent, seed, redraw_every, mean_below)


def drawing_of(config: Config, every: int | None = None, mean_below: float | None = None) -> Drawing:
    """How m is drawn: as asked for, or as a configuration says for evaluation. Raises MetaslacError."""
    evaluation = config.evaluation
    if every is None:
        every = evaluation.redraw_every
    if isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 0:
        raise MetaslacError(f"redraw_every must be a whole number from 0, not {every!r}")
    low = evaluation.mean_below if mean_below is None else _finite_number("mean_below", mean_below)
    if low < 0:
        raise MetaslacError(f"mean_below must be at least 0, not {low}")
    return Drawing(int(every), low)


def _chosen_device(device: str | torch.device) -> torch.device:
    if not isinstance(device, torch.device) and device not in DEVICES:
        raise MetaslacError(f"device must be {', '.join(DEVICES)} or a torch.device, not {device!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MetaslacError(f"device {device}: torch finds no such CUDA device here; use cpu or auto")
    return device


def _numbers(name: str, value: ArrayLike, size: int, limit: float = LARGEST) -> NDArray[np.float64]:
    """A copy (1, size) of an array (size,), which must hold finite numbers of at most `limit`."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last from tensors with a gradient
        raise MetaslacError(f"{name} must be numbers of shape {(size,)}, not {_described(value)}") from None
    if numbers.shape != (size,):
        raise MetaslacError(f"{name} must be numbers of shape {(size,)}, not {numbers.shape}")
    bad = ~(np.abs(numbers) <= limit)  # written so that NaN is caught as well
    if bad.any():
        allowed = "finite" if limit == LARGEST else "finite and in [-1, 1]"
        raise MetaslacError(f"{name} must be {allowed}, not {numbers[bad][0]}")
    return numbers.reshape(1, size).copy()


def _finite_number(name: str, value: Any) -> float:
    """A number that float32 can hold; truth values are none, as they are more likely a mix-up."""
    single = isinstance(value, SupportsFloat) and not getattr(value, "ndim", 0)
    if not single or isinstance(value, bool | np.bool_):
        raise MetaslacError(f"{name} must be one number, not {_described(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        raise MetaslacError(f"{name} must be finite, not {number}")
    return number


def _described(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
