"""Jobs side by side in processes: one that fails, and a stop."""

from __future__ import annotations

import os
from pathlib import Path

from metaslac.launchers.sweep.jobs import DONE, FAILED, STOPPED, WAITING, Job, Jobs, Step


def test_a_job_that_fails_stops_no_other(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    step = Step("showing", ["settings"])
    jobs = [
        Job("bad", log, [Step("asking", ["settings", "--preset", "none"]), step]),
        Job("gone", tmp_path / "nowhere/log", [step]),
        Job("good", tmp_path / "good.log", [step, Step("never", ["none"], lambda: False), step]),
        Job("done", tmp_path / "done.log", [Step("never", ["none"], lambda: False)]),
    ]
    most: list[int] = []
    Jobs(jobs, 2, 1, lambda: False).run(lambda: most.append(sum(job.runs for job in jobs)))
    assert max(most) == 2
    assert [job.state for job in jobs] == [FAILED, FAILED, DONE, DONE]
    assert jobs[0].fault.startswith("asking: exit code 2: Invalid value for '--preset'")
    assert jobs[1].fault == "showing does not start: No such file or directory"
    assert (tmp_path / "good.log").read_text().count("$ metaslac settings\n") == 2
    assert not (tmp_path / "done.log").exists()


def test_a_log_has_names_that_are_no_text_as_they_are(tmp_path: Path) -> None:
    log, name = tmp_path / os.fsdecode(b"caf\xe9.log"), os.fsdecode(b"caf\xe9")
    job = Job("one", log, [Step("showing", ["settings", name])])
    Jobs([job], 1, 1, lambda: False).run()
    assert job.fault.startswith("showing: exit code 2: Got unexpected extra argument")
    assert log.read_bytes().startswith(b"$ metaslac settings 'caf\xe9'\n")


def test_no_job_starts_once_a_stop_is_asked_for(tmp_path: Path) -> None:
    answers = iter([False, False, False, False])
    steps = [Step("showing", ["settings"])] * 2
    jobs = [Job(name, tmp_path / f"{name}.log", steps) for name in ("one", "two")]
    Jobs(jobs, 1, 1, lambda: next(answers, True)).run()
    assert [job.state for job in jobs] == [STOPPED, WAITING]
