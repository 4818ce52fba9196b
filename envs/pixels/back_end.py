"""Which OpenGL MuJoCo draws with, chosen before anything imports MuJoCo, for importing it fixes the choice.

What keeps one from being used is said here; contexts are handed out in contexts.py.
"""

import ctypes
import importlib
import os
import platform
import sys
from typing import Any, NamedTuple

from metaslac.envs.errors import RenderingUnavailable
from metaslac.envs.pixels.egl_devices import cuda_devices, devices, place_of_cuda_device

HEADLESS = ("osmesa", "egl")
MUJOCO_CAME_FIRST = "mujoco" in sys.modules  # so that others may have drawn before

_PLATFORM = os.environ.get("PYOPENGL_PLATFORM", "")  # as the user has it: MuJoCo sets it when it is imported
_OFF = ("off", "disable", "disabled", "false", "0")
_WITH_A_DISPLAY = ("glfw", "glx", "enable", "enabled", "on", "true", "1")
_PACKAGES = {"osmesa": "`libosmesa6`", "egl": "`libegl1 libopengl0 libgl1-mesa-dri`"}
_REMEDY = f"install the Debian package {_PACKAGES['osmesa']}, or the packages {_PACKAGES['egl']}"
_DRIVER_VARIABLES = (
    "__EGL_VENDOR_LIBRARY_DIRS",
    "__EGL_VENDOR_LIBRARY_FILENAMES",
    "GALLIUM_DRIVER",
    "LIBGL_DRIVERS_PATH",
    "MESA_GL_VERSION_OVERRIDE",
    "MESA_LOADER_DRIVER_OVERRIDE",
)


class Obstacle(NamedTuple):
    """What keeps a back end from drawing, and what to do about it."""

    cause: str
    remedy: str


def prepare() -> tuple[str, Obstacle | None]:
    """Choose a back end; returns its name and what makes pixels impossible, if anything does.

    A back end that the user named in MUJOCO_GL is kept. Otherwise OSMesa and EGL are tried in this order, and
    in the other where EGL has a GPU.
    Where nothing can be loaded, MuJoCo is imported with rendering off, so that physics still works.
    """
    # One 64x64 picture is a single llvmpipe tile: more threads only hand it back and forth.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if platform.system() != "Linux":
        return asked or "system", None
    if asked in _OFF:
        return "off", Obstacle(f"MUJOCO_GL={asked} turns rendering off", "unset it")
    name, found = (asked, _obstacle_to(asked)) if asked else _best()
    if found is not None:
        _import_mujoco_without_rendering()
    elif not asked:
        os.environ["MUJOCO_GL"] = name
    return name, found


def obstacle(name: str) -> Obstacle | None:
    """What keeps 'osmesa' or 'egl' from loading in a new process, if anything does.

    EGL is no use without a device to draw on.
    """
    if _PLATFORM.lower() not in ("", name):
        return Obstacle(f"PYOPENGL_PLATFORM={_PLATFORM} stands in the way", "unset PYOPENGL_PLATFORM")
    if name == "osmesa":
        return None if _library("OSMesa") is not None else _not_loaded(name)
    egl = _library("EGL")
    if egl is None or (_library("OpenGL") or _library("GL")) is None:
        return _not_loaded(name)
    if not devices(egl):
        remedy = driver_variables() or "install `libgl1-mesa-dri` or the driver of the GPU"
        return Obstacle("EGL finds no device to draw on", remedy)
    return None


def driver_variables() -> str:
    """Of the environment variables that choose a driver, those that are set, as a remedy; '' if none is."""
    found = ", ".join(f"{name}={os.environ[name]}" for name in _DRIVER_VARIABLES if name in os.environ)
    return f"unset what chooses a driver ({found})" if found else ""


def another_way() -> str:
    """What to do where the chosen back end does not draw: use one that loads, or have one that does."""
    others = {name: obstacle(name) for name in HEADLESS if name != BACK_END}
    usable = [name for name, found in others.items() if found is None]
    if usable and BACK_END not in HEADLESS:
        return "unset MUJOCO_GL, to draw without a display"
    if usable:
        return f"try MUJOCO_GL={usable[0]}"
    remedies = [f"{found.remedy}, for MUJOCO_GL={name}" for name, found in others.items() if found]
    return " or ".join(remedies)


