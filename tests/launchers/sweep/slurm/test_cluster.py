"""Sweeps through a real Slurm, of this machine alone: whole, out of time, stopped, left and found again."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.documents import batch_scripts
from helpers.slurm import cluster, why_not
from runs import STOPPABLE, rows
from terminals import wait_for

from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import damaged_files

ROOT = Path(__file__).parents[4]
FOR_EVER = 1_000_000
STOPPED_CODE = 75

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cluster(tmp_path_factory.mktemp("slurm")) as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        yield


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever came of a test, its sweeps and its jobs end."""
    yield
    for process in STARTED:
        process.kill()
        process.communicate()
    STARTED.clear()
    slurm_says("scancel", "--user=root")
    wait_for(lambda: not queue(), 60)


def start(out: Path, *more: str, updates: int = 6) -> subprocess.Popen[str]:
    command = ["sweep", "--slurm", "--family", "point_robot", "--preset", "quick", "--threads", "1"]
    command += ["--episodes", "2", "--trials", "1", "--out", str(out), *more]
    command += [f"--set={assignment}" for assignment in (*STOPPABLE, f"train.updates={updates}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "metaslac", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=400)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


def slurm_says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue() -> list[tuple[str, str]]:
    """Id and state of what is in the queue, by id."""
    listed = slurm_says("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
    return sorted((line.split()[0], line.split()[1]) for line in listed)


def first_process(out: Path) -> int:
    """Of the one job of a sweep that runs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            if "metaslac.launchers.sweep.slurm.job" in words and f"{out}/slurm" in words:
                found.append(int(entry.name))
    (process,) = found
    return process


def updates(run: Path) -> int:
    return len(rows(run)) if (run / "progress.csv").exists() else 0


def assert_whole(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert damaged_files(checkpoint.path, checkpoint.manifest) == []


def test_a_sweep_whose_job_fails_is_told_of_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    kinds = "--seeds", "1", "--task-inference", "infer", "--task-inference", "blind", "--jobs", "1"
    process = start(out, *kinds, updates=40)
    wait_for(lambda: updates(out / "infer-s0") > 0)
    ((first, running), (second, pending)) = queue()
    assert (running, pending) == ("RUNNING", "PENDING")
    assert first.removesuffix("_0") == second.removesuffix("_1")
    os.kill(first_process(out), signal.SIGKILL)  # as the kernel does when memory is over
    code, stdout, stderr = finish(process)
    assert code == 1 and re.search(r"^infer-s0 +failed", stdout, re.MULTILINE)
    assert re.search(r"^blind-s0 +done +40 +-\d", stdout, re.MULTILINE)
    assert f"{out}/report.html without infer-s0" in stdout and (out / "report.html").exists()
    assert f"infer-s0 failed, failed, says Slurm; see {out}/slurm/{first}.out; see" in stderr
    before = (out / "blind-s0/evaluation.json").stat().st_mtime_ns
    code, stdout, stderr = finish(start(out, *kinds, updates=40))
    assert code == 0 and re.search(r"^infer-s0 +done +40", stdout, re.MULTILINE), stderr
    assert "report.html without" not in stdout
    assert (out / "blind-s0/evaluation.json").stat().st_mtime_ns == before
    assert not list(out.rglob("*.pkl"))


def test_out_of_time_it_is_queued_again_and_stopped_it_is_not(tmp_path: Path) -> None:
    run = tmp_path / "sweep/blind-s0"
    asked = "--seeds", "2", "--jobs", "1", "--task-inference", "blind", "--time", "3"
    process = start(tmp_path / "sweep", *asked, updates=FOR_EVER)
    wait_for(lambda: updates(run) > 0)
    ((slurm_id, _), (second, _)) = queue()
    slurm_says("scontrol", "hold", second)  # or it would begin while the first waits
    wait_for(lambda: "Restarts=1" in slurm_says("scontrol", "show", "job", slurm_id), 200)
    reached = updates(run)
    log = tmp_path / "sweep/blind-s0.log"
    assert "stopped at update" in log.read_text() and reached > 10
    wait_for(lambda: "going on from" in log.read_text() and updates(run) > reached)
    assert [found for found, _ in queue()] == [slurm_id, second]
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(process)
    assert code == STOPPED_CODE and "failed" not in stderr
    assert "stopped with 0 of 2 runs done; the same command goes on" in stdout
    assert re.search(r"^blind-s0 +stopped +\d+", stdout, re.MULTILINE)
    assert re.search(r"^blind-s1 +waiting +0$", stdout, re.MULTILINE)
    wait_for(lambda: not queue(), 30)
    time.sleep(4)  # it would be back by now
    assert not queue() and updates(run) > reached
    assert_whole(run)
    assert load_checkpoint(run).manifest["update"] - updates(run) in (0, 1)


def test_jobs_outlive_the_command_and_are_found_again(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    asked = "--seeds", "1", "--task-inference", "infer", "--task-inference", "blind", "--jobs", "1"
    code, stdout, _ = finish(start(out, *asked, "--detach", updates=40))
    assert code == 0
    assert "2 jobs left with Slurm; the same command without --detach watches, and reports" in stdout
    submitted = [found for found, _ in queue()]
    assert len(submitted) == 2
    for number in (signal.SIGKILL, signal.SIGHUP):
        process = start(out, *asked, updates=40)
        assert process.stdout is not None and "2 runs in" in process.stdout.readline()
        time.sleep(1)
        process.send_signal(number)
        code, stdout, _ = finish(process)
        assert code == (-number if number == signal.SIGKILL else STOPPED_CODE)
        assert [found for found, _ in queue()] == submitted
    code, stdout, stderr = finish(start(out, *asked, updates=40))
    assert code == 0, stderr
    assert len(re.findall(r"-s0 +done +40", stdout)) == 2
    scripts = sorted(path.name for path in (out / "slurm").glob("[0-9]*.sh"))
    assert len(scripts) == 2  # of the two runs and of the report
    assert os.path.exists(out / "report.html")


def test_a_job_that_slurm_ends_writes_its_checkpoint_and_may_be_queued_again(tmp_path: Path) -> None:
    run = tmp_path / "sweep/blind-s0"
    process = start(tmp_path / "sweep", "--seeds", "1", "--task-inference", "blind", updates=FOR_EVER)
    wait_for(lambda: updates(run) > 0)
    ((slurm_id, _),) = queue()
    log = tmp_path / "sweep/blind-s0.log"
    slurm_says("scontrol", "requeue", slurm_id)  # as it does for others of more priority
    wait_for(lambda: "going on from" in log.read_text())
    assert "stopped at update" in log.read_text() and process.poll() is None
    time.sleep(12)  # time for a question
    assert process.poll() is None
    slurm_says("scancel", slurm_id)  # SIGTERM to all processes of the job at once
    code, stdout, _ = finish(process)
    assert code == STOPPED_CODE and re.search(r"^blind-s0 +stopped", stdout, re.MULTILINE)
    assert log.read_text().count("stopped at update") == 2
    assert load_checkpoint(run).manifest["update"] - updates(run) in (0, 1)


def test_what_slurm_refuses_is_refused_in_a_line(tmp_path: Path) -> None:
    code, _, stderr = finish(start(tmp_path / "sweep", "--partition", "none"))
    assert code == 2
    assert stderr.splitlines()[-1].startswith("metaslac: sbatch: ") and "invalid partition" in stderr


@pytest.mark.parametrize("number", [0, 1], ids=["one process", "torchrun"])
def test_the_batch_scripts_of_the_pages_queue_themselves_again(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in (("metaslac", "metaslac"), ("torchrun", "torch.distributed.run")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RANKS", "1")
    monkeypatch.chdir(tmp_path)
    Path("script.sh").write_text(batch_scripts()[number])
    command = ["sbatch", "--parsable", "--nodes=1", "--cpus-per-task=1", "--output=out", "script.sh"]
    command += ["--family", "point_robot", "--preset", "quick", "--device", "cpu", "--threads", "1"]
    command += ["--run-dir", "run", "--updates", str(FOR_EVER), *(f"--set={each}" for each in STOPPABLE)]
    slurm_id = slurm_says(*command).strip()
    wait_for(lambda: updates(Path("run")) > 0)
    # What Slurm itself sends in time; how long that takes is tested above.
    slurm_says("scancel", *["--batch"] * number, "--signal=USR1", slurm_id)
    wait_for(lambda: "Restarts=1" in slurm_says("scontrol", "show", "job", slurm_id))
    reached = updates(Path("run"))
    assert "stopped at update" in Path("out").read_text()
    wait_for(lambda: "going on from" in Path("out").read_text() and updates(Path("run")) > reached)
    slurm_says("scancel", slurm_id)
    wait_for(lambda: not queue(), 60)
    assert_whole(Path("run"))
