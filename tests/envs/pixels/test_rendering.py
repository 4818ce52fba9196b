"""Rendering: nothing leaks into the picture, threads do not change it, and a missing OpenGL is explained."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mujoco
import numpy as np
import pytest
from scripts import run_program

from metaslac import envs
from metaslac.envs.arrays import Frames
from metaslac.envs.families.walker import WalkerRandParams
from metaslac.envs.pixels import rendering
from metaslac.envs.pixels.back_end import BACK_END

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
from metaslac import envs
from metaslac.envs.simulation import Simulation
family = envs.make_family("point_robot")
Simulation(family.model(), 2, 1)
try:
    envs.make_vector_env(family, 2)
except envs.RenderingUnavailable as error:
    print(error)
"""
HASH_EPISODES = """
import hashlib, json, sys
import numpy as np
import envs, metaslac.envs.pixels.back_end
def episode(name):
    family = envs.make_family(name)
    env = envs.make_vector_env(family, 4, threads=int(sys.argv[1]))
    rng = np.random.default_rng(0)
    told.setdefault("renderer", env.renderer["renderer"])
    digest = hashlib.sha256(env.reset(seed=0)[0])
    for _ in range(15):
        digest.update(env.step(rng.uniform(-1, 1, (4, family.action_size)))[0])
    env.close()
    return digest.hexdigest()
from metaslac.envs.pixels.back_end import OBSTACLE
told = {"unavailable": OBSTACLE.cause} if OBSTACLE else {}
if not told:
    told |= {name: [episode(name), episode(name)] for name in (*envs.family_names(), "dmc:humanoid-run")}
print(json.dumps(told))
"""


class Leaking(WalkerRandParams):
    """The walker with the camera it comes with, which follows the centre of mass and so tells the masses."""

    def model(self) -> mujoco.MjModel:
        model = super().model()
        model.camera(self.camera).mode[:] = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM.value
        return model


@pytest.mark.parametrize("name", envs.family_names())
def test_no_task_can_be_told_by_a_picture(name: str) -> None:
    assert not [task for frames in _frames_of_all_tasks(envs.make_family(name)) for task in _odd_ones(frames)]


def test_a_camera_that_follows_the_centre_of_mass_would_be_found_out() -> None:
    family = Leaking()
    for frames in _frames_of_all_tasks(family):
        assert len(_odd_ones(frames)) > len(family.tasks) / 2


def test_egl_and_osmesa_draw_the_same_pictures() -> None:
    egl, osmesa = _episodes("egl", 1), _episodes("osmesa", 1)
    for back_end, told in (("egl", egl), ("osmesa", osmesa)):
        if "unavailable" in told:
            pytest.skip(f"{back_end} cannot be loaded here: {told['unavailable']}")
    if egl["renderer"] != osmesa["renderer"]:
        pytest.skip(f"EGL is not Mesa's software here: {egl['renderer']}, and not {osmesa['renderer']}")
    assert egl == osmesa


def test_another_process_with_more_threads_draws_the_same_pictures() -> None:
    back_end = BACK_END if BACK_END in ("egl", "osmesa") else ""
    told, again = _episodes(back_end, 1), _episodes(back_end, 3)
    assert told == again
    hashes = [told[name] for name in envs.family_names()]
    assert len({first for first, _ in hashes}) > len(hashes) / 2  # cheetah_vel and cheetah_dir look alike
    for first, second in hashes:
        assert first == second


def test_a_driver_that_hangs_later_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "DRAW_SECONDS", 0.2)
    monkeypatch.setattr(rendering, "STOP_SECONDS", 0.2)
    env = envs.make_vector_env(envs.make_family("point_robot", image_size=32), 4, threads=2)
    env.reset(seed=0)
    assert env._pixels is not None
    driver, workers = threading.Event(), env._pixels._workers
    for worker in workers:
        free = cast(Any, worker._canvas).free
        worker._canvas = cast(Any, SimpleNamespace(draw=lambda world, out: driver.wait(), free=free))
    said = f"OpenGL \\({BACK_END}\\) drew nothing within"
    start = time.monotonic()
    with pytest.raises(envs.RenderingUnavailable, match=said):
        env.step(np.zeros((4, 2)))
    monkeypatch.setattr(rendering, "DRAW_SECONDS", 60.0)
    with pytest.raises(envs.RenderingUnavailable, match=said):  # at once
        env.reset()
    env.close()
    assert time.monotonic() - start < 5.0
    driver.set()
    for worker in workers:
        worker.join(5.0)
        assert not worker._thread.is_alive()


