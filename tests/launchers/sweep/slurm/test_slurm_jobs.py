"""Jobs of a sweep against a Slurm that a test plays: what it says of them, and what comes of that."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from metaslac.errors import MetaslacError, TrainingFault
from metaslac.launchers.signals import Stop
from metaslac.launchers.sweep.jobs import DONE, FAILED, STOPPED, WAITING, Job, Step
from metaslac.launchers.sweep.slurm import cluster, job, jobs
from metaslac.launchers.sweep.slurm.jobs import OnSlurm
from metaslac.launchers.sweep.slurm.orders import (
    Said,
    read_orders,
    read_queued,
    read_said,
    write_orders,
    write_queued,
    write_said,
)
from metaslac.launchers.sweep.slurm.resources import Resources

TRAINING = "training"


class Slurm:
    """Answers one dictionary of states after the other, the last again and again."""

    def __init__(self, folder: Path, *answers: dict[str, str] | OSError) -> None:
        self.folder, self.answers, self.number = folder, list(answers), 7
        self.submitted: list[list[str]] = []
        self.cancelled: list[str] = []
        self.asked_to_stop: list[str] = []
        self.before_answer: Callable[[int], None] = lambda left: None

    def states(self, name: str) -> dict[str, str]:
        self.before_answer(len(self.answers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def submit(self, folder: Path, name: str, runs: Sequence[str], *rest: object) -> list[str]:
        self.submitted.append(list(runs))
        self.number += 1
        return [f"{self.number}_{index}" for index in range(len(runs))]

    def says(self, slurm_id: str, state: str, fault: str = "", name: str = "a") -> None:
        self.folder.mkdir(exist_ok=True)
        write_said(self.folder, name, Said(slurm_id, state, fault))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    played = Slurm(tmp_path / "slurm", {})
    monkeypatch.setattr(cluster, "check_there", lambda: None)
    monkeypatch.setattr(cluster, "states", played.states)
    monkeypatch.setattr(cluster, "cancel", played.cancelled.extend)
    monkeypatch.setattr(cluster, "ask_to_stop", played.asked_to_stop.extend)
    monkeypatch.setattr(jobs, "submit", played.submit)
    monkeypatch.setattr(jobs, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    monkeypatch.setattr(jobs, "SECONDS_BETWEEN_READINGS", 0.0)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    return played


def a_job(tmp_path: Path, name: str = "a", due: Callable[[], bool] = lambda: True) -> Job:
    return Job(name, tmp_path / f"{name}.log", [Step(TRAINING, ["settings"], due)])


def run(tmp_path: Path, *ours: Job, stop: Stop | None = None, detach: bool = False) -> list[list[str]]:
    """The states of the jobs, whenever the view was shown and one had changed."""
    shown: list[list[str]] = []

    def watch() -> None:
        now = [job.state for job in ours]
        if not shown or shown[-1] != now:
            shown.append(now)

    OnSlurm(tmp_path, Resources(), 2, 1, detach).run(ours, stop or Stop(), watch=watch)
    return shown


def test_it_waits_runs_waits_again_and_is_done(tmp_path: Path, slurm: Slurm) -> None:
    job, other = a_job(tmp_path), a_job(tmp_path, "done", lambda: False)
    slurm.answers = [{"8_0": state} for state in ("PENDING", "RUNNING", "RUNNING", "COMPLETING", "PENDING")]
    slurm.answers += [{"8_0": "RUNNING"}, OSError("no answer"), {"8_0": "COMPLETED"}]

    def before(left: int) -> None:
        said = {6: TRAINING, 5: WAITING, 3: TRAINING, 1: DONE}.get(left)
        if said:
            slurm.says("8_0", said)

    slurm.before_answer = before
    shown = [states[0] for states in run(tmp_path, job, other)]
    assert shown == [WAITING, "starting", TRAINING, WAITING, TRAINING, DONE]
    assert (job.state, other.state, slurm.submitted) == (DONE, DONE, [["a"]])


def test_one_that_slurm_stopped_and_queued_again_is_not_over(tmp_path: Path, slurm: Slurm) -> None:
    slurm.answers = [{"8_0": state} for state in ("RUNNING", "RUNNING", "PENDING", "RUNNING", "COMPLETED")]
    said = {5: TRAINING, 4: STOPPED, 2: TRAINING, 1: DONE}

    def before(left: int) -> None:
        if left in said:
            slurm.says("8_0", said[left])

    slurm.before_answer = before
    job = a_job(tmp_path)
    assert [states[0] for states in run(tmp_path, job)] == [TRAINING, WAITING, TRAINING, DONE]


def test_what_a_job_of_before_has_said_is_not_of_this_one(tmp_path: Path, slurm: Slurm) -> None:
    slurm.says("7_0", DONE)
    slurm.answers = [{"8_0": "RUNNING"}, {"8_0": "OUT_OF_MEMORY"}]
    job = a_job(tmp_path)
    run(tmp_path, job)
    assert (job.state, job.fault) == (FAILED, f"out of memory, says Slurm; see {tmp_path}/slurm/8_0.out")


@pytest.mark.parametrize(
    ("states", "said", "expected"),
    [
        ({}, TRAINING, FAILED),
        ({"8_0": "NODE_FAIL"}, TRAINING, FAILED),
        ({"8_0": "CANCELLED"}, TRAINING, STOPPED),
        ({"8_0": "CANCELLED"}, "", WAITING),  # it has never begun
        ({"8_0": "FAILED"}, FAILED, FAILED),
        ({"8_0": "FAILED"}, STOPPED, STOPPED),  # for its exit code
    ],
)
def test_how_it_ended(states: dict[str, str], said: str, expected: str, tmp_path: Path, slurm: Slurm) -> None:
    slurm.answers = [states]
    job = a_job(tmp_path)
    if said:
        slurm.says("8_0", said, "training: exit code 2" if said == FAILED else "")
    run(tmp_path, job)
    assert job.state == expected
    assert (job.fault == "training: exit code 2") == (said == FAILED)


def test_a_stop_cancels_what_waits_and_asks_what_runs(tmp_path: Path, slurm: Slurm) -> None:
    ours = [a_job(tmp_path, name) for name in "abc"]
    slurm.answers = [
        {"8_0": "RUNNING", "8_1": "PENDING", "8_2": "PENDING"},
        {"8_0": "RUNNING"},  # elements of an array that have not begun are gone at once
    ]
    slurm.says("8_2", WAITING, name="c")  # it was queued again
    slurm.before_answer = lambda left: slurm.says("8_0", TRAINING if left > 1 else STOPPED)
    run(tmp_path, *ours, stop=Stop(signal.SIGINT))
    assert [job.state for job in ours] == [STOPPED, WAITING, STOPPED]
    assert (slurm.cancelled, slurm.asked_to_stop) == (["8_1", "8_2"], ["8_0"])


def test_a_hang_up_leaves_jobs_alone_and_they_are_found_again(tmp_path: Path, slurm: Slurm) -> None:
    slurm.answers = [{"8_0": "RUNNING"}]
    for how in ({"stop": Stop(signal.SIGHUP)}, {"detach": True}):
        run(tmp_path, a_job(tmp_path), **how)  # type: ignore[arg-type]
    slurm.says("8_0", DONE)
    slurm.before_answer = lambda left: slurm.says("9_0", DONE) if len(slurm.submitted) == 2 else None
    ours = a_job(tmp_path)  # still due when it is done: it had the orders of an earlier call
    run(tmp_path, ours)
    assert (ours.state, slurm.submitted) == (DONE, [["a"], ["a"]])
    assert slurm.cancelled == slurm.asked_to_stop == []
    assert read_queued(slurm.folder) == {"a": "9_0"}


def test_where_slurm_does_not_answer(tmp_path: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.answers = [OSError("squeue: error")]
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(TrainingFault, match="its jobs are left alone, the same command watches them again"):
        run(tmp_path, a_job(tmp_path))
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 600.0)
    with pytest.raises(MetaslacError, match="jobs of this sweep may be in its queue"):
        run(tmp_path, a_job(tmp_path))
    assert slurm.submitted == [["a"]]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"format": 2}', '{"format": 1, "log": "a", "steps": [["x"]], "threads": 1, "requeues": 1}'],
)
def test_orders_that_are_not_as_written_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(MetaslacError, match="a.json"):
        read_orders(tmp_path, "a")


def ordered(
    folder: Path,
    arguments: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    requeues: int = 3,
    restarts: int = 0,
) -> tuple[int, Said]:
    """What a job with these orders exits with and says in the end."""
    step = Step(TRAINING, arguments)
    write_orders(folder, Job("b", folder / "b.log", [step]), [step], 1, requeues)
    environment = {
        "SLURM_ARRAY_JOB_ID": "8",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = job.main(folder, ["a", "b"])
    return code, read_said(folder, "b")


def test_a_job_carries_out_its_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ordered(tmp_path, ["settings"], monkeypatch) == (0, Said("8_1", DONE))
    assert "$ metaslac settings" in (tmp_path / "b.log").read_text()
    code, said = ordered(tmp_path, ["settings", "--preset", "none"], monkeypatch)
    assert code == 1 and said.fault.startswith("training: exit code 2: Invalid value for '--preset'")


@pytest.mark.parametrize(
    ("number", "restarts", "refused", "state", "code"),
    [
        (signal.SIGUSR1, 0, False, WAITING, 75),
        (signal.SIGUSR1, 3, False, FAILED, 1),
        (signal.SIGUSR1, 0, True, STOPPED, 75),
        (signal.SIGTERM, 0, False, STOPPED, 75),
    ],
)
def test_only_a_job_out_of_time_is_queued_again(
    number: int,
    restarts: int,
    refused: bool,
    state: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queued: list[str] = []

    def requeue(slurm_id: str) -> None:
        if refused:
            raise OSError("requeue is disabled")
        queued.append(slurm_id)

    def stopped(self: object, watch: Callable[[], None]) -> None:
        signal.raise_signal(number)
        self.jobs[0].state = STOPPED  # type: ignore[attr-defined]

    monkeypatch.setattr(cluster, "requeue", requeue)
    monkeypatch.setattr(job.Jobs, "run", stopped)
    found = ordered(tmp_path, ["settings"], monkeypatch, restarts=restarts)
    assert found == (code, Said("8_1", state, found[1].fault))
    assert queued == ["8_1"] * (state == WAITING)
    assert ("--requeues" in found[1].fault) == (state == FAILED)


def test_what_is_queued_is_kept(tmp_path: Path) -> None:
    assert read_queued(tmp_path) == {}
    write_queued(tmp_path, {"a": "8_0"})
    assert read_queued(tmp_path) == {"a": "8_0"}
    (tmp_path / "queued.json").write_text('{"format": 1, "jobs": {"a": 8}}')
    with pytest.raises(MetaslacError, match="is not as the sweep has written it"):
        read_queued(tmp_path)
