"""Pixels: a pool of threads that draw the worlds of a simulation, each with an OpenGL context of its own.

Which OpenGL that is was chosen in back_end.py; what to draw is told by a PictureSource.
"""

import atexit
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol

import mujoco
import numpy as np

from metaslac.envs.arrays import Frames, Ids
from metaslac.envs.errors import FamilyError, RenderingUnavailable
from metaslac.envs.pixels.back_end import BACK_END, another_way, require_pixels
from metaslac.envs.pixels.capsules import Capsules
from metaslac.envs.pixels.contexts import GLContext, make_context, make_drawing_context
from metaslac.envs.pixels.job_thread import JobThread

# A driver that hangs is given up after this long: for its first picture, for the pictures of one call, and
# when its threads are to end.
FIRST_FRAME_SECONDS = 60.0
DRAW_SECONDS = 60.0
STOP_SECONDS = 5.0
LARGEST_SMALL = 128  # pixels; no agent sees larger pictures


class PictureSource(Protocol):
    """What a render pool draws."""

    @property
    def model(self) -> mujoco.MjModel:
        """Whose textures, meshes and visual settings are drawn."""

    def scratch(self) -> mujoco.MjData:
        """A state for one drawing thread to hand to show()."""

    def show(self, world: int, scratch: mujoco.MjData) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model and state to draw a world from; may write into `scratch`."""


class Scene(NamedTuple):
    """What is drawn of MuJoCo's worlds, and the number of the camera it is seen through."""

    source: PictureSource
    camera: int


class RenderPool:
    """Draws worlds through one of their model's cameras.

    Args:
        pictures: what to draw. The visual settings of its model are changed here to those that are fast at
            small sizes.
        camera: number of the camera.
        size: side of the square picture in pixels.
        threads: how many threads draw. The pixels do not depend on it.

    Raises:
        RenderingUnavailable: OpenGL cannot start, or does not answer within a minute.
    """

    def __init__(self, pictures: PictureSource, camera: int, size: int, threads: int) -> None:
        require_pixels()
        make_fast(pictures.model, size)
        self._failure = ""
        self._jobs: list[Future[Any]] = []
        self._workers = [_Worker() for _ in range(threads)]
        self._finalizer = weakref.finalize(self, _stop, self._workers)
        try:
            # One after the other: the first context of a process initialises the display for all of them.
            for worker in self._workers:
                start = partial(worker.start_drawing, pictures, camera, size)
                self._wait([worker.submit(start)], FIRST_FRAME_SECONDS, f"; {another_way()}")
        except RenderingUnavailable:
            self.close()
            raise
        # MuJoCo has its EGL display closed at exit, by a hook it sets with the first context. Hooks run in
        # reverse order, so this one, set later, still finds the display open.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)

    def draw(self, worlds: Ids, frames: Frames) -> None:
        """Draw these worlds into their rows of `frames` (num_worlds, size, size, 3).

        Raises:
            RenderingUnavailable: OpenGL did not answer within a minute, now or in an earlier call.
        """
        self.start(worlds, frames)
        self.finish()

    def start(self, worlds: Ids, frames: Frames) -> None:
        """As draw(), but returns at once; until finish() these worlds must not change."""
        if self._failure:
            raise RenderingUnavailable(self._failure)
        self._require_open()
        waiting = iter(worlds.tolist())  # the threads share it: whoever is free takes the next world
        for worker in self._workers[: len(worlds)]:
            self._jobs.append(worker.submit(partial(worker.draw, waiting, frames)))

    def finish(self) -> None:
        """Wait for all that was started."""
        jobs, self._jobs = self._jobs, []
        self._wait(jobs, DRAW_SECONDS)

    def gl_strings(self) -> dict[str, str]:
        """Who draws: the back end and OpenGL's own vendor and renderer strings."""
        self._require_open()
        strings = self._workers[0].submit(_gl_strings)
        self._wait([strings], DRAW_SECONDS)
        return {"back_end": BACK_END, **strings.result()}

    def close(self) -> None:
        """Free the contexts and end the threads. May be called twice."""
        self._finalizer()
        atexit.unregister(self._finalizer)

    def _require_open(self) -> None:
        if not self._finalizer.alive:
            raise FamilyError("the environment was closed")

    def _wait(self, jobs: "list[Future[Any]]", seconds: float, advice: str = "") -> None:
        deadline = time.monotonic() + seconds
        for job in jobs:
            try:
                job.result(timeout=max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                self._failure = f"OpenGL ({BACK_END}) drew nothing within {seconds:.0f} s{advice}"
                raise RenderingUnavailable(self._failure) from error


def make_fast(model: mujoco.MjModel, size: int) -> None:
    """Set the visual settings of a model to those that are fast at small sizes.

    Without multisampling and shadows, and with fewer slices to a round body, a small picture costs about
    1/50 of MuJoCo's default and, but for the shadow, looks the same. In larger ones, for people, bodies are
    as round as MuJoCo has them.
    """
    quality = model.vis.quality
    quality.offsamples = 0
    quality.shadowsize = 0
    quality.numslices, quality.numstacks = (12, 6) if size <= LARGEST_SMALL else (28, 16)
    model.vis.global_.offwidth = size
    model.vis.global_.offheight = size


def make_scene(model: mujoco.MjModel) -> mujoco.MjvScene:
    """A scene for a model, what is slow and adds little at small sizes turned off."""
    scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 100)
    for flag in (
        mujoco.mjtRndFlag.mjRND_SHADOW,
        mujoco.mjtRndFlag.mjRND_REFLECTION,
        mujoco.mjtRndFlag.mjRND_HAZE,
        mujoco.mjtRndFlag.mjRND_SKYBOX,
    ):
        scene.flags[flag] = False
    return scene


