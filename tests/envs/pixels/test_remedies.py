"""Why nothing is drawn, and what helps: each cause has its own remedy, and none is waited for."""

import time

import pytest
from scripts import run_program

from metaslac.envs.pixels import back_end, contexts
from metaslac.envs.pixels.back_end import obstacle

# Makes an env twice and prints what is said, each time; what `before` does came first.
TWICE = """
import os, sys
exec(sys.argv[1])
from metaslac import envs
for _ in range(2):
    try:
        env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 2)
        print("draws", env.reset(seed=0)[0].any())
        env.close()
    except envs.RenderingUnavailable as error:
        print(error)
    exec(sys.argv[2])
"""
SECONDS = 20.0  # and not a minute for each time, or for ever

LOADER = "cannot be asked again; start a new one with MUJOCO_GL="
STOCK = """
import gymnasium
os.environ.pop("MUJOCO_GL", None)
try:
    stock = gymnasium.make("InvertedPendulum-v5", render_mode="rgb_array")
    stock.reset()
    stock.render()
except Exception:
    pass
"""
NO_CONTEXT = """
import mujoco
try:
    mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)
except mujoco.FatalError as error:
    pass
"""

needs_egl = pytest.mark.skipif(obstacle("egl") is not None, reason="EGL is not installed")
needs_osmesa = pytest.mark.skipif(obstacle("osmesa") is not None, reason="OSMesa is not installed")


def said(before: str = "", between: str = "", **environment: str) -> list[str]:
    """What is said of each attempt, in time."""
    start = time.monotonic()
    done = run_program(TWICE, before, between, timeout=60, **environment)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < SECONDS
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    return lines


@pytest.mark.parametrize(
    ("environment", "cause", "remedy"),
    [
        ({"MUJOCO_GL": "glfw"}, "OpenGL (glfw) does not start: there is no display", "unset MUJOCO_GL"),
        ({"MUJOCO_GL": "on", "DISPLAY": ":97"}, "GLFW opens no window on display :97", "unset MUJOCO_GL"),
        (
            {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"},
            "MUJOCO_GL=egl cannot be used, for PYOPENGL_PLATFORM=osmesa stands in the way",
            "unset PYOPENGL_PLATFORM or unset MUJOCO_GL",
        ),
        (
            {"PYOPENGL_PLATFORM": "glx"},
            "neither OSMesa nor EGL can be used (PYOPENGL_PLATFORM=glx stands in the way)",
            "unset PYOPENGL_PLATFORM",
        ),
        ({"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"}, "MUJOCO_EGL_DEVICE_ID=99 is no", "unset it"),
        ({"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "abc"}, "MUJOCO_EGL_DEVICE_ID=abc is no", "unset it"),
        ({"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": ""}, "MUJOCO_EGL_DEVICE_ID= is no", "unset it"),
        (
            {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere"},
            "MUJOCO_GL=egl cannot be used, for EGL finds no device to draw on",
            "unset what chooses a driver (__EGL_VENDOR_LIBRARY_FILENAMES=/nowhere) or unset MUJOCO_GL",
        ),
        (
            {"MUJOCO_GL": "osmesa", "MESA_GL_VERSION_OVERRIDE": "1.1"},
            "OpenGL version 1.5 or higher required",
            "unset what chooses a driver (MESA_GL_VERSION_OVERRIDE=1.1)",
        ),
    ],
)
@needs_egl
@needs_osmesa
def test_each_cause_has_its_own_remedy(environment: dict[str, str], cause: str, remedy: str) -> None:
    for line in said(**environment):
        assert cause in line
        assert line.endswith(f"; {remedy}") or line.endswith(f"; {remedy}, to draw without a display")
        assert "install" not in line


@needs_egl
def test_a_device_that_is_there_may_be_named() -> None:
    assert said(MUJOCO_GL="egl", MUJOCO_EGL_DEVICE_ID="0") == ["draws True"] * 2


@needs_osmesa
def test_opengl_that_others_imported_for_something_else_is_named() -> None:
    for line in said("import OpenGL.GL"):
        assert "PyOpenGL was imported before, for GLX" in line
        assert "start a new process with PYOPENGL_PLATFORM=osmesa" in line
    assert said("import OpenGL.GL", PYOPENGL_PLATFORM="osmesa") == ["draws True"] * 2


@pytest.mark.parametrize(
    ("old", "cause"),
    [("off", "MUJOCO_GL=off turns rendering off"), ("wgl", "MUJOCO_GL=wgl names no back end")],
)
@pytest.mark.parametrize(
    ("change", "now"),
    [("os.environ['MUJOCO_GL'] = 'egl'", "egl by now"), ("del os.environ['MUJOCO_GL']", "not set")],
)
def test_a_choice_that_was_changed_too_late_is_told_from_what_is_set_now(
    old: str, cause: str, change: str, now: str
) -> None:
    first, second = said(between=f"if _ == 0:\n    {change}", MUJOCO_GL=old)
    assert cause in first and "new process" not in first
    assert f"when MuJoCo was imported, {cause}; start a new process, for MUJOCO_GL is {now}" in second


@pytest.mark.parametrize("before", [STOCK, NO_CONTEXT], ids=["gymnasium", "MuJoCo"])
@pytest.mark.parametrize("imported", ["", "from metaslac import envs\n"], ids=["before", "after"])
def test_drawing_that_others_have_spoilt_for_good_is_not_waited_for(before: str, imported: str) -> None:
    for line in said(imported + before):
        assert LOADER in line


@needs_egl
def test_functions_that_others_have_failed_to_load_are_told_of() -> None:
    for line in said(NO_CONTEXT, MUJOCO_GL="egl"):
        assert LOADER + "egl" in line


@needs_osmesa
def test_others_may_have_drawn_before() -> None:
    drawing = """
import mujoco
renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"))
assert renderer.render().shape == (240, 320, 3)
"""
    assert said(drawing, MUJOCO_GL="osmesa") == ["draws True"] * 2


@pytest.mark.parametrize(
    ("chosen", "missing", "advice"),
    [
        ("osmesa", (), "try MUJOCO_GL=egl"),
        ("egl", (), "try MUJOCO_GL=osmesa"),
        ("egl", ("osmesa",), "install `libosmesa6`, for MUJOCO_GL=osmesa"),
        ("glfw", (), "unset MUJOCO_GL, to draw without a display"),
    ],
)
def test_what_to_try_is_not_what_has_failed(
    chosen: str, missing: tuple[str, ...], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_end, "BACK_END", chosen)
    found = {name: back_end._not_loaded(name) for name in missing}
    monkeypatch.setattr(back_end, "obstacle", found.get)
    assert back_end.another_way() == advice


def test_what_pyopengl_says_is_one_line() -> None:
    error = RuntimeError("EGLError(\n\terr = EGL_BAD_DISPLAY,\n\tbaseOperation = eglChooseConfig\n)")
    assert contexts._said(error) == "EGL_BAD_DISPLAY"
    assert contexts._said(OSError()) == "OSError"
