"""Envs that hang or cannot draw are replaced: what is lost by it, what is not, and when it is given up."""

import gc
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import envs
from envs import rendering, supervision
from envs.errors import FamilyError, RenderingUnavailable
from envs.family import Step
from envs.point_robot import PointRobot
from envs.supervision import SupervisedVectorEnv

ROOT = Path(envs.__file__).resolve().parents[1]
LONG, SHORT = 60.0, 0.3  # seconds: for what works on a busy machine, and for what hangs anyway
PUSH = np.full((3, 2), 0.5)


class Snag:
    """Something that hangs in each of its next `times` calls until it is let go.

    Only those calls are waited for shortly: all that works has a minute, however busy the machine.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._released = threading.Event()
        self._left = 0

    def set(self, times: int = 1) -> None:
        self._left = times
        self._monkeypatch.setattr(supervision, "STEP_SECONDS", SHORT)

    def __call__(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self._monkeypatch.setattr(supervision, "STEP_SECONDS", LONG)
            self._released.wait(LONG)

    def release(self) -> None:
        self._left = 0
        self._released.set()


class Snagging(PointRobot):
    """A point robot some of whose hooks do something else first."""

    name = "snagging"

    def __init__(self, **hooks: Callable[[], None]) -> None:
        super().__init__(image_size=32)
        self.hooks = hooks

    def model(self) -> Any:
        self._first("model")
        return super().model()

    def start_state(self, *arguments: Any) -> Any:
        start = super().start_state(*arguments)
        self._first("start_state")
        return start

    def reward(self, step: Step) -> Any:
        self._first("reward")
        return super().reward(step)

    def _first(self, hook: str) -> None:
        if hook in self.hooks:
            self.hooks[hook]()


@pytest.fixture
def snag(monkeypatch: pytest.MonkeyPatch) -> Iterator[Snag]:
    """All threads that a test starts have to end once nothing hangs any more."""
    monkeypatch.setattr(supervision, "STEP_SECONDS", LONG)
    monkeypatch.setattr(rendering, "STOP_SECONDS", SHORT)
    before = set(threading.enumerate())
    snag = Snag(monkeypatch)
    yield snag
    snag.release()
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, threading._DummyThread):  # a library's own, known only for what it logged
            continue
        thread.join(LONG)
        assert not thread.is_alive()


def make(family: envs.Family, num_envs: int = 3) -> SupervisedVectorEnv:
    env = family.make_vector_env(num_envs, threads=2, tolerant=True)
    assert isinstance(env, SupervisedVectorEnv)
    return env


def same(first: Any, second: Any) -> None:
    """Both are equal bit for bit, whatever they are made of."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = tuple(first.values()), tuple(second.values())
    if isinstance(first, tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same(one, other)
    else:
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


def same_episodes(env: Any, bare: Any, steps: int = 5) -> None:
    rng = np.random.default_rng(3)
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (env.num_envs, env.family.action_size))
        same(env.step(actions), bare.step(actions))


def lost(result: Any, frames: np.ndarray, worlds: list[bool]) -> None:
    """A step that failed has these results and no others."""
    truncated = np.array(worlds)
    nothing, whole = np.zeros(len(worlds)), np.zeros(len(worlds), dtype=np.int64)
    info = {"control_steps": whole, "lost": truncated}
    same(result, (frames, nothing, np.zeros(len(worlds), dtype=bool), truncated, info))


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_as_long_as_nothing_fails_it_is_the_bare_env(observation: str, snag: Snag) -> None:
    family = envs.make_family("cheetah_vel", image_size=32, observation=observation)
    env, bare = make(family), family.make_vector_env(3, threads=1)
    assert env.single_observation_space == bare.single_observation_space
    assert env.observation_space == bare.observation_space
    assert (env.single_action_space, env.action_space) == (bare.single_action_space, bare.action_space)
    assert (env.num_envs, env.metadata, env.render_mode) == (3, bare.metadata, "rgb_array")
    assert env.family is family and env.unwrapped is env
    assert env.renderer == bare.renderer
    mask = np.array([False, True, False])
    for arguments in (
        {"seed": 4},
        {"seed": [1, np.random.SeedSequence(2), 3], "options": {"tasks": [5, 100, 2]}},
        {"options": {"reset_mask": mask}},
        {},
    ):
        same(env.reset(**arguments), bare.reset(**arguments))
        assert env.tasks == bare.tasks
        same(env.params, bare.params)
        same_episodes(env, bare)
        same(env.render(), bare.render())
        same(env.worlds.simulation.qpos, bare.worlds.simulation.qpos)
    assert (env.restarts, env.last_fault) == (0, "")
    env.close()
    bare.close()