class _Worker(JobThread):
    """A thread and what it draws with. All OpenGL objects are made, used and freed in the thread."""

    def __init__(self) -> None:
        self._canvas: _Canvas | None = None
        super().__init__("envs-render", self._free)

    def start_drawing(self, pictures: PictureSource, camera: int, size: int) -> None:
        self._canvas = _Canvas(pictures, camera, size)
        self._canvas.draw(0, np.zeros((size, size, 3), dtype=np.uint8))

    def draw(self, worlds: Iterator[int], frames: Frames) -> None:
        assert self._canvas is not None
        for world in worlds:
            self._canvas.draw(world, frames[world])

    def _free(self) -> None:
        if self._canvas is not None:
            self._canvas.free()
            self._canvas = None


class _Canvas:
    """One context, one scene and a scratch state; used in one thread only."""

    def __init__(self, pictures: PictureSource, camera: int, size: int) -> None:
        self._gl: GLContext = make_context(size, size)
        self._pictures = pictures
        self._scratch = pictures.scratch()
        model = pictures.model
        self._scene = make_scene(model)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera
        try:
            self._context = make_drawing_context(model)
        except RenderingUnavailable:
            self._gl.free()
            raise
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._capsules = Capsules(model, self._scene, self._context)
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._terrains = np.unique(model.geom_dataid[model.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD])
        self._terrain_data = model.hfield_data.copy()
        self._rows = np.zeros((size, size, 3), dtype=np.uint8)

    def draw(self, world: int, out: Frames) -> None:
        model, data = self._pictures.show(world, self._scratch)
        self._bring_terrain(model)
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, _ALL_CATEGORIES, self._scene)
        self._capsules.replace(model)
        try:
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(self._rows, None, self._viewport, self._context)
        except mujoco.FatalError as error:
            said = f"OpenGL ({BACK_END}) does not draw any more: {error}; {another_way()}"
            raise RenderingUnavailable(said) from error
        out[...] = self._rows[::-1]  # OpenGL's first row is the lowest

    def free(self) -> None:
        self._capsules.free()
        self._context.free()
        self._gl.free()

    def _bring_terrain(self, model: mujoco.MjModel) -> None:
        # OpenGL holds the height fields of one model at a time; they take longer to bring there than to draw.
        if len(self._terrains) and not np.array_equal(model.hfield_data, self._terrain_data):
            for terrain in self._terrains:
                mujoco.mjr_uploadHField(model, self._context, terrain)
            self._terrain_data = model.hfield_data.copy()


_ALL_CATEGORIES = mujoco.mjtCatBit.mjCAT_ALL.value


def _gl_strings() -> dict[str, str]:
    from OpenGL import GL

    names = {"vendor": GL.GL_VENDOR, "renderer": GL.GL_RENDERER}
    return {name: (GL.glGetString(value) or b"unknown").decode() for name, value in names.items()}


def _stop(workers: list[_Worker]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
