"""Whether MuJoCo can load OpenGL's functions, which it does once in a process, with whoever draws first.

If there is no OpenGL then, as with GLFW where no display is, whoever draws next waits for ever and holds
Python's lock, so that no time-out helps. That is found out here before, in a child.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress

import mujoco

from metaslac.envs.errors import RenderingUnavailable
from metaslac.envs.pixels.back_end import BACK_END, HEADLESS, MUJOCO_CAME_FIRST

LOADING_FAILED = "gladLoadGL error"  # what MuJoCo says ever after, if it did not end in waiting
ANEW = (
    "MuJoCo was asked to draw in this process before, where there was no OpenGL, and cannot be asked again; "
    f"start a new one with MUJOCO_GL={BACK_END if BACK_END in HEADLESS else 'egl or osmesa'}, "
    "for all that draws with MuJoCo"
)
SECONDS_TO_FAIL = 3.0  # a child needs milliseconds
TRIES = 2

# Either is for good, as it is with MuJoCo's functions.
_loaded, _waits = threading.Event(), threading.Event()


def check_loader() -> None:
    """Raise RenderingUnavailable if MuJoCo would wait for ever; call it where no context is current."""
    others_may_have_drawn = MUJOCO_CAME_FIRST or "glfw" in sys.modules
    if _loaded.is_set() or not others_may_have_drawn or not hasattr(os, "fork"):
        return
    if _waits.is_set() or not any(_child_returns() for _ in range(TRIES)):
        _waits.set()
        raise RenderingUnavailable(f"OpenGL ({BACK_END}) cannot be used: {ANEW}")


def note_loaded() -> None:
    """Say that MuJoCo has loaded the functions."""
    _loaded.set()


def _child_returns() -> bool:
    """Whether a forked child that has MuJoCo load the functions comes to an end, whatever it is."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that the child has not got, and does without
        child = os.fork()
    if child == 0:
        _load_and_exit(model)
    deadline = time.monotonic() + SECONDS_TO_FAIL
    try:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return False
            time.sleep(0.001)
    except ChildProcessError:  # it was waited for elsewhere, as where SIGCHLD is ignored
        pass
    return True


def _load_and_exit(model: mujoco.MjModel) -> None:
    try:
        faulthandler.disable()  # it may crash in want of a context, which is as good as an error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with suppress(mujoco.FatalError):
            mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    finally:
        os._exit(0)
