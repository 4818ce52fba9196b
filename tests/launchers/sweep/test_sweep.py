"""`metaslac sweep` in real processes: whole, stopped, killed, gone on with, refused, and on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import STOPPABLE, assert_equal, rows
from terminals import alive, descendants, read_until, set_size, wait_for

import metaslac.launchers.api.memory
from metaslac.config.sections import TASK_INFERENCE
from metaslac.launchers.cli import cli
from metaslac.launchers.sweep.plan import EVALUATING, TRAINING, Run, Sweep
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import damaged_files

ROOT = Path(__file__).parents[3]
STOPPED_CODE = 75
FOR_EVER = 1_000_000


def arguments(out: Path, *more: str, updates: int = 6) -> list[str]:
    command = ["sweep", "--family", "point_robot", "--preset", "quick", "--device", "cpu", "--threads", "1"]
    command += ["--episodes", "2", "--trials", "1", "--out", str(out), *more]
    return command + [f"--updates={updates}", *(f"--set={assignment}" for assignment in STOPPABLE)]


STARTED: list[int] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever came of a test, its processes end: those that are killed take their children along."""
    yield
    for process in filter(alive, STARTED):
        os.kill(process, signal.SIGKILL)
    STARTED.clear()


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "metaslac", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process.pid)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


def sweep(out: Path, *more: str, updates: int = 6) -> tuple[int, str, str]:
    return finish(start(arguments(out, *more, updates=updates)))


