"""What is played for people to watch, decision by decision, without server or browser."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import untrained_checkpoint

import metaslac
from metaslac.acting.rollout import rng_of
from metaslac.envs import TaskVectorEnv, make_family
from metaslac.launchers.api.trained import Trained, load_trained
from metaslac.launchers.watch.board import Board, Shown
from metaslac.launchers.watch.orders import Wishes
from metaslac.launchers.watch.session import BY_HAND, WATCH_STREAM, Session

GOAL, OTHER = (0.5, -0.3), (-0.8, 0.6)
STEPS = 20


class Watched:
    """A session and its board, played by hand."""

    def __init__(self, trained: Trained, **wishes: Any) -> None:
        self.trained = trained
        self.board = Board(Wishes(GOAL, 1.0, **wishes))
        self.session = Session(trained, self.board, None, 192)

    def wish(self, **changes: Any) -> None:
        self.board.ask(lambda notice: dataclasses.replace(notice.wishes, **changes))

    def shown(self, steps: int = 1) -> Shown:
        for _ in range(steps):
            self.session.advance()
        shown = self.board.notice.shown
        assert shown is not None
        return shown


@pytest.fixture(scope="module")
def trained() -> Trained:
    return load_trained(Path("zoo:point_robot"), None, "cpu", 1)


@pytest.fixture
def watched(trained: Trained) -> Iterator[Watched]:
    watched = Watched(trained)
    yield watched
    watched.session.close()


def episode(watched: Watched) -> Shown:
    return watched.shown(1 + STEPS)


def played_elsewhere(trained: Trained, goal: tuple[float, float], trial: int, episodes: int) -> Any:
    """The returns and the belief of such a trial, with the public agent in a loop of its own."""
    agent = metaslac.load("zoo:point_robot", "cpu")
    env = TaskVectorEnv(trained.family.with_own_task(goal), 1)
    agent.begin_task()
    returns = []
    for number in range(episodes):
        rng = rng_of(0, WATCH_STREAM, trial, number)
        task = env.family.own_tasks[0].index
        frames, _ = env.reset(seed=[int(rng.integers(2**31))], options={"task": [task]})
        agent.begin_episode(frames[0], rng)
        returns.append(0.0)
        for _ in range(STEPS):
            action = agent.act()
            frames, rewards, *_ = env.step(action[None])
            agent.observe(action, rewards[0], frames[0])
            returns[-1] += rewards[0]
    env.close()
    return returns, agent.belief


def test_episodes_are_those_of_the_agent_in_a_loop_of_ones_own(watched: Watched) -> None:
    returns, belief = played_elsewhere(watched.trained, GOAL, 0, 2)
    episode(watched)
    shown = episode(watched)
    assert [ended.episode_return for ended in shown.ended] == pytest.approx(returns, rel=1e-6)
    assert [ended.acts for ended in shown.ended] == ["a guess", "its belief at step 0"]
    assert shown.mean == pytest.approx(belief.mean.tolist(), rel=1e-5)
    assert (shown.episode, shown.step, shown.over) == (1, STEPS, True)


def test_a_goal_of_ones_own_is_played_at_once_and_the_one_before_is_forgotten(watched: Watched) -> None:
    before = watched.shown(8)
    assert before.params == GOAL and np.abs(before.mean).max() > 0.05
    watched.wish(params=OTHER, trial=1)
    begun = watched.shown()
    assert (begun.params, begun.trial, begun.episode, begun.step, begun.ended) == (OTHER, 1, 0, 0, ())
    assert (begun.mean, begun.std) == ((0.0,) * 5, (1.0,) * 5)
    (expected,), _ = played_elsewhere(watched.trained, OTHER, 1, 1)
    assert watched.shown(STEPS).return_so_far == pytest.approx(expected, rel=1e-6)


def test_forgetting_begins_the_task_again_in_the_middle_of_an_episode(watched: Watched) -> None:
    episode(watched)
    assert watched.shown(5).std != (1.0,) * 5
    watched.wish(trial=1)
    begun = watched.shown()
    assert begun.params == GOAL and begun.ended == ()
    assert (begun.mean, begun.std) == ((0.0,) * 5, (1.0,) * 5)
    assert episode(watched).ended[0].acts == "a guess"


def test_by_hand_the_agent_acts_on_that_m_and_then_again_on_its_own(watched: Watched) -> None:
    own, hand = watched.shown(3).m, (1.0, -2.0, 0.5, 0.0, 3.0)
    acted_on: list[list[float]] = []
    agent, act = watched.trained.agent, watched.trained.agent.act

    def noted(deterministic: bool = False) -> Any:
        acted_on.append(agent.m[0].tolist())
        return act(deterministic)

    agent.act = noted  # type: ignore[method-assign]
    try:
        watched.wish(hand=hand)
        by_hand = watched.shown(2)
        watched.wish(hand=None)
        again = watched.shown()
    finally:
        del agent.act
    assert acted_on == [list(hand), list(hand), list(own)]
    assert (by_hand.m, by_hand.acts, again.m) == (hand, BY_HAND, own)
    assert by_hand.std != again.std  # the belief goes on learning


def test_m_moves_where_it_is_drawn_at_every_step_from_the_next_episode_on(watched: Watched) -> None:
    watched.shown()
    watched.wish(redraw=True)
    first = {watched.shown().m for _ in range(STEPS)}
    second = [watched.shown() for _ in range(1 + STEPS)]
    assert len(first) == 1 and len({shown.m for shown in second}) == STEPS
    assert second[-1].acts == "its belief"


@pytest.fixture
def playing(watched: Watched) -> Iterator[Watched]:
    """Played in a thread, as the command does in its own."""
    watched.wish(pace=20.0)
    stop = threading.Event()
    thread = threading.Thread(target=watched.session.play, args=(stop.is_set,))
    thread.start()
    yield watched
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def until(watched: Watched, condition: Callable[[Shown], bool]) -> Shown:
    deadline, number = time.monotonic() + 10, 0
    while True:
        number, _, shown, _ = watched.board.wait(number, 1.0)
        if shown is not None and condition(shown):
            return shown
        assert time.monotonic() < deadline


def rests(watched: Watched) -> bool:
    time.sleep(0.3)  # for the step that was under way
    before = watched.board.notice
    time.sleep(0.4)
    return watched.board.notice == before


def test_it_is_no_faster_than_asked(playing: Watched) -> None:
    began = time.monotonic()
    with playing.board.watched():
        until(playing, lambda shown: shown.step >= 10)
    assert time.monotonic() - began >= 10 / 20


def test_paused_it_rests_but_shows_where_another_task_begins(playing: Watched) -> None:
    with playing.board.watched():
        until(playing, lambda shown: shown.step >= 2)
        playing.wish(paused=True)
        assert rests(playing)
        playing.wish(params=OTHER, trial=1)
        shown = until(playing, lambda shown: shown.trial == 1)
        assert (shown.params, shown.step) == (OTHER, 0) and rests(playing)
        playing.wish(paused=False)
        until(playing, lambda shown: shown.step >= 2)


def test_with_nobody_watching_it_rests(playing: Watched) -> None:
    assert until(playing, lambda shown: True).step == 0  # there is a picture for who comes
    assert rests(playing)
    with playing.board.watched():
        until(playing, lambda shown: shown.step >= 2)
    assert rests(playing)


@pytest.mark.parametrize(
    ("inference", "acts"), [("oracle", "what it is told"), ("blind", "no m: it is blind")]
)
def test_those_that_infer_nothing_are_watched_too(tmp_path: Path, inference: str, acts: str) -> None:
    family = make_family("point_robot", image_size=32)
    checkpoint = untrained_checkpoint(tmp_path / "agent", family, inference=inference)
    watched = Watched(load_trained(checkpoint, None, "cpu", 1))
    one = watched.shown(2)
    watched.wish(params=OTHER, trial=1)
    other = watched.shown(2)
    watched.wish(hand=(1.0,) * len(other.m))
    assert watched.shown().acts == BY_HAND
    watched.session.close()
    assert (one.acts, other.acts) == (acts, acts)
    assert (one.m != other.m) == (inference == "oracle")
    assert set(other.std) == {1.0}


def test_of_long_trials_the_last_episodes_are_shown(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaslac.launchers.watch.session.MOST_SHOWN", 2)
    returns = [episode(watched).return_so_far for _ in range(3)]
    shown = watched.shown()
    assert [ended.episode_return for ended in shown.ended] == returns[1:]
    assert (shown.episode, shown.acts) == (3, "its belief at step 0")


def test_trials_go_on_and_their_pictures_change(watched: Watched) -> None:
    pictures = [watched.shown().picture for _ in range(1 + STEPS)]
    assert all(one != other for one, other in itertools.pairwise(pictures))
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)
