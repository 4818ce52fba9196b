"""OpenGL contexts of the chosen back end, and why there is none, in one line.

Which back end that is was chosen in back_end.py; what is drawn is the business of rendering.py.
"""

import ctypes
import importlib
import os
import sys
import warnings
from functools import cache
from typing import Any, Protocol

import mujoco

from metaslac.envs.errors import RenderingUnavailable
from metaslac.envs.pixels.back_end import (
    BACK_END,
    HEADLESS,
    another_way,
    changed_since,
    driver_variables,
    egl_device_fault,
    opengl_for_another,
    require_pixels,
)
from metaslac.envs.pixels.function_loader import ANEW, LOADING_FAILED, check_loader, note_loaded


class GLContext(Protocol):
    """One OpenGL context, current in at most one thread."""

    def make_current(self) -> None: ...

    def free(self) -> None: ...


def make_context(width: int, height: int) -> GLContext:
    """A new context of the chosen back end, current in this thread.

    Raises RenderingUnavailable where there is none, or where MuJoCo cannot draw in one any more.
    """
    require_pixels()
    check_loader()
    _skip_exit_hooks_in_children()
    try:
        if BACK_END in HEADLESS:
            context: GLContext = importlib.import_module(f"mujoco.{BACK_END}").GLContext(width, height)
        else:
            context = _window(width, height)
        context.make_current()
    except _start_errors() as error:
        raise RenderingUnavailable(f"OpenGL ({BACK_END}) does not start: {_why(error)}") from error
    return context


def make_drawing_context(model: mujoco.MjModel) -> mujoco.MjrContext:
    """What MuJoCo draws a model with, in the context that is current; raises RenderingUnavailable."""
    try:
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
    except mujoco.FatalError as error:
        raise RenderingUnavailable(f"OpenGL ({BACK_END}) does not start: {_why(error)}") from error
    note_loaded()
    return context


def _why(error: BaseException) -> str:
    """The cause, and its own remedy."""
    if str(error) == LOADING_FAILED:
        return ANEW
    if found := egl_device_fault() or opengl_for_another(BACK_END):
        return f"{found.cause}; {found.remedy}"
    return f"{_said(error)}; {changed_since() or driver_variables() or another_way()}"


def _said(error: BaseException) -> str:
    """The first line of an error that says something."""
    lines = [line.strip().rstrip(",.").removeprefix("err = ") for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.endswith("(")]  # PyOpenGL begins with EGLError(
    return lines[0] if lines else type(error).__name__


def _window(width: int, height: int) -> GLContext:
    """A context of MuJoCo's own choice, on a display.

    Raises RuntimeError where GLFW opens no window. It says so in warnings only, and MuJoCo, for want of a
    context, would fail once and for all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context: GLContext = mujoco.GLContext(width, height)
        context.make_current()
        glfw: Any = sys.modules.get("glfw")
        opened = mujoco.GLContext.__module__ != "mujoco.glfw" or glfw.get_current_context()
    if not opened:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        raise RuntimeError(f"GLFW opens no window on display {display}" if display else "there is no display")
    return context


def _start_errors() -> tuple[type[BaseException], ...]:
    """What a back end raises when it does not start; looked up late, as PyOpenGL loads with the back end."""
    module: Any = sys.modules.get("OpenGL.error")
    of_opengl = (module.Error,) if module is not None else ()
    return (ImportError, AttributeError, OSError, RuntimeError, ValueError, *of_opengl)


@cache
def _skip_exit_hooks_in_children() -> None:
    """Have forked children leave without the C library's exit hooks, for OSMesa's would never return.

    It waits for the thread that writes its cache, which is not in the child. What Python has to do at exit is
    done before.
    """
    if BACK_END == "osmesa" and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_at_once)


def _leave_at_once() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # calls _exit with the exit status, before hooks that were set earlier
        libc.on_exit(libc._exit, None)
