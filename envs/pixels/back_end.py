"""Which OpenGL MuJoCo draws with, chosen before anything imports MuJoCo, for importing it fixes the choice.

Contexts are handed out here; what is drawn in them is the business of rendering.py.
"""

import ctypes
import importlib
import os
import platform
import sys
from typing import Any, Protocol

from metaslac.envs.errors import RenderingUnavailable
from metaslac.envs.pixels.egl_devices import cuda_devices, devices, place_of_cuda_device

_OFF = ("off", "disable", "disabled", "false", "0")
_HEADLESS = ("osmesa", "egl")
_PACKAGES = {"osmesa": "`libosmesa6`", "egl": "`libegl1 libopengl0 libgl1-mesa-dri`"}
_REMEDY = f"install the Debian package {_PACKAGES['osmesa']}, or the packages {_PACKAGES['egl']}"


class GLContext(Protocol):
    """One OpenGL context, current in at most one thread."""

    def make_current(self) -> None: ...

    def free(self) -> None: ...


def prepare() -> tuple[str, str]:
    """Choose a back end; returns its name and the reason why pixels are impossible, '' if they are not.

    A back end that the user named in MUJOCO_GL is kept. Otherwise OSMesa and EGL are tried in this order, and
    in the other where EGL has a GPU.
    Where nothing can be loaded, MuJoCo is imported with rendering off, so that physics still works.
    """
    # One 64x64 picture is a single llvmpipe tile: more threads only hand it back and forth.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if platform.system() != "Linux":
        return asked or "system", ""
    if not asked:
        found = next((name for name in _preferred() if loads(name)), None)
        if found is None:
            _import_mujoco_without_rendering()
            return "off", f"neither OSMesa nor EGL can be loaded; {_REMEDY}"
        os.environ["MUJOCO_GL"] = found
        return found, ""
    if asked in _OFF:
        return "off", f"MUJOCO_GL={asked} turns rendering off; unset it"
    if asked in _HEADLESS and not loads(asked):
        _import_mujoco_without_rendering()
        remedy = f"install {_PACKAGES[asked]} or unset MUJOCO_GL"
        return asked, f"the libraries for MUJOCO_GL={asked} cannot be loaded; {remedy}"
    if asked not in (*_HEADLESS, "glfw", "glx", "enable", "enabled", "on", "true", "1"):
        _import_mujoco_without_rendering()
        return asked, f"MUJOCO_GL={asked} names no back end; unset it or use osmesa or egl"
    return asked, ""


def loads(name: str) -> bool:
    """Whether the libraries of 'osmesa' or 'egl' load and, for EGL, show a device to draw on."""
    if os.environ.get("PYOPENGL_PLATFORM", "").lower() not in ("", name):
        return False
    if name == "osmesa":
        return _library("OSMesa") is not None
    egl = _library("EGL")
    return egl is not None and (_library("OpenGL") or _library("GL")) is not None and bool(devices(egl))


def draw_on_cuda_device(number: int) -> None:
    """Draw on the GPU that computes, where there are several and EGL draws; before the first environment.

    MUJOCO_EGL_DEVICE_ID is set for MuJoCo to read, unless the user has set it.
    """
    if BACK_END != "egl" or "MUJOCO_EGL_DEVICE_ID" in os.environ or (egl := _library("EGL")) is None:
        return
    place = place_of_cuda_device(number, cuda_devices(egl))
    if place is not None:
        os.environ["MUJOCO_EGL_DEVICE_ID"] = str(place)


def make_context(width: int, height: int) -> GLContext:
    """A new context of the chosen back end; raises RenderingUnavailable where there is none."""
    require_pixels()
    import mujoco

    try:
        if BACK_END in _HEADLESS:
            context: GLContext = importlib.import_module(f"mujoco.{BACK_END}").GLContext(width, height)
        else:
            context = mujoco.GLContext(width, height)
        context.make_current()
    except _start_errors() as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RenderingUnavailable(f"OpenGL ({BACK_END}) does not start: {first_line}; {_REMEDY}") from error
    return context


def require_pixels() -> None:
    """Raise RenderingUnavailable if no picture can be drawn in this process."""
    if UNAVAILABLE:
        raise RenderingUnavailable(f"pixels cannot be rendered: {UNAVAILABLE}")


def _preferred() -> tuple[str, ...]:
    egl = _library("EGL")
    return ("egl", "osmesa") if egl is not None and cuda_devices(egl) else _HEADLESS


def _import_mujoco_without_rendering() -> None:
    # With a back end that does not load, `import mujoco` itself fails. The user's value is put back
    # afterwards, so that child processes see it.
    asked = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "off"
    try:
        importlib.import_module("mujoco")
    finally:
        if asked is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = asked


def _library(name: str) -> ctypes.CDLL | None:
    # The names that PyOpenGL tries, so that what loads here loads there.
    for suffix in ("", *(f".{version}" for version in range(9, -1, -1))):
        try:
            return ctypes.CDLL(f"lib{name}.so{suffix}")
        except OSError:
            continue
    return None


def _start_errors() -> tuple[type[BaseException], ...]:
    """What a back end raises when it does not start; looked up late, as PyOpenGL loads with the back end."""
    module: Any = sys.modules.get("OpenGL.error")
    of_opengl = (module.Error,) if module is not None else ()
    return (ImportError, AttributeError, OSError, RuntimeError, *of_opengl)


BACK_END, UNAVAILABLE = prepare()
