"""What ends one rank ends all, soon, and names the last whole checkpoint; and they go on exactly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from helpers.rank_runs import assert_whole, config, run
from helpers.ranked import fork_ranks
from runs import assert_equal

from metaslac.errors import TrainingFault
from metaslac.learning.batch import Batch
from metaslac.learning.learner import Learner
from metaslac.networks.latent_models.base import Metrics
from metaslac.ranks import group
from metaslac.ranks.ranks import Ranks
from metaslac.storage import checkpoint
from metaslac.storage.checkpoint import load_checkpoint, prune
from metaslac.training import start, trainer
from metaslac.training.log.run_log import RunLog

FAULT = 4  # exit code
BROKEN = 1  # the rank


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def nothing() -> None:
    """What the batch is then is broken."""


def broken(ranks: Ranks, run_dir: Path, happens: Callable[[], None], count: int) -> None:
    """Train; something happens to a rank in an update. What the others say of it goes into files."""
    update, made = Learner.update, 0

    def disturbed(self: Learner, batch: Batch) -> Metrics:
        nonlocal made
        made += 1
        if made == count and ranks.rank == BROKEN:
            if happens is nothing:
                batch.windows.r[0, 0] = float("nan")
            happens()
        return update(self, batch)

    Learner.update = disturbed  # type: ignore[method-assign]
    try:
        run(ranks, run_dir, config())
    except TrainingFault as fault:
        (run_dir / f"said-{ranks.rank}").write_text(str(fault))
        raise SystemExit(FAULT) from None


@pytest.mark.parametrize(("happens", "code"), [(die, -signal.SIGKILL), (nothing, FAULT)])
def test_a_rank_that_ends_ends_the_others(tmp_path: Path, happens: Callable[[], None], code: int) -> None:
    began = time.monotonic()
    assert fork_ranks(3, broken, tmp_path / "run", happens, 4) == [FAULT, code, FAULT]
    assert time.monotonic() - began < 60
    said = {path.name: path.read_text() for path in (tmp_path / "run").glob("said-*")}
    assert said.keys() == {"said-0", "said-2"} | ({"said-1"} if happens is nothing else set())
    for text in said.values():
        assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / '00000003'}" in text
        assert ("another has ended or does not answer" in text) == (happens is die)
        assert ("is not finite" in text) == (happens is nothing)
    assert load_checkpoint(tmp_path / "run").manifest["update"] == 3
    assert_whole(tmp_path / "run")
    assert fork_ranks(3, run, tmp_path / "run", config()) == [0] * 3
    assert fork_ranks(3, run, tmp_path / "whole", config()) == [0] * 3
    assert_equal(tmp_path / "whole", tmp_path / "run")


def test_a_rank_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "QUICK", timedelta(seconds=4))
    codes = fork_ranks(2, broken, tmp_path / "run", hang, 4, timeout=20)
    assert codes == [FAULT, -signal.SIGKILL]  # the test's own
    assert "does not answer" in (tmp_path / "run" / "said-0").read_text()


def lost_early(ranks: Ranks, run_dir: Path) -> None:
    """A rank ends before the training begins."""
    if ranks.rank == BROKEN:
        start.check_alike = lambda trainer: die()
    try:
        run(ranks, run_dir, config())
    except TrainingFault:
        raise SystemExit(FAULT) from None


def test_a_rank_that_ends_before_the_training_is_no_bad_input(tmp_path: Path) -> None:
    assert fork_ranks(2, lost_early, tmp_path / "run") == [FAULT, -signal.SIGKILL]


def refused(ranks: Ranks, run_dir: Path) -> None:
    """Train with a disk that refuses the second rank's files, in one checkpoint."""
    write, tried = checkpoint.write_files, 0

    def full(path: Path, contents: dict[str, checkpoint.Content]) -> dict[str, tuple[str, int]]:
        nonlocal tried
        tried += 1
        if tried == 3 and ranks.rank == BROKEN:
            raise OSError(28, "No space left on device")
        return write(path, contents)

    checkpoint.write_files = full
    run(ranks, run_dir, config())


def test_a_checkpoint_that_one_rank_cannot_write_is_none(tmp_path: Path) -> None:
    """And the training goes on without it, on all ranks."""
    assert fork_ranks(2, refused, tmp_path / "run") == [0, 0]
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert "00000006" in names and "00000003" not in names and not any(".tmp" in name for name in names)
    assert_whole(tmp_path / "run")


def slow(ranks: Ranks, run_dir: Path) -> None:
    """Train with a log and a disk that keep the first rank longer than is waited for in an update."""
    row = RunLog.row

    def slow_row(self: RunLog, update: int, values: Mapping[str, float | None]) -> None:
        time.sleep(6.0 * (update == 2))
        row(self, update, values)

    def slow_prune(parent: Path, keep: int) -> None:
        time.sleep(6.0 * (parent / "00000004").exists() * (not (parent / "00000005").exists()))
        prune(parent, keep)

    RunLog.row = slow_row  # type: ignore[method-assign]
    trainer.prune = slow_prune  # type: ignore[attr-defined]
    run(ranks, run_dir, config())


def test_work_of_the_first_rank_alone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a tracker whose server does not answer, or a disk that is slow to delete."""
    monkeypatch.setattr(group, "QUICK", timedelta(seconds=4))
    assert fork_ranks(2, slow, tmp_path / "run", timeout=60) == [0, 0]
