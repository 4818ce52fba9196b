"""When an env that fails again and again is given up, what is raised as it is, and what closing leaves."""

import gc
import subprocess
import sys
import threading
import time
import traceback
import weakref
from pathlib import Path
from typing import Any

import pytest
from snags import LONG, PUSH, SHORT, Snag, Snagging, lost, make

from metaslac import envs
from metaslac.envs.errors import FamilyError, RenderingUnavailable
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.worlds import supervision

ROOT = Path(envs.__file__).resolve().parents[1]


@pytest.mark.parametrize("hook", ["reward", "start_state"])
def test_it_is_given_up_if_no_step_is_made_in_between(
    hook: str, snag: Snag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "CLOSE_SECONDS", LONG)  # which closing need not wait for
    env = make(Snagging(**{hook: snag}))
    env.reset(seed=0)
    env.step(PUSH)
    start = time.monotonic()
    snag.set(supervision.MOST_RESTARTS + 1)
    said = r"^snagging: the environment failed 4 times without a step in between, at last: .* did not return"
    with pytest.raises(FamilyError, match=said) as caught:
        for _ in range(supervision.MOST_RESTARTS + 1):
            env.step(PUSH)
            env.step(PUSH)  # of no world, which does not count
            env.reset(seed=0)  # does not count either
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, RenderingUnavailable)
    assert env.restarts == supervision.MOST_RESTARTS
    for call in (env.reset, env.render, lambda: env.step(PUSH), lambda: env.params):
        with pytest.raises(FamilyError, match=said):  # at once
            call()
    env.close()
    assert time.monotonic() - start < LONG / 2


def test_steps_in_between_keep_it_going(snag: Snag) -> None:
    env = make(Snagging(reward=snag))
    for count in range(1, supervision.MOST_RESTARTS + 3):
        env.reset(seed=0)
        env.step(PUSH)
        snag.set()
        assert env.step(PUSH)[4]["lost"].all()
        assert env.restarts == count
    env.close()


def test_an_env_whose_replacements_cannot_draw_is_given_up(
    snag: Snag, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> None:
        raise RenderingUnavailable("no display")

    env = make(Snagging(reward=snag))
    env.reset(seed=0)
    monkeypatch.setattr("metaslac.envs.pixels.rendering._Worker.start_drawing", refused)
    snag.set()
    said = "snagging: the environment failed 4 times without a step in between, at last: no display"
    with pytest.raises(RenderingUnavailable, match=said):
        env.step(PUSH)
    assert env.restarts == supervision.MOST_RESTARTS
    with pytest.raises(RenderingUnavailable, match="^no display$"):
        make(PointRobot(image_size=32))


def test_a_replacement_that_hangs_is_replaced(snag: Snag, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_once() -> None:
        if slow:
            slow.pop()
            monkeypatch.setattr(supervision, "MAKE_SECONDS", LONG)
            snag._released.wait(LONG)

    slow: list[int] = []
    env = make(Snagging(reward=snag, model=hang_once))
    frames, _ = env.reset(seed=0)
    slow.append(1)
    snag.set()
    monkeypatch.setattr(supervision, "MAKE_SECONDS", 1.0)
    lost(env.step(PUSH), frames, [True] * 3)
    assert env.restarts == 2
    assert env.last_fault.startswith("making the environment did not return within 1 s")
    env.close()


@pytest.mark.parametrize("kind", [ZeroDivisionError, TimeoutError, FamilyError])
def test_errors_of_a_familys_own_code_are_raised_as_they_are(kind: type[Exception], snag: Snag) -> None:
    def fail() -> None:
        if wrong:
            raise kind("mine")

    wrong: list[int] = []
    env = make(Snagging(reward=fail, start_state=fail, model=fail))
    env.reset(seed=0)
    wrong.append(1)
    for call in (env.reset, lambda: env.step(PUSH), lambda: make(env.family)):
        with pytest.raises(kind, match="^mine$") as caught:
            call()
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
    wrong.clear()
    env.reset(seed=0)
    env.step(PUSH)
    assert env.restarts == 0
    env.close()


def test_bad_input_is_refused_as_by_the_bare_env(snag: Snag) -> None:
    env = make(PointRobot(image_size=32))
    with pytest.raises(FamilyError, match="reset every world before the first step"):
        env.step(PUSH)
    with pytest.raises(FamilyError, match="unknown reset options"):
        env.reset(options={"tasks": 0})
    env.reset(seed=0)
    with pytest.raises(FamilyError, match=r"in \[-1, 1\], got 2.0 in world 0"):
        env.step(4 * PUSH)
    with pytest.raises(FamilyError, match="num_envs must be at least 1"):
        make(PointRobot(), 0)
    assert env.restarts == 0
    env.close()


def test_a_closed_env_says_so(snag: Snag) -> None:
    env = make(PointRobot(image_size=32))
    env.reset(seed=0)
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step(PUSH), env.render):
        with pytest.raises(FamilyError, match="the environment was closed"):
            call()


def test_threads_do_not_add_up(snag: Snag) -> None:
    """Those of replaced envs end once nothing holds them, and before that there is one for each hang."""
    env = make(Snagging(start_state=snag))
    before = {thread.name for thread in threading.enumerate()}
    names = [thread.name for thread in threading.enumerate()]
    snag.set(2)
    env.reset(seed=0)
    assert {thread.name for thread in threading.enumerate()} == before
    hung = [thread.name for thread in threading.enumerate()].count("envs-supervised")
    assert hung == names.count("envs-supervised") + 2
    snag.release()
    deadline = time.monotonic() + LONG
    while sorted(thread.name for thread in threading.enumerate()) != sorted(names):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    env.step(PUSH)
    env.close()


def test_an_env_that_nobody_holds_ends_its_threads(snag: Snag) -> None:
    env = make(Snagging(reward=snag))
    env.reset(seed=0)
    snag.set()
    env.step(PUSH)
    gone = weakref.ref(env)
    del env
    gc.collect()
    assert gone() is None  # that the threads end is seen by the fixture


def test_closing_waits_for_a_hang_only_so_long(snag: Snag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "CLOSE_SECONDS", SHORT)
    env = make(Snagging(reward=snag))
    env.reset(seed=0)
    snag.set()
    stepping = threading.Thread(target=env.step, args=[PUSH])
    monkeypatch.setattr(supervision, "STEP_SECONDS", LONG)
    stepping.start()
    while snag._left:
        time.sleep(0.01)
    start = time.monotonic()
    env.close()
    assert time.monotonic() - start < LONG / 2
    assert stepping.is_alive()
    snag.release()
    stepping.join()


LEFT_OPEN = """
import threading
import numpy as np
from metaslac import envs
from metaslac.envs.worlds import supervision
from metaslac.envs.families.point_robot import PointRobot
class Hanging(PointRobot):
    hangs = False
    def reward(self, step):
        if Hanging.hangs:
            Hanging.hangs = False
            threading.Event().wait()
        return super().reward(step)
env = envs.make_vector_env(Hanging(image_size=32), 2, tolerant=True)
env.reset(seed=0)
env.step(np.zeros((2, 2)))
Hanging.hangs, supervision.STEP_SECONDS = True, 0.3
print(env.step(np.zeros((2, 2)))[4]["lost"].all())
"""


def test_envs_left_open_or_hung_do_not_disturb_the_end_of_the_process() -> None:
    command = [sys.executable, "-c", LEFT_OPEN]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")