def opengl_for_another(name: str) -> Obstacle | None:
    """An import of PyOpenGL for another back end than this, to which it then keeps; if there was one."""
    platform_there: Any = getattr(sys.modules.get("OpenGL.platform"), "PLATFORM", None)
    loaded = type(platform_there).__name__.removesuffix("Platform")
    if platform_there is None or name not in HEADLESS or loaded.lower() == name:
        return None
    remedy = f"start a new process with PYOPENGL_PLATFORM={name}"
    return Obstacle(f"PyOpenGL was imported before, for {loaded}", remedy)


def egl_device_fault() -> Obstacle | None:
    """What is wrong with MUJOCO_EGL_DEVICE_ID where EGL draws, if anything is."""
    asked, egl = os.environ.get("MUJOCO_EGL_DEVICE_ID"), _library("EGL")
    if BACK_END != "egl" or asked is None or egl is None:
        return None
    count = len(devices(egl))
    if asked.strip().isdecimal() and int(asked) < count:
        return None
    has = f"0 to {count - 1}" if count > 1 else "0 only"
    return Obstacle(f"MUJOCO_EGL_DEVICE_ID={asked} is no device: EGL has {has}", "unset it")


def changed_since() -> str:
    """What to do if MUJOCO_GL was changed after the back end had been chosen; '' if it was not."""
    now = os.environ.get("MUJOCO_GL")
    if now == _AS_CHOSEN:
        return ""
    value = "not set any more" if now is None else f"{now} by now"
    return f"start a new process, for MUJOCO_GL is {value}"


def draw_on_cuda_device(number: int) -> None:
    """Draw on the GPU that computes, where there are several and EGL draws; before the first environment.

    MUJOCO_EGL_DEVICE_ID is set for MuJoCo to read, unless the user has set it.
    """
    if BACK_END != "egl" or "MUJOCO_EGL_DEVICE_ID" in os.environ or (egl := _library("EGL")) is None:
        return
    place = place_of_cuda_device(number, cuda_devices(egl))
    if place is not None:
        os.environ["MUJOCO_EGL_DEVICE_ID"] = str(place)


def require_pixels() -> None:
    """Raise RenderingUnavailable if no picture can be drawn in this process."""
    if OBSTACLE is not None:
        changed = changed_since()
        when = "when MuJoCo was imported, " if changed else ""
        remedy = changed or OBSTACLE.remedy
        raise RenderingUnavailable(f"pixels cannot be rendered: {when}{OBSTACLE.cause}; {remedy}")


def _obstacle_to(asked: str) -> Obstacle | None:
    """What is wrong with what MUJOCO_GL asks for."""
    if asked not in (*HEADLESS, *_WITH_A_DISPLAY):
        return Obstacle(f"MUJOCO_GL={asked} names no back end", "unset it or use osmesa or egl")
    found = _obstacle_here(asked) if asked in HEADLESS else None
    if found is None:
        return None
    cause = f"MUJOCO_GL={asked} cannot be used, for {found.cause}"
    if found == _not_loaded(asked):
        cause = f"the libraries for MUJOCO_GL={asked} cannot be loaded"
    unset = " or unset MUJOCO_GL" if any(_obstacle_here(name) is None for name in HEADLESS) else ""
    return Obstacle(cause, found.remedy + unset)


def _obstacle_here(name: str) -> Obstacle | None:
    return obstacle(name) or opengl_for_another(name)


def _best() -> tuple[str, Obstacle | None]:
    """The first back end that loads, or what keeps both from it."""
    obstacles: dict[str, Obstacle] = {}
    for name in _preferred():
        found = _obstacle_here(name)
        if found is None:
            return name, None
        obstacles[name] = found
    if all(found == _not_loaded(name) for name, found in obstacles.items()):
        return "off", Obstacle("neither OSMesa nor EGL can be loaded", _REMEDY)
    causes = dict.fromkeys(found.cause for found in obstacles.values())
    remedies = dict.fromkeys(found.remedy for found in obstacles.values())
    why = causes if len(causes) == 1 else [f"{name}: {found.cause}" for name, found in obstacles.items()]
    return "off", Obstacle(f"neither OSMesa nor EGL can be used ({', '.join(why)})", " or ".join(remedies))


def _not_loaded(name: str) -> Obstacle:
    return Obstacle("its libraries cannot be loaded", f"install {_PACKAGES[name]}")


def _preferred() -> tuple[str, ...]:
    egl = _library("EGL")
    return ("egl", "osmesa") if egl is not None and cuda_devices(egl) else HEADLESS


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


BACK_END, OBSTACLE = prepare()
_AS_CHOSEN = os.environ.get("MUJOCO_GL")