def test_a_generator_goes_on_where_its_owner_left_it(snag: Snag) -> None:
    family = PointRobot(image_size=32)
    env, bare = make(family), family.make_vector_env(3)
    first, second = ([np.random.default_rng(0)] * 3 for _ in range(2))
    same(env.reset(seed=first), bare.reset(seed=second))
    assert first[0].integers(2**60) == second[0].integers(2**60)
    env.close()
    bare.close()


@pytest.mark.parametrize("where", ["physics", "reward"])
def test_a_hang_in_a_step_loses_the_running_episodes_only(where: str, snag: Snag) -> None:
    family = Snagging(reward=snag) if where == "reward" else Snagging()
    env, fresh = make(family), PointRobot(image_size=32).make_vector_env(3)
    env.reset(seed=0)
    for _ in range(15):
        env.step(PUSH)
    env.reset(seed=5, options={"reset_mask": np.array([False, True, True]), "tasks": [7, 8, 9]})
    for _ in range(5):
        frames, _, _, truncated, _ = env.step(PUSH)
    assert truncated.tolist() == [True, False, False]
    if where == "physics":
        cast(Any, env.worlds).step = lambda *arguments: snag()
    kept, before = frames.copy(), env.tasks
    frames[:] = 0  # they belong to the caller
    snag.set()
    result = env.step(-PUSH)
    assert result[4]["lost"].tolist() == [False, True, True]
    result[4]["lost"][0] = True  # for the rest of the comparison
    lost(result, kept, [True, True, True])
    assert env.restarts == 1
    said = f"step did not return within {SHORT} s: it is in __call__ (test_supervision.py, line "
    assert env.last_fault.startswith(said)
    assert env.tasks == before
    still, nothing = np.zeros(3, dtype=bool), np.zeros(3)
    ended = (kept, nothing, still, ~still, {"control_steps": np.zeros(3, dtype=np.int64)})
    same(env.step(PUSH), ended)
    same(env.render(), tuple(kept))
    same(env.reset(seed=11), fresh.reset(seed=11))
    same_episodes(env, fresh)
    assert env.restarts == 1
    env.close()
    fresh.close()


def hang_drawing(env: Any, released: threading.Event) -> None:
    for worker in env._env._pixels._workers:
        free = worker._canvas.free
        worker._canvas = SimpleNamespace(draw=lambda world, out: released.wait(LONG), free=free)


def stop_a_thread(env: Any, released: threading.Event) -> None:
    worker = env._env._pixels._workers[1]
    worker.stop()
    worker.join(LONG)


