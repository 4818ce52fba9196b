"""What a file system cannot do is done otherwise and told once: links, locks, syncing, deleting."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import config
from fakes import tiny_config
from runs import assert_equal, at, train

from metaslac.errors import MetaslacError
from metaslac.evidence.evaluation_file import evaluation_path
from metaslac.storage.checkpoint import find_checkpoint, load_checkpoint, prune
from metaslac.storage.files import write_atomically
from metaslac.storage.locks import InUse, lock, owner_of
from metaslac.training.run_directory import last_checkpoint, locked, other_checkpoints

Refuse = Callable[[object, str, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Makes a function of the operating system fail with a number."""

    def refuse(module: object, name: str, number: int) -> None:
        def refused(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(module, name, refused)

    return refuse


@pytest.fixture
def linkless(run_dir: Path, tmp_path: Path, refuse: Refuse) -> Path:
    """A copy of a run, its `last` the text file that is written without links, on a disk without them."""
    copied = Path(shutil.copytree(run_dir, tmp_path / "a run", symlinks=True))
    (copied / "checkpoints" / "last").unlink()
    refuse(os, "symlink", errno.EPERM)
    with locked(copied):
        pass
    assert (copied / "checkpoints" / "last").read_text() == "00000006\n"
    return copied


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_run_without_links_is_the_run_with_them(
    run_dir: Path, tmp_path: Path, number: int, refuse: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("symlink", "link"):  # the latter is for replay that has not changed
        refuse(os, name, number)
    assert not train(tmp_path, at(20), config())
    assert train(tmp_path, config=config())
    assert_equal(run_dir, tmp_path)
    assert (tmp_path / "checkpoints" / "last").read_text() == "00000006\n"
    assert capsys.readouterr().err.count("no symbolic links in") == 2  # once in each process


def test_the_newest_are_kept_and_the_last_one_without_links(tmp_path: Path, refuse: Refuse) -> None:
    refuse(os, "symlink", errno.EPERM)
    base = tiny_config()
    assert train(tmp_path, config=base)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["00000000-2", "00000003", "00000006", "last"]
    (tmp_path / "checkpoints" / "last").write_text("00000003\n")  # to go on from there
    prune(tmp_path / "checkpoints", 1)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == names[1:]
    assert load_checkpoint(tmp_path).manifest["update"] == 3
    assert train(tmp_path, config=base)
    assert (tmp_path / "checkpoints" / "last").read_text() == "00000006-2\n"
    assert load_checkpoint(tmp_path).path.name == "00000006-2"


def test_last_is_followed_wherever_a_checkpoint_can_be_named(linkless: Path) -> None:
    newest = linkless / "checkpoints" / "00000006"
    for path in (linkless, linkless / "checkpoints", linkless / "checkpoints" / "last"):
        assert find_checkpoint(path) == newest
    assert last_checkpoint(linkless) == newest
    beside = newest.with_name("00000006.evaluation.json")
    assert evaluation_path(linkless / "checkpoints" / "last") == beside


def test_the_way_to_another_checkpoint_works_without_links(linkless: Path) -> None:
    text = other_checkpoints(linkless / "checkpoints" / "00000006")
    assert "others are 00000000, " in text
    subprocess.run(text.rpartition(", ")[2], shell=True, check=True)
    assert find_checkpoint(linkless).name == "00000004"


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"\n", b"\xff\n", b"00000099\n", b"../a run/checkpoints/00000004", b".", b"..", b"last\n"],
        *[b"00000004\n\n", b"00000004\0", b"0" * 10**6, b"/etc/passwd"],
    ],
)
def test_text_that_leads_nowhere_is_not_followed_but_mended(linkless: Path, content: bytes) -> None:
    (linkless / "checkpoints" / "last").write_bytes(content)
    with pytest.raises(MetaslacError, match="last leads to no checkpoint; there are 00000000"):
        find_checkpoint(linkless)
    with locked(linkless):
        assert find_checkpoint(linkless).name == "00000006"


def test_a_full_disk_is_no_disk_without_links(tmp_path: Path, refuse: Refuse) -> None:
    refuse(os, "symlink", errno.ENOSPC)
    with pytest.raises(MetaslacError, match="No space left on device"):
        train(tmp_path, config=tiny_config_without_grace())
    assert not (tmp_path / "checkpoints" / "last").exists()