def refusal(*command: str) -> str:
    """The line with which a sweep is refused before anything is done."""
    result = CliRunner().invoke(cli, command)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    """Content and time of change of every file."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in out.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def train_for_ever(out: Path, jobs: int) -> tuple[subprocess.Popen[str], list[int]]:
    """A sweep that has written a checkpoint of each run that it can begin, and the runs' processes."""
    process = start(arguments(out, "--seeds", "1", "--jobs", str(jobs), updates=FOR_EVER))

    def trains() -> bool:
        assert process.poll() is None, process.communicate()
        return len(list(out.glob("*/progress.csv"))) == jobs

    wait_for(trains)
    return process, descendants(process.pid)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of a single run that has come to its end."""
    out = tmp_path_factory.mktemp("one") / "sweep"
    code, stdout, stderr = sweep(out, "--seeds", "1", "--task-inference", "blind")
    assert code == 0, stderr
    assert re.search(r"^blind-s0 +done +6 +-\d+\.\d\d +-\d+\.\d\d$", stdout, re.MULTILINE)
    begins, *_, ends = [line for line in stderr.splitlines() if line.startswith("blind-s0 ")]
    assert begins == "blind-s0 training"
    assert ends.startswith("blind-s0 done, update 6/6, validation returns -")
    return out


def test_a_run_is_trained_and_evaluated_as_asked(one: Path) -> None:
    assert {"sweep.json", "blind-s0", "blind-s0.log"} <= {path.name for path in one.iterdir()}
    config = load_checkpoint(one / "blind-s0").config
    assert (config.task.inference, config.train.seed, config.runtime.threads) == ("blind", 0, 1)
    assert len(rows(one / "blind-s0")) == 6
    report = json.loads((one / "blind-s0/evaluation.json").read_text())
    about = report.get("about", report)
    assert (about["episodes"], about["trials"], about["update"]) == (2, 1, 6)
    commands = [line for line in (one / "blind-s0.log").read_text().splitlines() if line.startswith("$ ")]
    assert [command.split()[2] for command in commands] == ["meta-train", "evaluate"]


def test_the_same_command_again_does_nothing_anew(one: Path) -> None:
    before = files(one)
    code, stdout, _ = sweep(one, "--seeds", "1", "--task-inference", "blind", "--jobs", "3")
    assert code == 0 and "blind-s0" in stdout
    assert files(one) == before


def test_an_evaluation_is_made_again_when_it_is_not_what_is_asked(one: Path, tmp_path: Path) -> None:
    shutil.copytree(one, tmp_path / "sweep", symlinks=True)
    run = Run(tmp_path / "sweep/blind-s0", load_checkpoint(one / "blind-s0").config)

    def due(trials: int) -> list[str]:
        plan = Sweep(tmp_path / "sweep", [run.config], range(1), [], [], episodes=2, trials=trials)
        return [step.name for step in plan.job(run).steps if step.due()]

    assert due(trials=1) == []
    assert due(trials=2) == [EVALUATING]
    os.utime(run.directory / "evaluation.json", (0, 0))
    assert due(trials=1) == [EVALUATING]
    (run.directory / "progress.csv").write_text("")  # which meta-train puts back
    assert due(trials=1) == [TRAINING, EVALUATING]


def test_another_sweep_is_not_mixed_with_it(one: Path) -> None:
    before = files(one)
    line = refusal(*arguments(one), "--set=task.size=3")
    assert line.endswith("holds another sweep: task.size (2, 3) (there, asked for); choose another --out")
    assert "train.updates (6, 7)" in refusal(*arguments(one, updates=7))
    with (one / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is in use" in refusal(*arguments(one))
    assert files(one) == before


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--family", "point_robt"], "did you mean 'point_robot'"),
        (["--set", "train.update=3"], "did you mean 'train.updates'"),
        (["--set", "train.windows=33"], "train.steps_per_batch"),
        (["--set", "task.size=0"], "task.size must be at least 1 when task.inference is infer"),
        (
            ["--set", "task.prior_beliefs=1"],
            "task.prior_beliefs (1) must be 0, or at least train.tasks_per_update",
        ),
        (["--set", "train.tasks_per_update=81"], "has 80 training tasks"),
        (["--set", " train.seed =1"], "--set train.seed: --seeds and --first-seed decide it"),
        (["--set", "task.inference=blind"], "--task-inference decides it"),
        (["--set", "runtime.threads=2"], "--threads decides it"),
        (["--first-seed", "4294967294"], "train.seed must be at most 4294967295"),
        (["--task-inference", "guess"], "oracle"),
        (["--preset", "fast"], "quick"),
        (["--jobs", "0"], "--jobs"),
        (["--threads", "0"], "--threads"),
        (["--seeds", "0"], "--seeds"),
        (["--trials", "0"], "--trials"),
        (["--out", "file"], "file is not a directory"),
        (["--out", "file/below"], "file is not a directory"),
        (["--out", "other"], "other is not empty and holds no sweep"),
        (["--out", "broken"], "broken/sweep.json is not of a sweep of this version"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    more: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for directory, name in (("other", "a"), ("broken", "sweep.json")):
        Path(directory).mkdir()
        (Path(directory) / name).write_text("{")
    before = files(tmp_path)
    assert named in refusal(*arguments(Path("new")), *more)
    assert files(tmp_path) == before and not Path("new").exists()


def test_runs_that_do_not_fit_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ["sweep", "--preset", "quick", "--family", "point_robot", "--device", "cpu"]
    run += ["--set", "replay.episodes_per_task=200"]  # 80 tasks x 200 x 21 frames of 3 KiB are 984 MiB
    monkeypatch.setattr(metaslac.launchers.api.memory, "available_bytes", lambda device: 5 * 2**29)
    line = refusal(*run, "--out", str(tmp_path / "out"), "--jobs", "3")
    assert "3 runs side by side do not fit" in line and line.endswith("lower --jobs to 2")


def test_kill_9_leaves_no_child_behind(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    process, children = train_for_ever(out, 2)
    process.kill()
    finish(process)
    assert len(children) >= 2
    wait_for(lambda: not any(map(alive, children)), 30)
    for name in ("infer-s0", "oracle-s0"):
        checkpoint = load_checkpoint(out / name)
        assert damaged_files(checkpoint.path, checkpoint.manifest) == []
        assert len(rows(out / name)) == checkpoint.manifest["update"]  # written on the way out
    assert not (out / "blind-s0").exists()


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    process, terminal = pty.fork()  # so that it is the terminal that makes a signal of Ctrl-C
    if not process:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore
        os.environ |= {"TERM": "xterm", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = arguments(out, "--seeds", "2", updates=FOR_EVER)
        os.execv(sys.executable, [sys.executable, "-m", "metaslac", *command])
    STARTED.append(process)
    set_size(terminal, lines=8)
    shown = read_until(terminal, f"[0-9]+/{FOR_EVER} ")
    os.write(terminal, b"\x03")
    shown += read_until(terminal, "the same command goes on")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == STOPPED_CODE
    os.close(terminal)
    drawings = shown.split("\x1b[J")
    assert len(drawings) > 3 and all(drawing.count("\n") <= 8 for drawing in drawings[:-1])
    drawing = re.sub(r"\x1b\[K|\r", "", drawings[2])
    assert drawing.startswith("\x1b[7A")  # over the one before
    header, first, *_, last = drawing.removeprefix("\x1b[7A").splitlines()
    assert header.split()[:4] == ["run", "state", "update", "updates/s"]
    assert header.split()[-2:] == ["returns", "left"]
    assert re.match(r"infer-s0 +training", first) and last == "0 of 6 runs done"
    assert "SIGINT: stopping" in shown
    said = (out / "infer-s0.log").read_text()
    assert said.count("stopping") == 1 and "SIGTERM: stopping" in said  # not the terminal's SIGINT as well
    made = load_checkpoint(out / "infer-s0").manifest["update"]
    assert made - len(rows(out / "infer-s0")) in (0, 1)  # the stop may come between an update and its row


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All six runs of two seeds, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    code, stdout, stderr = sweep(out, "--seeds", "2", "--jobs", "2", updates=12)
    assert code == 0, stderr
    assert stdout.count(" done ") == 6
    return out


@pytest.mark.slow
def test_seeds_begin_one_after_the_other(whole: Path) -> None:
    names = [f"{inference}-s{seed}" for seed in range(2) for inference in TASK_INFERENCE]
    begun = [(whole / name / "config.yaml").stat().st_mtime for name in names]
    # Two at a time: runs that begin together may reach this in either order, later ones may not.
    assert all(begun[later] > begun[first] for later in range(6) for first in range(later - 1))
    for name in names:
        config = load_checkpoint(whole / name).config
        assert f"{config.task.inference}-s{config.train.seed}" == name
        assert (whole / name / "evaluation.json").exists()


@pytest.mark.slow
def test_stopped_half_way_it_goes_on_exactly(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    for place, count in (("oracle-s0/progress.csv", 4), ("blind-s1/progress.csv", 7)):
        process = start(arguments(out, "--seeds", "2", "--jobs", "2", updates=12))

        def there(rows: Path = out / place, count: int = count) -> bool:
            return rows.exists() and len(rows.read_text().splitlines()) > count

        wait_for(there)
        process.send_signal(signal.SIGTERM)
        code, stdout, stderr = finish(process)
        assert code == STOPPED_CODE
        assert "the same command goes on" in stdout and " stopped " in stdout and "failed" not in stderr
    code, stdout, stderr = sweep(out, "--seeds", "2", "--jobs", "2", updates=12)
    assert code == 0, stderr
    for run in whole.glob("*-s?"):
        assert_equal(run, out / run.name)
    # A third seed is the same sweep, and touches nothing of the others.
    before = files(out)
    code, stdout, stderr = sweep(out, "--seeds", "3", "--task-inference", "blind", updates=12)
    assert code == 0 and re.search("blind-s2 +done", stdout), stderr
    after = files(out)
    assert {name: after[name] for name in before if "-s" in name} == {
        name: before[name] for name in before if "-s" in name
    }


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_tried_again(one: Path, tmp_path: Path) -> None:
    shutil.copytree(one, tmp_path / "sweep", symlinks=True)
    out, kinds = tmp_path / "sweep", ["--task-inference", "infer", "--task-inference", "blind"]
    (out / "infer-s1").mkdir()
    with (out / "infer-s1" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, stdout, stderr = sweep(out, "--seeds", "2", *kinds)
    assert code == 1
    states = dict(re.findall(r"^(\w+-s\d) +(\w+) ", stdout, re.MULTILINE))
    assert states == {"infer-s0": "done", "blind-s0": "done", "infer-s1": "failed", "blind-s1": "done"}
    fault = f"{out}/infer-s1 is in use: another process is training there; see {out}/infer-s1.log"
    assert f"metaslac: infer-s1 failed, training: exit code 2: {fault}" in stderr.splitlines()
    assert "metaslac: 1 of 4 runs failed; the same command tries them again" in stderr
    code, stdout, _ = sweep(out, "--seeds", "2", *kinds)
    assert code == 0 and re.search("infer-s1 +done", stdout)


@pytest.mark.slow
def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    process, children = train_for_ever(tmp_path / "sweep", 2)
    for child in children:
        os.kill(child, signal.SIGSTOP)  # so that they do not end after the first
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM
    for child in children:
        os.kill(child, signal.SIGCONT)
    wait_for(lambda: not any(map(alive, children)), 10)
