"""Rendering: nothing leaks into the picture, threads do not change it, and a missing OpenGL is explained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import envs

ROOT = Path(envs.__file__).resolve().parents[1]

WITHOUT_LIBRARIES = """
import ctypes
class WithoutOpenGL(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if any(part in str(name) for part in ("OSMesa", "EGL", "OpenGL", "libGL")):
            raise OSError(name)
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = WithoutOpenGL
"""
ASK_FOR_PIXELS = """
import envs
from envs.simulation import Simulation
family = envs.make_family("point_robot")
Simulation(family.model(), 2, 1)
try:
    family.make_vector_env(2)
except envs.RenderingUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize("name", envs.family_names())
def test_tasks_cannot_be_told_apart_by_a_picture(name: str) -> None:
    family = envs.make_family(name)
    env = family.make_vector_env(8)
    spread = np.linspace(0, len(family.tasks) - 1, 8).astype(int)
    frames, _ = env.reset(seed=[3] * 8, options={"tasks": spread})
    assert frames[0].max() > frames[0].min()
    assert (frames == frames[0]).all()
    env.close()


@pytest.mark.parametrize("name", envs.family_names())
def test_pictures_do_not_depend_on_the_number_of_threads(name: str) -> None:
    family = envs.make_family(name)
    one, two = (family.make_vector_env(5, threads=threads) for threads in (1, 2))
    rng = np.random.default_rng(0)
    first, second = one.reset(seed=0)[0], two.reset(seed=0)[0]
    for _ in range(10):
        np.testing.assert_array_equal(first, second)
        actions = rng.uniform(-1, 1, (5, family.action_size))
        first, second = one.step(actions)[0], two.step(actions)[0]
    assert not (first == first[0]).all()
    one.close()
    two.close()


@pytest.mark.parametrize("size", [32, 64, 128])
def test_image_size_is_an_option(size: int) -> None:
    env = envs.make_family("cheetah_vel", image_size=size).make_vector_env(1)
    assert env.reset(seed=0)[0].shape == (1, size, size, 3)
    env.close()


def test_many_envs_can_come_and_go() -> None:
    family = envs.make_family("point_robot", image_size=32)
    expected = None
    for _ in range(10):
        env = family.make_vector_env(2, threads=2)
        frames, _ = env.reset(seed=0)
        assert expected is None or (frames == expected).all()
        expected = frames
        env.close()


@pytest.mark.parametrize(
    ("back_end", "said"),
    [
        ("", "pixels cannot be rendered: neither OSMesa nor EGL can be loaded; install the Debian package"),
        ("egl", "MUJOCO_GL=egl cannot be loaded; install `libegl1 libopengl0 libgl1-mesa-dri`"),
        ("osmesa", "MUJOCO_GL=osmesa cannot be loaded; install `libosmesa6`"),
    ],
)
def test_without_opengl_physics_works_and_pixels_name_the_packages(back_end: str, said: str) -> None:
    result = _run(WITHOUT_LIBRARIES + ASK_FOR_PIXELS, back_end)
    message = result.stdout
    assert said in message, result.stderr
    assert message.count("\n") == 1
    if not back_end:
        assert "`libosmesa6`" in message
        assert "`libegl1 libopengl0 libgl1-mesa-dri`" in message


@pytest.mark.parametrize(
    ("back_end", "said"), [("nonsense", "names no back end"), ("off", "turns rendering off")]
)
def test_a_back_end_that_cannot_draw_is_explained(back_end: str, said: str) -> None:
    assert f"MUJOCO_GL={back_end} {said}" in _run(ASK_FOR_PIXELS, back_end).stdout


def test_mujoco_may_have_been_imported_before() -> None:
    program = "import mujoco, envs; env = envs.make_family('point_robot').make_vector_env(1);"
    program += "print(env.reset(seed=0)[0].mean())"
    assert float(_run(program, "").stdout) > 0


def test_the_choice_is_made_before_mujoco_is_imported() -> None:
    program = (
        "import os, envs.back_end as b, mujoco; print(b.BACK_END, os.environ['MUJOCO_GL'],"
        " os.environ['LP_NUM_THREADS'], mujoco.GLContext.__module__)"
    )
    back_end = envs.make_family("point_robot").make_vector_env(1).renderer["back_end"]
    chosen, variable, threads, module = _run(program, back_end).stdout.split()
    assert (chosen, variable, threads, module) == (back_end, back_end, "0", f"mujoco.{back_end}")


def test_an_env_left_open_does_not_disturb_the_end_of_the_process() -> None:
    program = "import envs; env = envs.make_family('point_robot').make_vector_env(2); env.reset(seed=0)"
    result = _run(program, os.environ.get("MUJOCO_GL", ""))
    assert (result.returncode, result.stderr) == (0, "")


def test_probe_prints_json() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "envs.probe"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    report = json.loads(result.stdout)
    assert set(report) == {"back_end", "vendor", "renderer", "frames_per_second"}
    assert report["frames_per_second"] > 50


def _run(program: str, back_end: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process that names `back_end`, or none if ''."""
    hidden = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "LP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    if back_end:
        environment["MUJOCO_GL"] = back_end
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