def tiny_config_without_grace() -> object:
    base = config()
    object.__setattr__(base.checkpoint, "grace_minutes", 0.0)
    return base


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_one_process_at_a_time_without_locks(tmp_path: Path, number: int, refuse: Refuse) -> None:
    refuse(fcntl, "flock", number)
    told: list[str] = []
    owner = tmp_path / "run" / ".lock.owner"
    for _ in range(2):
        with locked(tmp_path / "run", told.append):
            who = f"process {os.getpid()}, says {owner}; if it has ended, delete"
            with pytest.raises(MetaslacError) as caught, locked(tmp_path / "run"):
                pass
            assert f"another process is training there ({who} that file)" in str(caught.value)
            assert owner.exists()
        assert not owner.exists()
    (line, again) = told
    assert line == again and f"no locks in {tmp_path / 'run'} ({os.strerror(number)})" in line


def test_any_other_trouble_with_a_lock_is_no_lack_of_locks(tmp_path: Path, refuse: Refuse) -> None:
    refuse(fcntl, "flock", errno.EIO)
    with pytest.raises(MetaslacError, match="Input/output error"), locked(tmp_path / "run"):
        pass


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def record(path: Path, process: int, **changed: str) -> str:
    """What is in the file of a lock that `process` of this host has, but for what is `changed`."""
    with lock(path, str):
        names = ("process", "host", "started")
        now = dict(zip(names, owner_of(path).read_text().splitlines(), strict=True))
    assert now["process"] == str(os.getpid())
    return "".join(f"{value}\n" for value in {**now, "process": str(process), **changed}.values())


def test_a_lock_is_taken_from_a_process_of_this_host_that_ended(tmp_path: Path, refuse: Refuse) -> None:
    refuse(fcntl, "flock", errno.ENOLCK)
    path = tmp_path / ".lock"
    gone = record(path, ended_process())
    reused = record(path, os.getpid(), started="1")  # the number, by a later process
    for owner in (gone, reused):
        owner_of(path).write_text(owner)
        with lock(path, str):
            assert owner_of(path).read_text().split()[0] == str(os.getpid())
        assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


def test_a_lock_is_not_taken_from_anybody_else(tmp_path: Path, refuse: Refuse) -> None:
    refuse(fcntl, "flock", errno.ENOLCK)
    path = tmp_path / ".lock"
    elsewhere = record(path, ended_process(), host="elsewhere")
    for content in (elsewhere.encode(), b"", b"{", b"1\n", b"\xff", b"x\ny\nz\n", b"1" * 10**5):
        owner_of(path).write_bytes(content)
        with pytest.raises(InUse), lock(path, str):
            pass
        assert owner_of(path).read_bytes() == content
    owner_of(path).unlink()  # as the line says
    with lock(path, str):
        pass


RACER = """
import errno, fcntl, sys, time
from pathlib import Path
from metaslac.storage.locks import InUse, lock

def refused(*_):
    raise OSError(errno.ENOLCK, "No locks available")

fcntl.flock = refused
print("ready", flush=True)
sys.stdin.readline()
try:
    with lock(Path(sys.argv[1]), lambda text: None):
        print("has it", flush=True)
        sys.stdin.readline()
except InUse:
    print("in use", flush=True)
"""


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path: Path, refuse: Refuse) -> None:
    path = tmp_path / ".lock"
    refuse(fcntl, "flock", errno.ENOLCK)  # here, as the racers do themselves
    owner_of(path).write_text(record(path, ended_process()))
    command = [sys.executable, "-c", RACER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(command, **pipes) for _ in range(6)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 6
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.stdout.readline() for racer in racers]
    assert sorted(said) == ["has it\n", *["in use\n"] * 5]
    for racer in racers:
        racer.communicate()
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_files_are_written_where_nothing_can_be_synced(tmp_path: Path, number: int, refuse: Refuse) -> None:
    refuse(os, "fsync", number)
    write_atomically(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_sync_that_fails_is_no_lack_of_syncing(tmp_path: Path, refuse: Refuse) -> None:
    refuse(os, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "a", b"content")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR])
def test_files_are_written_where_no_folder_can_be_opened(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = os.open

    def refused(path: Path, flags: int, *mode: int) -> int:
        if Path(path).is_dir():
            raise OSError(number, os.strerror(number))
        return open_(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    write_atomically(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_leftovers_that_cannot_be_deleted_are_told_and_in_nobodys_way(
    linkless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (linkless / "checkpoints" / ".00000004.removed-12").mkdir()

    def refused(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))  # as NFS says of files that are open

    monkeypatch.setattr(shutil, "rmtree", refused)
    told: list[str] = []
    with locked(linkless, told.append):
        assert find_checkpoint(linkless).name == "00000006"
    (line,) = told
    assert line.startswith(f"cannot delete what an earlier process left in {linkless / 'checkpoints'}: ")
