"""Real runs on a disk that is full or read-only: said in a line, what was saved stays, and room helps."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from runs import SMALL

from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import damaged_files

ROOT = Path(__file__).parents[3]
MIB = 2**20
FAULT, BAD_INPUT = 1, 2

TINY = [
    *SMALL,
    "task.context_length=4",
    "task.context_max=16",
    "train.pretrain_updates=4",
    "train.tasks_per_visit=10",
    "train.tasks_per_update=4",
    "evaluation.every=6",
]
UPDATES = 12
# With the first checkpoint, of 80 episodes, there is room for a few of the visits.
SMALL, LARGE = 10 * MIB, 100 * MIB


class Disk:
    """A file system of its own, in a mount namespace that ends with the process that holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        problems = []
        for options in ([], ["--user", "--map-root-user"]):  # the latter for who is not root
            self.holder = subprocess.Popen(
                [
                    "unshare",
                    *options,
                    "--mount",
                    "sh",
                    "-c",
                    f"mount -t tmpfs -o size={LARGE} none '{path}' && echo && exec cat",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert self.holder.stdout is not None
            self.enter = ["nsenter", f"--target={self.holder.pid}", "--mount"]
            self.enter += ["--user", "--preserve-credentials"] if options else []
            if self.holder.stdout.readline():
                break
            problems.append(self.holder.communicate()[1].strip())
        else:
            pytest.skip(f"no file system can be mounted here: {'; '.join(problems)}")
        self.seen = Path(f"/proc/{self.holder.pid}/root{path}")  # the same from outside
        self.run_dir = path / "run"

    def close(self) -> None:
        self.holder.communicate()

    def __call__(self, *command: str | Path) -> str:
        """Run a command that sees it."""
        done = subprocess.run([*self.enter, *map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def resize(self, size: int) -> None:
        self("mount", "-o", f"remount,size={size}", self.path)

    def fill(self) -> None:
        """Take what room is left."""
        self("sh", "-c", f"cat /dev/zero 2>&- > '{self.path}/filler' || true")
        assert os.statvfs(self.seen).f_bavail == 0

    def empty(self) -> None:
        self("rm", self.path / "filler")

    def set_read_only(self) -> None:
        """The run's directory; files that are open for writing stay so, as no remount takes them away."""
        self("mount", "--bind", self.run_dir, self.run_dir)
        self("mount", "-o", "remount,bind,ro", self.run_dir)

    def set_writable(self) -> None:
        self("umount", self.run_dir)

    def copy(self, to: Path) -> Path:
        """A copy of the run that everyone sees."""
        self("cp", "-a", self.run_dir, to)
        return to

    def train(self, *settings: str) -> subprocess.Popen[str]:
        return start([*self.enter, *command(self.run_dir, *settings)])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


def command(run_dir: Path, *settings: str) -> list[str]:
    words = [sys.executable, "-m", "metaslac", "meta-train", "--family", "point_robot", "--preset", "quick"]
    words += ["--device", "cpu", "--threads", "1", "--updates", str(UPDATES), "--run-dir", str(run_dir)]
    return words + [f"--set={assignment}" for assignment in (*TINY, "checkpoint.every=1", *settings)]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},  # as nsenter changes directory
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr, which has nothing for programmers in it."""
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err and "Exception ignored" not in err, err
    return process.returncode, err


def final_line(err: str) -> str:
    """What it ended for: the only line of its kind."""
    (line,) = (line for line in err.splitlines() if line.startswith("metaslac: "))
    assert err.splitlines()[-1] == line
    return line


@contextmanager
def paused(process: subprocess.Popen[str]) -> Iterator[None]:
    """Nothing happens in the process meanwhile."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_line(process: subprocess.Popen[str], words: str) -> str:
    """The next line on stderr with these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r}")


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "progress.csv").open() as file:
        table = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if not name.startswith("time/")} for row in table]


def assert_equal(one: Path, other: Path) -> None:
    assert len(rows(one)) == UPDATES
    assert rows(one) == rows(other)
    first, second = load_checkpoint(one), load_checkpoint(other)
    for name in ("model.safetensors", "training.safetensors"):
        mine, its = first.read_tensors(name), second.read_tensors(name)
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[key], its[key]) for key in mine)


def assert_intact(run_dir: Path) -> int:
    """Everything that looks like a checkpoint is a whole one; the update of the last."""
    parent = run_dir / "checkpoints"
    found = [path for path in parent.iterdir() if not path.is_symlink() and not path.name.startswith(".")]
    assert found
    for path in found:
        checkpoint = load_checkpoint(path)
        assert damaged_files(path, checkpoint.manifest) == []
    last = load_checkpoint(run_dir)
    assert last.path == sorted(found)[-1]
    update: int = last.manifest["update"]
    return update


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing came in the way of."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(command(run_dir)))[0] == 0
    return run_dir


def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on(
    disk: Disk, whole: Path, tmp_path: Path
) -> None:
    disk.resize(SMALL)
    code, err = finish(disk.train("checkpoint.grace_minutes=0"))
    assert code == FAULT
    line = final_line(err)
    update = assert_intact(disk.copy(tmp_path / "copy"))
    assert 0 < update < UPDATES - 1
    assert "No space left on device" in line and f"{UPDATES:08d}" not in line
    assert f"the last good checkpoint is {disk.run_dir}/checkpoints/{update:08d}" in line
    assert not list(disk.seen.glob("run/checkpoints/.*"))
    disk.resize(LARGE)
    assert finish(disk.train("checkpoint.grace_minutes=0"))[0] == 0
    assert_equal(whole, disk.copy(tmp_path / "finished"))


@pytest.mark.slow
def test_a_run_that_waits_for_room_comes_to_its_end_and_has_to_be_saved(
    disk: Disk, whole: Path, tmp_path: Path
) -> None:
    disk.resize(SMALL)
    code, err = finish(disk.train())
    assert code == FAULT
    assert err.count("training goes on without for at most") == 1  # it tries again after a minute
    assert f"update {UPDATES}: validation return" in err
    update = assert_intact(disk.copy(tmp_path / "copy"))
    assert 0 < update < UPDATES - 1
    assert f"the last good checkpoint is {disk.run_dir}/checkpoints/{update:08d}" in final_line(err)
    assert rows(tmp_path / "copy") == rows(whole)  # it was done, after all
    again = finish(disk.train())
    assert again[0] == FAULT and "No space left on device" in final_line(again[1])
    assert assert_intact(disk.copy(tmp_path / "again")) >= update
    disk.resize(LARGE)
    assert finish(disk.train())[0] == 0
    assert_equal(whole, disk.copy(tmp_path / "finished"))


@pytest.mark.slow
def test_room_that_is_made_in_time_lets_a_run_finish(disk: Disk, whole: Path, tmp_path: Path) -> None:
    disk.resize(SMALL)
    process = disk.train()
    line = wait_for_line(process, "training goes on without")
    assert "No space left on device" in line
    with paused(process):
        disk.resize(LARGE)
    assert finish(process)[0] == 0
    assert_intact(disk.copy(tmp_path / "copy"))
    assert_equal(whole, tmp_path / "copy")


def test_rows_wait_for_room_on_a_disk_without_any(disk: Disk, whole: Path, tmp_path: Path) -> None:
    process = disk.train()
    wait_until((disk.seen / "run" / "checkpoints" / "last").is_symlink, process)
    with paused(process):
        disk.fill()
    said = ""
    while "rows are kept until it can be" not in said or "training goes on without" not in said:
        said += wait_for_line(process, "No space left on device")
    assert len(said.splitlines()) <= 4
    with paused(process):
        assert len(list(disk.seen.glob("run/events*"))) <= 2
        disk.empty()
    code, err = finish(process)
    assert code == 0, err
    assert "No space left" not in err
    assert_intact(disk.copy(tmp_path / "copy"))
    assert_equal(whole, tmp_path / "copy")


@pytest.mark.slow
def test_a_stop_without_room_for_what_was_done_is_a_fault(disk: Disk, whole: Path, tmp_path: Path) -> None:
    disk.resize(SMALL)
    process = disk.train()
    wait_for_line(process, "training goes on without")
    process.send_signal(signal.SIGTERM)
    code, err = finish(process)
    update = assert_intact(disk.copy(tmp_path / "copy"))
    assert code == FAULT
    assert (
        f"No space left on device; the last good checkpoint is {disk.run_dir}/checkpoints/{update:08d}" in err
    )
    disk.resize(LARGE)
    assert finish(disk.train())[0] == 0
    assert_equal(whole, disk.copy(tmp_path / "finished"))


@pytest.mark.slow
def test_no_room_for_a_first_checkpoint(disk: Disk, whole: Path, tmp_path: Path) -> None:
    disk.resize(MIB)
    code, err = finish(disk.train("checkpoint.grace_minutes=0"))
    assert code == FAULT
    assert "No space left on device; no checkpoint yet" in final_line(err)
    assert not list((disk.seen / "run" / "checkpoints").iterdir())
    disk.fill()
    code, err = finish(disk.train("checkpoint.grace_minutes=0"))
    assert code == BAD_INPUT
    assert err.splitlines() == [final_line(err)] and "No space left on device" in err
    disk.empty()
    disk.resize(LARGE)
    assert finish(disk.train("checkpoint.grace_minutes=0"))[0] == 0
    assert_equal(whole, disk.copy(tmp_path / "finished"))


def test_a_disk_that_becomes_read_only_ends_the_run_and_it_goes_on(
    disk: Disk, whole: Path, tmp_path: Path
) -> None:
    process = disk.train("checkpoint.grace_minutes=0")
    wait_until((disk.seen / "run" / "checkpoints" / "00000001").is_dir, process)
    with paused(process):
        disk.set_read_only()
    code, err = finish(process)
    assert code == FAULT
    line = final_line(err)
    update = assert_intact(disk.copy(tmp_path / "copy"))
    assert "Read-only file system" in line
    assert f"the last good checkpoint is {disk.run_dir}/checkpoints/{update:08d}" in line

    code, err = finish(disk.train("checkpoint.grace_minutes=0"))
    assert code == BAD_INPUT
    assert err.splitlines() == [final_line(err)] and str(disk.run_dir) in err
    assert assert_intact(disk.copy(tmp_path / "same")) == update

    disk.set_writable()
    assert finish(disk.train("checkpoint.grace_minutes=0"))[0] == 0
    assert not list(disk.seen.glob("run/checkpoints/.*"))
    assert_equal(whole, disk.copy(tmp_path / "finished"))


def test_a_run_on_a_read_only_disk_is_not_begun(disk: Disk) -> None:
    disk("mount", "-o", "remount,ro", disk.path)
    code, err = finish(disk.train())
    assert code == BAD_INPUT
    assert err.splitlines() == [final_line(err)] and str(disk.run_dir) in err
    assert not list(disk.seen.iterdir())
