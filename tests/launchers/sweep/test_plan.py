"""What a sweep consists of, on disks and among files that are not as they should be."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.launchers.sweep.plan import Sweep, begun, check_out


def plan(out: Path, trials: int = 1) -> Sweep:
    return Sweep(out, [Config()], range(1), [], [], episodes=2, trials=trials)


def test_one_sweep_at_a_time_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    told: list[str] = []
    sweep = plan(tmp_path / "sweep")
    for _ in range(2):
        with begun(sweep, told.append):
            with pytest.raises(MetaslacError, match=f"is in use: .* \\(process {os.getpid()} on "):
                begun(sweep, told.append).__enter__()
            check_out(sweep)
    assert len(told) == 2 and "no locks in" in told[0]
    (tmp_path / "sweep" / "sweep.json").unlink()
    (tmp_path / "sweep" / ".lock.owner").write_text("left by a machine that broke down")
    check_out(sweep)
