"""A rank that is stopped is noticed wherever it is, and one that works for long is waited for."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from helpers.rank_runs import assert_whole, config, run
from helpers.ranked import fork_ranks

from metaslac.errors import TrainingFault
from metaslac.ranks import group, heartbeat
from metaslac.ranks.ranks import Ranks
from metaslac.storage import checkpoint
from metaslac.training import collection
from metaslac.training.trainer import Trainer

FAULT = 4  # exit code
SILENCE = 3.0
PLACES: dict[str, tuple[ModuleType | type, str, int]] = {  # where, and which call of it
    "visit": (collection, "run_trial", 3),
    "evaluation": (Trainer, "evaluate", 2),
    "checkpoint": (checkpoint, "write_files", 3),
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", SILENCE)


def test_silence_is_noticed_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert heartbeat.SILENCE + 2 * heartbeat.INTERVAL < 60
    assert group.QUICK.total_seconds() < 60 < group.PATIENT.total_seconds()


def hanging(ranks: Ranks, run_dir: Path, place: str, whose: int) -> None:
    """Train; a rank stops itself. Those who give it up say so in files, and kill it."""
    owner, name, count = PLACES[place]
    function, made = getattr(owner, name), 0

    def stopped(*arguments: object, **options: object) -> object:
        nonlocal made
        made += 1
        if made == count and ranks.rank == whose:
            (run_dir / "hung").write_text(f"{os.getpid()} {time.monotonic()}")
            os.kill(os.getpid(), signal.SIGSTOP)
        return function(*arguments, **options)

    setattr(owner, name, stopped)
    try:
        run(ranks, run_dir, config())
    except TrainingFault as fault:
        pid, since = (run_dir / "hung").read_text().split()
        (run_dir / f"said-{ranks.rank}").write_text(f"{time.monotonic() - float(since)} {fault}")
        if len(list(run_dir.glob("said-*"))) == ranks.size - 1:
            os.kill(int(pid), signal.SIGKILL)
        raise SystemExit(FAULT) from None


@pytest.mark.parametrize(("place", "whose"), [("visit", 1), ("evaluation", 0), ("checkpoint", 1)])
def test_a_rank_that_is_stopped_is_noticed_by_all_the_others(tmp_path: Path, place: str, whose: int) -> None:
    run_dir = tmp_path / "run"
    expected = [-signal.SIGKILL if rank == whose else FAULT for rank in range(3)]
    assert fork_ranks(3, hanging, run_dir, place, whose, timeout=60) == expected
    for path in run_dir.glob("said-*"):
        seconds, _, text = path.read_text().partition(" ")
        assert SILENCE - 1 <= float(seconds) < SILENCE + 12, text
        assert "another has ended or does not answer" in text and "the last good checkpoint is" in text
    assert_whole(run_dir)


def working(ranks: Ranks, folder: Path) -> None:
    """One rank has work for longer than the silence after which it would be taken for gone."""
    if ranks.rank == 1:
        time.sleep(SILENCE + 3)
    assert ranks.tell(ranks.rank) == [0, 1, 2]


def test_a_rank_that_works_for_long_is_waited_for(tmp_path: Path) -> None:
    assert fork_ranks(3, working, tmp_path) == [0] * 3


def paused(ranks: Ranks, folder: Path) -> None:
    """One rank is stopped, and goes on before it is given up; it does not take the others for silent."""
    if ranks.rank == 1:
        if (child := os.fork()) == 0:
            time.sleep(SILENCE - 1.5)
            os.kill(os.getppid(), signal.SIGCONT)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.waitpid(child, 0)
    assert ranks.tell(ranks.rank) == [0, 1]


def test_a_rank_that_goes_on_in_time_is_not_given_up(tmp_path: Path) -> None:
    assert fork_ranks(2, paused, tmp_path) == [0, 0]


def ending(ranks: Ranks, folder: Path) -> None:
    assert [thread.name for thread in threading.enumerate() if "heartbeat" in thread.name]
    ranks.meet()


def ended(ranks: Ranks, folder: Path) -> None:
    """`joined` once more within: what it leaves is nothing."""
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "1"
    with group.joined() as again:
        ending(again, folder)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    names = [thread.name for thread in threading.enumerate() if "heartbeat" in thread.name]
    assert len(names) == 1  # of the fork's own
    ranks.meet()


def test_nothing_is_left_at_the_end(tmp_path: Path) -> None:
    assert fork_ranks(2, ended, tmp_path) == [0, 0]
    with group.joined() as alone:
        assert alone.size == 1
        assert not [thread for thread in threading.enumerate() if "heartbeat" in thread.name]
