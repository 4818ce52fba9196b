"""Worlds of a family behind gymnasium's interface for many at once: seeds, time limits, observations.

What is played in them is in batch.py, suite.py and of_gymnasium.py; a single world is single_env.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from metaslac.envs.arrays import Array, Flags, Frames, Ids
from metaslac.envs.errors import FamilyError, SimulationDiverged
from metaslac.envs.family import Family, Task
from metaslac.envs.machine import cpu_threads
from metaslac.envs.worlds import arguments
from metaslac.envs.worlds.arguments import Seed
from metaslac.envs.worlds.faults import Faults, named
from metaslac.envs.worlds.frame_stack import FrameStack
from metaslac.envs.worlds.kinds.of_family import make_worlds
from metaslac.envs.worlds.live import refuse_to_be_copied
from metaslac.envs.worlds.protocol import Painter
from metaslac.envs.worlds.spaces import spaces, spec_of

Observations = Frames | Array

_WORLDS_PER_THREAD = 4  # fewer do not repay handing the work to another thread


@dataclass(frozen=True)
class Remains:
    """What is left of N worlds that nobody simulates any more."""

    observations: Observations  # (N, ...)
    states: Array | None  # (N, S), where they are told
    terminated: Flags  # (N,)
    truncated: Flags  # (N,)
    tasks: tuple[Task | None, ...]
    generators: tuple[np.random.Generator | None, ...]


class TaskVectorEnv(VectorEnv[Observations, Array, npt.NDArray[Any]]):
    """`num_envs` worlds of one family. Worlds are never reset on their own.

    A world whose episode has ended is not simulated further: it repeats its last observation with reward 0
    and its last flags until it is reset.

    Args:
        family: what the worlds play.
        num_envs: how many worlds.
        threads: threads for physics and for drawing; 0 takes as many as pay off and as this process may use.
        raise_on_divergence: whether a simulation that cannot go on is an error or an end like others.
        states: whether info["state"] gives the state observations (num_envs, S) whatever is observed.

    Raises:
        FamilyError: num_envs or threads out of range.
        RenderingUnavailable: pixels cannot be drawn here.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"]}
    render_mode = "rgb_array"
    _spec: EnvSpec | None = None
    __reduce_ex__ = refuse_to_be_copied

    def __init__(
        self,
        family: Family,
        num_envs: int,
        threads: int = 0,
        raise_on_divergence: bool = True,
        states: bool = False,
    ) -> None:
        if num_envs < 1:
            raise FamilyError(f"num_envs must be at least 1, got {num_envs}")
        if threads < 0:
            raise FamilyError(f"threads must be 0 (choose) or more, got {threads}")
        self._usable = cpu_threads().number
        threads = min(threads or _default_threads(num_envs, self._usable), num_envs)
        self.family = family
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = spaces(family)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.worlds = make_worlds(family, num_envs, threads)
        self._threads = threads
        self._raises = raise_on_divergence
        self._faults = Faults(family)
        self._pixels: Painter | None = None
        if family.observation == "pixels":
            self._drawing()
        seconds = self.worlds.control_seconds * family.action_repeat
        self.metadata = {**self.metadata, "render_fps": max(1, round(1.0 / seconds))}
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._tasks: list[Task | None] = [None] * num_envs
        self._control_steps = np.zeros(num_envs, dtype=np.int64)
        self._terminated: Flags = np.zeros(num_envs, dtype=bool)
        self._truncated: Flags = np.zeros(num_envs, dtype=bool)
        self._diverged: Flags = np.zeros(num_envs, dtype=bool)
        space = self.observation_space
        self._observations: Observations = np.zeros(space.shape or (), dtype=space.dtype)
        self._states: Array | None = np.zeros((num_envs, family.state_size)) if states else None
        self._stack: FrameStack | None = None
        if family.frames > 1:
            pictures = cast(Frames, self._observations)
            self._stack = FrameStack(pictures, family.action_repeat, self._drawing())

    @property
    def spec(self) -> EnvSpec | None:
        """gymnasium's description, whose max_episode_steps are the decisions of an episode."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec_of(self.family, spec)

    @property
    def tasks(self) -> tuple[Task | None, ...]:
        """The task of each world; None where a world was never reset."""
        return tuple(self._tasks)

    @property
    def params(self) -> Array:
        """The true task parameters (num_envs, P); for controls that are told the task. Zero before reset."""
        unknown = (0.0,) * len(self.family.param_names)
        return np.array([unknown if task is None else task.params for task in self._tasks])

    @property
    def renderer(self) -> dict[str, str]:
        """Who draws: `back_end`, and OpenGL's `vendor` and `renderer`."""
        return self._drawing().gl_strings()

    def reset(
        self, *, seed: Seed | Sequence[Seed] = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every world.

        Args:
            seed: one seed for each world, or one number s that gives world i the seed s + i, or None to go
                on with the worlds' generators. A world's seed is a number, a SeedSequence, or a Generator to
                draw from. Same seed and task, same start, in whichever slot.
            options: `task`, a task index for each world or one for all; without it each world draws a
                training task from its generator. `reset_mask`, a bool array (num_envs,): only the marked
                worlds are reset.

        Returns:
            observations, frames uint8 (num_envs, H, W, 3) or states float64 (num_envs, S), which the caller
            owns, and {"task": indices int64 (num_envs,) of the tasks played, -1 where none is}. With
            `frames` k > 1 they are (num_envs, k, H, W, 3), the newest last, all k the first one here. With
            `states` the info has "state" too, float64 (num_envs, S), which the caller owns.

        Raises:
            FamilyError: unknown task or option, or a wrong number of tasks or seeds.
        """
        options = dict(options or {})
        worlds = arguments.marked(options.pop("reset_mask", None), self.num_envs)
        tasks = arguments.chosen_tasks(options.pop("task", None), self.family, self.num_envs)
        if options:
            raise FamilyError(f"unknown reset options {sorted(options)}; there are 'task' and 'reset_mask'")
        for world, world_seed in zip(worlds, arguments.seeds_of(seed, worlds, self.num_envs), strict=True):
            if world_seed is not None or self._generators[world] is None:
                self._generators[world] = np.random.default_rng(world_seed)
        self._begin(worlds, tasks)
        played = [-1 if task is None else task.index for task in self._tasks]
        return self._observations.copy(), {"task": np.array(played), **self._told()}

    def step(self, actions: Array) -> tuple[Observations, Array, Flags, Flags, dict[str, Any]]:
        """Hold actions (num_envs, A) in [-1, 1] for `action_repeat` control steps in every running world.

        Returns:
            observations as from reset, rewards float64 (num_envs,), terminated and truncated bool
            (num_envs,), and an info of arrays (num_envs,): "control_steps", those made in this step; for
            families with sparse rewards "dense_reward", float64; with `states` "state" as from reset, where
            a world diverged that of the decision before. The caller owns the arrays.

        Raises:
            FamilyError: before the first reset, or actions of wrong shape, not finite or outside [-1, 1].
            SimulationDiverged: names the worlds that could not go on. They are truncated, with
                their last sound observation; the others have made the step, which the error's `result`
                holds. With `raise_on_divergence` off the info says so instead: "diverged", bool, and a
                warning, once for each reason.
        """
        if any(task is None for task in self._tasks):
            raise FamilyError("reset every world before the first step")
        actions = arguments.checked_actions(actions, self.action_space.shape, self._named)
        rewards: Array = np.zeros(self.num_envs)
        info: dict[str, Any] = {"control_steps": np.zeros(self.num_envs, dtype=np.int64)}
        failed: dict[int, str] = {}
        try:
            for part in self._parts(self._running()):
                failed |= self._play(part, actions, rewards, info)
                self._start_look(part[~self._diverged[part]])
        finally:
            self._end_look()
        info |= self._told()
        result = (self._observations.copy(), rewards, self._terminated.copy(), self._truncated.copy(), info)
        if failed:
            if self._raises:
                message = self._faults.message(failed, self._tasks)
                raise SimulationDiverged(message, tuple(sorted(failed)), result)
            self._faults.warn(failed, self._tasks)
            info["diverged"] = np.isin(np.arange(self.num_envs), list(failed))
        return result

    def render(self) -> tuple[Frames, ...]:
        """The current picture of every world; the newest, where several are observed."""
        if self.family.observation == "pixels":
            newest = self._observations if self._stack is None else self._observations[:, -1]
            return tuple(newest.copy())
        size = self.family.image_size
        frames: Frames = np.zeros((self.num_envs, size, size, 3), dtype=np.uint8)
        self._drawing().draw(np.arange(self.num_envs), frames)
        return tuple(frames)

    def remains(self) -> Remains:
        """What another env needs to take the place of this one; but for the generators, all copies."""
        flags = self._terminated.copy(), self._truncated.copy()
        states = self._told().get("state")
        return Remains(self._observations.copy(), states, *flags, self.tasks, tuple(self._generators))

    def inherit(self, remains: Remains) -> Flags:
        """Take the place of another env of this family and size, whose running episodes end by this.

        Returns:
            which worlds (num_envs,) have lost an episode; they are truncated until they are reset.
        """
        begun = np.array([task is not None for task in remains.tasks])
        lost: Flags = begun & ~(remains.terminated | remains.truncated)
        self._observations[:] = remains.observations
        if self._states is not None and remains.states is not None:
            self._states[:] = remains.states
        self._terminated[:] = remains.terminated
        self._truncated[:] = remains.truncated | lost
        self._tasks, self._generators = list(remains.tasks), list(remains.generators)
        return lost

    def close_extras(self, **kwargs: Any) -> None:
        """Free OpenGL contexts and threads."""
        for name in ("_pixels", "worlds"):  # which are not there if the arguments were refused
            if (part := getattr(self, name, None)) is not None:
                part.close()

    def _begin(self, worlds: Ids, tasks: list[Task | None]) -> None:
        chosen, generators = [], []
        for world in worlds:
            generator = self._generators[world]
            assert generator is not None
            task = tasks[world] or self.family.train_tasks[generator.integers(len(self.family.train_tasks))]
            self._tasks[world] = task
            chosen.append(task)
            generators.append(generator)
        self.worlds.reset(worlds, chosen, generators)
        self._control_steps[worlds] = 0
        for flags in (self._terminated, self._truncated, self._diverged):
            flags[worlds] = False
        if self._stack is not None:
            self._stack.begin(worlds)
        self._look(worlds)

    def _parts(self, worlds: Ids) -> list[Ids]:
        """The worlds in parts to be stepped one after the other, each drawn while the next is stepped."""
        # Without a core to spare, stepping and drawing at once would only slow each other down.
        drawn, spare = self.family.observation == "pixels", self._threads < self._usable
        overlaps = drawn and spare and self._stack is None and len(worlds) >= 2 * _WORLDS_PER_THREAD
        return np.array_split(worlds, 2 if overlaps else 1)

    def _play(self, worlds: Ids, actions: Array, rewards: Array, info: dict[str, Any]) -> dict[int, str]:
        """Hold the actions in these worlds; adds to rewards and info, returns failed world -> reason."""
        failed: dict[int, str] = {}
        if self._stack is not None:
            self._stack.advance(worlds)
        for to_come in reversed(range(self.family.action_repeat)):
            running = worlds[~(self._terminated | self._truncated)[worlds]]
            if not len(running):
                break
            outcome = self.worlds.step(running, actions[running])
            rewards[running] += outcome.rewards
            if outcome.dense_rewards is not None:
                info.setdefault("dense_reward", np.zeros(self.num_envs))[running] += outcome.dense_rewards
            failed |= outcome.failed
            self._diverged[list(outcome.failed)] = True
            self._terminated[running] = outcome.terminated
            self._control_steps[running] += 1
            info["control_steps"][running] += 1
            late = self._control_steps[running] >= self.family.horizon
            if outcome.truncated is not None:
                late |= outcome.truncated
            self._truncated[running] = (late & ~outcome.terminated) | self._diverged[running]
            if self._stack is not None:
                sound = running[~self._diverged[running]]
                self._stack.add(sound, (self._terminated | self._truncated)[sound], to_come)
        return failed

    def _look(self, worlds: Ids) -> None:
        """Bring the states and observations of these worlds up to date, but for stacked frames."""
        self._start_look(worlds)
        self._end_look()

    def _start_look(self, worlds: Ids) -> None:
        """As _look, but pictures may not be there before _end_look."""
        if not len(worlds):
            return
        if self._states is not None:
            self._states[worlds] = self.worlds.observe(worlds)
        if self.family.observation == "state":
            self._observations[worlds] = self.worlds.observe(worlds)
        elif self._stack is None:
            self._drawing().start(worlds, cast(Frames, self._observations))

    def _end_look(self) -> None:
        if self.family.observation == "pixels":
            self._drawing().finish()

    def _told(self) -> dict[str, Array]:
        """What an info says of the states, if anything; a copy."""
        return {} if self._states is None else {"state": self._states.copy()}

    def _drawing(self) -> Painter:
        """Who draws; where pixels are not observed, made when first asked for."""
        if self._pixels is None:
            self._pixels = self.worlds.painter(self.family.image_size, self._threads)
        return self._pixels

    def _running(self) -> Ids:
        return np.flatnonzero(~(self._terminated | self._truncated | self._diverged))

    def _named(self, world: int) -> str:
        return named(self.family, world, self._tasks[world])


def _default_threads(num_envs: int, usable: int) -> int:
    return max(1, min(usable, num_envs // _WORLDS_PER_THREAD))