@pytest.mark.parametrize("fail", [hang_drawing, stop_a_thread])
def test_drawing_that_hangs_or_dies_loses_the_episodes(
    fail: Callable[[Any, threading.Event], None], snag: Snag, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = PointRobot(image_size=32)
    env, fresh = make(family), family.make_vector_env(3)
    env.reset(seed=0)
    frames = env.step(PUSH)[0]
    fail(env, snag._released)
    monkeypatch.setattr(rendering, "DRAW_SECONDS", SHORT)
    result = env.step(-PUSH)
    monkeypatch.setattr(rendering, "DRAW_SECONDS", LONG)
    lost(result, frames, [True] * 3)
    assert env.restarts == 1
    assert env.last_fault == f"OpenGL ({rendering.BACK_END}) drew nothing within 0 s"
    same(env.reset(seed=1), fresh.reset(seed=1))
    same_episodes(env, fresh)
    env.close()
    fresh.close()


def test_a_reset_that_hangs_is_made_again(snag: Snag) -> None:
    family = Snagging(start_state=snag)
    env, bare = make(family), PointRobot(image_size=32).make_vector_env(3)
    shared, theirs = np.random.default_rng(8), np.random.default_rng(8)
    sequences = [np.random.SeedSequence(3)] * 3
    for mine, yours, hangs in (
        (4, 4, 1),
        ([1, shared, shared], [1, theirs, theirs], 2),  # one generator in two slots
        (None, None, 1),  # the worlds' generators, one of them the one that was shared
        (sequences, sequences, 1),
    ):
        snag.set(hangs)
        same(env.reset(seed=mine), bare.reset(seed=yours))
        assert env.tasks == bare.tasks
        same_episodes(env, bare)
    assert env.restarts == 5
    assert env.last_fault.startswith("reset did not return within")
    env.close()
    bare.close()


def test_a_generator_that_worlds_share_is_still_one_after_a_restart(snag: Snag) -> None:
    env, bare = make(Snagging(start_state=snag)), PointRobot(image_size=32).make_vector_env(3)
    shared, theirs = ([np.random.default_rng(8)] * 3 for _ in range(2))
    same(env.reset(seed=shared), bare.reset(seed=theirs))
    first = {"reset_mask": np.array([True, False, False])}
    snag.set()
    same(env.reset(seed=shared, options=first)[0], bare.reset(seed=theirs, options=first)[0])
    same(env.reset(), bare.reset())
    env.close()
    bare.close()


def test_after_a_loss_the_generators_go_on(snag: Snag) -> None:
    env, bare = make(Snagging(reward=snag)), PointRobot(image_size=32).make_vector_env(3)
    for each in (env, bare):
        each.reset(seed=2)
    snag.set()
    env.step(PUSH)
    same(env.reset(), bare.reset())
    same_episodes(env, bare)
    env.close()
    bare.close()


def test_worlds_that_are_not_reset_stay_ended(snag: Snag) -> None:
    env, bare = make(Snagging(reward=snag)), PointRobot(image_size=32).make_vector_env(3)
    for each in (env, bare):
        frames, _ = each.reset(seed=2)
    snag.set()
    env.step(PUSH)
    mask = np.array([False, True, False])
    again = {"seed": 9, "options": {"reset_mask": mask, "tasks": [0, 3, 0]}}
    got, info = env.reset(**again)
    expected, _ = bare.reset(**again)
    assert info == {}
    np.testing.assert_array_equal(got[~mask], frames[~mask])
    for _ in range(3):
        np.testing.assert_array_equal(got[1], expected[1])
        got, rewards, _, truncated, info = env.step(PUSH)
        expected, theirs, *_ = bare.step(PUSH)
        assert truncated.tolist() == [True, False, True]
        assert info["control_steps"].tolist() == [0, 1, 0]
        assert rewards.tolist() == [0.0, theirs[1], 0.0]
        np.testing.assert_array_equal(got[~mask], frames[~mask])
    env.close()
    bare.close()


def test_a_masked_reset_that_hangs_loses_the_other_running_worlds(snag: Snag) -> None:
    env = make(Snagging(start_state=snag), 4)
    push = np.full((4, 2), 0.5)
    env.reset(seed=0)
    for _ in range(20):
        env.step(push)
    env.reset(seed=0, options={"reset_mask": np.array([False, True, True, True])})
    frames, *_ = env.step(push)
    snag.set()
    mask = np.array([False, False, False, True])
    got, info = env.reset(seed=1, options={"reset_mask": mask})
    assert info["lost"].tolist() == [False, True, True, False]
    np.testing.assert_array_equal(got[~mask], frames[~mask])
    _, _, _, truncated, info = env.step(push)
    assert truncated.tolist() == [True, True, True, False]
    assert "lost" not in info
    env.close()


def test_a_first_reset_of_some_worlds_that_hangs_leaves_the_others_without_one(snag: Snag) -> None:
    env = make(Snagging(start_state=snag))
    snag.set()
    _, info = env.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    assert info == {}
    assert [task is None for task in env.tasks] == [False, True, True]
    with pytest.raises(FamilyError, match="reset every world before the first step"):
        env.step(PUSH)
    env.close()


class Fenced(Snagging):
    """A point that is lost for good beyond x = 0.5."""

    def terminated(self, params: np.ndarray, state: envs.State) -> np.ndarray:
        return state.qpos[:, 0] > 0.5


def test_worlds_that_had_ended_keep_their_flags(snag: Snag) -> None:
    env = make(Fenced(reward=snag))
    env.reset(seed=0)
    cast(Any, env.worlds).simulation.qpos[:, 0] = [0.49, -0.9, -0.9]
    assert env.step(PUSH)[2].tolist() == [True, False, False]
    snag.set()
    for _ in range(2):
        _, _, terminated, truncated, info = env.step(PUSH)
        assert terminated.tolist() == [True, False, False]
        assert truncated.tolist() == [False, True, True]
        assert info.get("lost", truncated).tolist() == [False, True, True]
    env.close()


def test_diverged_worlds_are_not_lost_too(
    snag: Snag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log file where it runs
    env = make(Snagging(reward=snag))
    env.reset(seed=0)
    cast(Any, env.worlds).simulation.qpos[1] = np.nan
    assert env.step(PUSH)[4]["diverged"].tolist() == [False, True, False]
    snag.set()
    assert env.step(PUSH)[4]["lost"].tolist() == [True, False, True]
    env.close()


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
    monkeypatch.setattr("envs.rendering._Worker.start_drawing", refused)
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
        env.reset(options={"task": 0})
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
from envs import supervision
from envs.point_robot import PointRobot
class Hanging(PointRobot):
    hangs = False
    def reward(self, step):
        if Hanging.hangs:
            Hanging.hangs = False
            threading.Event().wait()
        return super().reward(step)
env = Hanging(image_size=32).make_vector_env(2, tolerant=True)
env.reset(seed=0)
env.step(np.zeros((2, 2)))
Hanging.hangs, supervision.STEP_SECONDS = True, 0.3
print(env.step(np.zeros((2, 2)))[4]["lost"].all())
"""


def test_envs_left_open_or_hung_do_not_disturb_the_end_of_the_process() -> None:
    command = [sys.executable, "-c", LEFT_OPEN]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")