@pytest.mark.parametrize("name", envs.family_names())
def test_pictures_do_not_depend_on_the_number_of_threads(name: str) -> None:
    family = envs.make_family(name)
    one, two = (envs.make_vector_env(family, 5, threads=threads) for threads in (1, 2))
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
    env = envs.make_vector_env(envs.make_family("cheetah_vel", image_size=size), 1)
    assert env.reset(seed=0)[0].shape == (1, size, size, 3)
    env.close()


def test_many_envs_can_come_and_go() -> None:
    family = envs.make_family("point_robot", image_size=32)
    expected = None
    for _ in range(10):
        env = envs.make_vector_env(family, 2, threads=2)
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
    program = "import mujoco, envs; env = envs.make_vector_env(envs.make_family('point_robot'), 1);"
    program += "print(env.reset(seed=0)[0].mean())"
    assert float(_run(program, "").stdout) > 0


def test_the_choice_is_made_before_mujoco_is_imported() -> None:
    program = (
        "import os, metaslac.envs.pixels.back_end as b, mujoco; print(b.BACK_END, os.environ['MUJOCO_GL'],"
        " os.environ['LP_NUM_THREADS'], mujoco.GLContext.__module__)"
    )
    back_end = envs.make_vector_env(envs.make_family("point_robot"), 1).renderer["back_end"]
    chosen, variable, threads, module = _run(program, back_end).stdout.split()
    assert (chosen, variable, threads, module) == (back_end, back_end, "0", f"mujoco.{back_end}")


def test_an_env_left_open_does_not_disturb_the_end_of_the_process() -> None:
    program = "import envs; env = envs.make_vector_env(envs.make_family('point_robot'), 2); env.reset(seed=0)"
    result = _run(program, os.environ.get("MUJOCO_GL", ""))
    assert (result.returncode, result.stderr) == (0, "")


def test_probe_prints_json() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "metaslac.envs.probe"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    report = json.loads(result.stdout)
    assert set(report) == {"back_end", "vendor", "renderer", "frames_per_second"}
    assert report["frames_per_second"] > 50


def _frames_of_all_tasks(family: envs.TaskFamily) -> Iterator[Frames]:
    """Pictures of a world for each task, all at the same positions: at a start, then in mid-motion."""
    count = len(family.tasks)
    env = envs.make_vector_env(type(family)(image_size=64, observation="state"), count)
    env.reset(seed=[3] * count, options={"task": list(range(count))})
    simulation = env.worlds.simulation  # type: ignore[attr-defined]
    for _ in range(2):
        qpos, qvel = simulation.qpos[0].copy(), simulation.qvel[0].copy()
        simulation.reset(np.arange(count), np.tile(qpos, (count, 1)), np.tile(qvel, (count, 1)))
        frames = np.stack(env.render())
        assert frames[0].max() > frames[0].min()
        yield frames
        rng = np.random.default_rng(0)
        for _ in range(8):
            env.step(np.tile(rng.uniform(-1, 1, family.action_size), (count, 1)))
    env.close()


def _odd_ones(frames: Frames) -> list[int]:
    """The pictures that differ from the first."""
    return [place for place, frame in enumerate(frames) if not np.array_equal(frame, frames[0])]


@cache
def _episodes(back_end: str, threads: int) -> dict[str, Any]:
    """Hashes of two runs of an episode of every family, drawn in a process of its own."""
    result = _run(HASH_EPISODES, back_end, str(threads))
    assert result.returncode == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def _run(program: str, back_end: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process that names `back_end`, or none if ''."""
    return run_program(program, *arguments, **({"MUJOCO_GL": back_end} if back_end else {}))
