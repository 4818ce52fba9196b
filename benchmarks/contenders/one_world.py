"""What one would write without this package: a plain loop over one world, stepped and drawn in turn."""

import time
from collections.abc import Callable

import mujoco
import numpy as np

from metaslac.envs.family import Family, Task, TaskFamily
from metaslac.envs.pixels.contexts import make_context
from metaslac.envs.pixels.rendering import make_fast, make_scene
from metaslac.envs.simulation import State

Round = dict[str, float]  # count (of what is measured), wall_seconds, cpu_seconds (of all threads)


def timed(step: Callable[[], int], seconds: float) -> Round:
    """Call `step`, which says how much it did, again and again."""
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    while not count or time.perf_counter() - start < seconds:
        count += step()
    wall = time.perf_counter() - start
    return {"count": count, "wall_seconds": wall, "cpu_seconds": time.process_time() - cpu}


class OneWorldLoop:
    """What one would write without this package, with its settings: one world, stepped and drawn in turn."""

    def __init__(self, family: TaskFamily, size: int, seed: int = 0) -> None:
        self._family = family
        self._rng = np.random.default_rng(seed)
        self._base, self.model = family.model(), family.model()
        model = self.model
        self.data = mujoco.MjData(model)
        make_fast(model, size)
        limited = model.actuator_ctrllimited.astype(bool)
        low, high = np.where(limited[:, None], model.actuator_ctrlrange, (-1.0, 1.0)).T
        self._middle, self._reach = (high + low) / 2, (high - low) / 2
        self._state = State(self.data.qpos[None], self.data.qvel[None], {})
        self._ends = type(family).terminated is not TaskFamily.terminated
        self._gl = make_context(size, size)
        self._scene, self._option, self._camera = make_scene(model), mujoco.MjvOption(), mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(family.camera).id
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._rows = np.zeros((size, size, 3), dtype=np.uint8)
        self.reset()

    def reset(self, task: Task | None = None) -> np.ndarray:
        """Start an episode, of a training task drawn unless it is given; returns its first picture."""
        if task is None:
            task = self._family.train_tasks[self._rng.integers(len(self._family.train_tasks))]
        fields = self._family.task_model(self._base, task)
        for field, values in fields.items():
            getattr(self.model, field)[...] = values
        if fields:
            mujoco.mj_setConst(self.model, self.data)
        mujoco.mj_resetData(self.model, self.data)
        start = self._family.start_state(self.model, task, self._rng)
        self.data.qpos[:], self.data.qvel[:] = start
        self._params = np.array([task.params])
        self._steps = 0
        return self._picture()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """A control step; returns the picture and whether the episode has ended."""
        self.data.ctrl[:] = self._middle + self._reach * action
        mujoco.mj_step(self.model, self.data, nstep=self._family.frame_skip)
        self._steps += 1
        ended = self._steps == self._family.horizon
        if self._ends:
            ended |= bool(self._family.terminated(self._params, self._state)[0])
        return self._picture(), ended

    def pixels(self, seconds: float) -> Round:
        """Environment steps with their pictures, resets included."""
        return timed(self._random_step, seconds)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def _random_step(self) -> int:
        _, ended = self.step(self._rng.uniform(-1, 1, self._family.action_size))
        if ended:
            self.reset()
        return 1

    def _picture(self) -> np.ndarray:
        model, data = self.model, self.data
        mujoco.mj_kinematics(model, data)  # mj_step leaves what is drawn one substep behind
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._rows, None, self._viewport, self._context)
        return self._rows[::-1].copy()


def loop_for(family: Family, size: int) -> OneWorldLoop | None:
    """The plain loop of a family that MuJoCo steps and whose actions are controls."""
    if isinstance(family, TaskFamily) and type(family).apply_action is TaskFamily.apply_action:
        return OneWorldLoop(family, size)
    return None
