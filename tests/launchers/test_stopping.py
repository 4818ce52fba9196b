"""Real processes, asked to stop or killed anywhere: the same command goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import STOPPABLE, assert_equal, rows

from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import damaged_files

ROOT = Path(__file__).parents[2]
STOPPED = 75

# Runs the command line, and sends itself a signal in the n-th call of one of these functions.
DRIVER = """
import os, sys, time
import metaslac.acting.adaptation, metaslac.learning.learner, metaslac.storage.checkpoint
import metaslac.training.collection
from metaslac.launchers.cli import main
number, where, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
owner, name = {
    "collection": (metaslac.training.collection, "run_random"),
    "pretraining": (metaslac.learning.learner.Learner, "pretrain"),
    "visit": (metaslac.training.collection, "run_trial"),
    "update": (metaslac.learning.learner.Learner, "update"),
    "evaluation": (metaslac.acting.adaptation, "run_trial"),
    "checkpoint": (metaslac.storage.checkpoint, "write_synced"),
}[where]
function, calls = getattr(owner, name), 0
def signalled(*arguments, **options):
    global calls
    calls += 1
    if calls == count:
        print("signalled", time.time(), flush=True)
        if where == "checkpoint":  # in the middle of a file
            path, data = arguments
            path.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), number)
    return function(*arguments, **options)
setattr(owner, name, signalled)
sys.argv = ["metaslac", *sys.argv[4:]]
main()
"""


def arguments(run_dir: Path, updates: int = 12) -> list[str]:
    command = ["meta-train", "--family", "point_robot", "--preset", "quick", "--device", "cpu"]
    command += ["--threads", "1", "--updates", str(updates), "--run-dir", str(run_dir)]
    return command + [f"--set={assignment}" for assignment in STOPPABLE]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def go_on(command: list[str]) -> tuple[int, str, str]:
    return finish(start([sys.executable, "-m", "metaslac", *command]))


def signalled(number: int, where: str, count: int, command: list[str]) -> tuple[int, str, str]:
    """Run until the process has sent itself a signal at a place of DRIVER."""
    return finish(start([sys.executable, "-c", DRIVER, str(number), where, str(count), *command]))


def assert_whole(run_dir: Path) -> None:
    checkpoint = load_checkpoint(run_dir)
    assert damaged_files(checkpoint.path, checkpoint.manifest) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    code, out, _ = go_on(arguments(run_dir))
    assert code == 0 and "finished" in out
    return run_dir


@pytest.mark.parametrize(
    ("number", "where", "count"),
    [
        (signal.SIGTERM, "evaluation", 2),
        pytest.param(signal.SIGTERM, "collection", 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, "pretraining", 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "visit", 3, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "update", 7, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "checkpoint", 30, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_that_goes_on_exactly(
    whole: Path, tmp_path: Path, number: int, where: str, count: int
) -> None:
    command = arguments(tmp_path / "run")
    code, out, err = signalled(number, where, count, command)
    assert code == STOPPED
    assert f"{signal.Signals(number).name}: stopping" in err
    assert "stopped at update " in out
    assert f"the same command goes on, or: metaslac meta-train --resume {tmp_path / 'run'}" in out
    assert_whole(tmp_path / "run")
    code, out, _ = go_on(["meta-train", "--resume", str(tmp_path / "run")])
    assert code == 0 and "going on from" in out
    assert_equal(whole, tmp_path / "run")
    code, out, _ = go_on(command)
    assert code == 0 and "is finished" in out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_collects_ahead_goes_on_exactly(tmp_path: Path, number: int) -> None:
    """The signal comes from the thread that plays the second of its visits."""
    runs = [tmp_path / name for name in ("whole", "run")]
    whole, command = ([*arguments(run), "--set=train.collect_ahead=true"] for run in runs)
    assert go_on(whole)[0] == 0
    assert signalled(number, "visit", 3, command)[0] == (STOPPED if number == signal.SIGTERM else -number)
    assert_whole(runs[1])
    assert go_on(command)[0] == 0
    assert_equal(*runs)


def test_a_process_killed_while_it_writes_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    command = arguments(tmp_path / "run")
    code, _, _ = signalled(signal.SIGKILL, "checkpoint", 190, command)
    assert code == -signal.SIGKILL
    assert list((tmp_path / "run" / "checkpoints").glob(".*.tmp-*"))
    assert_whole(tmp_path / "run")
    assert go_on(command)[0] == 0
    assert_equal(whole, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    command = arguments(tmp_path / "run", updates=100_000)
    process = start([sys.executable, "-m", "metaslac", *command])
    wait_for(tmp_path / "run" / "checkpoints" / "last", process)
    other = go_on(command)
    assert other[0] == 2 and "another process is training there" in other[2]
    process.send_signal(signal.SIGSTOP)  # so that the two come together
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    code, _, _ = finish(process)
    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert_whole(tmp_path / "run")


@pytest.mark.slow
def test_twenty_kills_at_random_moments(whole: Path, tmp_path: Path) -> None:
    rng, command, kills = random.Random(0), arguments(tmp_path / "run", updates=12), 0
    run_dir = tmp_path / "run"
    while kills < 20:
        kills += 1
        if kills % 4 == 0:  # inside of a checkpoint
            code, _, _ = signalled(signal.SIGKILL, "checkpoint", rng.randint(1, 90), command)
            assert code in (0, -signal.SIGKILL)
        else:
            process = start([sys.executable, "-m", "metaslac", *command])
            time.sleep(rng.uniform(2.0, 9.0))
            process.kill()
            assert finish(process)[0] in (0, -signal.SIGKILL)
        if (run_dir / "checkpoints" / "last").exists():
            assert_whole(run_dir)
            if len(rows(run_dir)) == 12:  # it was faster: once more from the start
                assert go_on(command)[0] == 0
                assert_equal(whole, run_dir)
                run_dir = tmp_path / f"run{kills}"
                command = arguments(run_dir)
    assert go_on(command)[0] == 0
    assert_equal(whole, run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["collection", "visit", "update", "evaluation", "checkpoint"])
def test_a_quick_run_stops_within_ten_seconds(tmp_path: Path, where: str) -> None:
    # One thread: beside other tests, threads that wait for each other would be timed and nothing else.
    command = ["meta-train", "--family", "cheetah_vel", "--preset", "quick", "--device", "cpu"]
    command += ["--threads", "1", "--run-dir", str(tmp_path / "run"), "--set", "train.pretrain_updates=2"]
    command += ["--set", "evaluation.every=3", "--set", "checkpoint.every=2"]
    code, out, _ = signalled(signal.SIGTERM, where, 1 if where == "visit" else 2, command)
    ended = time.time()
    assert code == STOPPED
    began = float(next(line for line in out.splitlines() if line.startswith("signalled")).split()[1])
    print(f"{where}: {ended - began:.1f} s from the signal to the end of the process")
    assert ended - began < 10.0
    assert_whole(tmp_path / "run")


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
