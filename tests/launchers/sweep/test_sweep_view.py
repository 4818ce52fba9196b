"""What a sweep shows of its runs on a terminal."""

from __future__ import annotations

import os
import pty
import re
from contextlib import suppress
from pathlib import Path

import pytest
from terminals import set_size

import metaslac.launchers.sweep.view
from metaslac.config.presets import resolve
from metaslac.config.sections import TASK_INFERENCE
from metaslac.launchers.sweep.jobs import DONE, FAILED
from metaslac.launchers.sweep.plan import EVALUATING, TRAINING, Sweep
from metaslac.launchers.sweep.view import Reader, View


@pytest.mark.parametrize("nothing", ["", "nan"])  # the first in runs of older versions
@pytest.mark.parametrize(("split", "called"), [("validation", "validation"), ("test", "held-out")])
def test_of_too_many_runs_those_that_train_are_shown(
    tmp_path: Path, split: str, called: str, nothing: str
) -> None:
    settings = "family.name=point_robot", "train.updates=3000"
    configs = [resolve("quick", [*settings, f"task.inference={name}"]) for name in TASK_INFERENCE]
    plan = Sweep(tmp_path, configs, range(20), [], [], episodes=1, trials=1)
    runs = plan.runs()
    jobs = [plan.job(run) for run in runs]
    for job, state in zip(jobs, [DONE] * 30 + [TRAINING, EVALUATING, FAILED], strict=False):
        job.state = state
    training = runs[30].directory
    training.mkdir()
    (training / "progress.csv").write_text(
        f"update,{split}/return_1,{split}/return_2,time/seconds,time/updates_per_second\n"
        f"50,-3.14159,-2.71828,10,5.0\n100,{nothing},{nothing},20,5.0\n150,"  # half-written
    )
    ours, side = pty.openpty()
    set_size(side, lines=9)
    with os.fdopen(side, "w") as screen:
        View([Reader(run) for run in runs], jobs, 2, lambda: False, screen=screen).show()
    # (2,900 + 27 x 3,000) updates, two times 5 a second
    header, *shown, last, end = re.sub(r"\x1b\[K|\r", "", os.read(ours, 65536).decode()).split("\n")
    os.close(ours)
    assert (len(shown), last, end) == (6, "30 of 60 runs done, 1 failed, about 2 h 20 min left", "\x1b[J")
    assert header.split()[4:] == [called, "returns", "left"]
    line = next(text for text in shown if text.startswith("infer-s10 "))
    assert line.split() == ["infer-s10", "training", "100/3000", "5.0", "-3.14", "-2.72", "10", "min"]


@pytest.mark.parametrize("terminal", [False, True])
def test_how_long_a_run_takes_is_told_as_soon_as_the_first_has_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """Who sweeps over runs of days should not have to look into their logs to learn it."""
    monkeypatch.setattr(metaslac.launchers.sweep.view, "SECONDS_BETWEEN_DRAWINGS", 0.0)
    config = resolve("default", ["family.name=point_robot"])
    plan = Sweep(tmp_path, [config], range(2), [], [], episodes=1, trials=1)
    runs = plan.runs()
    jobs = [plan.job(run) for run in runs]
    runs[0].log.write_text("pre-training: 9.00 updates/s, about 2 min more\n")  # of an earlier call
    jobs[0].state = jobs[1].state = TRAINING
    ours, side = pty.openpty() if terminal else os.pipe()
    if terminal:
        set_size(side, lines=9)
    with os.fdopen(side, "w") as screen:
        view = View([Reader(run) for run in runs], jobs, 2, lambda: False, screen=screen)
        view.show()
        slow = "pre-training: 0.05 updates/s, about 6 h 00 min more; on a CPU --preset quick is there"
        for run in runs:
            with run.log.open("a") as log:
                log.write(f"pre-training 2/1000  0.05 updates/s\n{slow}\n")
        view.show()
        with runs[1].log.open("a") as log:
            log.write("updates left: 99000, at 0.02 updates/s about 57.3 days without evaluations\n")
        for _ in range(3):
            view.show()
    said = "".join(iter(lambda: _more(ours), "")).replace("\r", "")
    os.close(ours)
    assert "9.00" not in said and said.count(f"infer-s0 {slow}\n") == said.count(slow) == 1
    assert said.count("infer-s1 updates left: 99000, at 0.02 updates/s about 57.3 days") == 1


def _more(descriptor: int) -> str:
    """What there is to read; nothing at the end, which a terminal has as an error."""
    with suppress(OSError):
        return os.read(descriptor, 65536).decode()
    return ""
