"""Files that commands leave, as a strict reader takes them."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reports import ONE_THREAD
from runs import TINY

from metaslac.errors import MetaslacError
from metaslac.launchers.outputs import check_writable, free_name, write_json
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import damaged_files
from metaslac.storage.named import ZOO


def test_json_holds_nothing_that_json_cannot_say(tmp_path: Path) -> None:
    """NaN and Infinity, which Python would write, are an error or zero to others."""
    values = {"returns": [1.5, math.nan, -math.inf], "deep": [{"mean": math.nan}, (2, True, "NaN", None)]}
    write_json(tmp_path / "table.json", values)
    told = json.loads((tmp_path / "table.json").read_text(), parse_constant=pytest.fail)
    assert told == {"returns": [1.5, None, None], "deep": [{"mean": None}, [2, True, "NaN", None]]}


def test_directories_on_the_way_are_made_when_the_file_is_written_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "table.json"
    check_writable(path)
    assert not list(tmp_path.iterdir())
    write_json(path, {})
    assert path.is_file()
    with pytest.raises(MetaslacError, match=r"table\.json is not a directory"):
        check_writable(path / "further" / "down.json")


def test_a_free_name_is_one_of_nothing_that_is_there(tmp_path: Path) -> None:
    film = tmp_path / "demo.mp4"
    assert free_name(film) == film
    film.touch()
    (tmp_path / "demo-2.mp4").symlink_to("nowhere")
    assert free_name(film) == tmp_path / "demo-3.mp4"


def test_what_was_asked_for_is_written_though_nobody_reads_what_is_said(tmp_path: Path) -> None:
    """As under `| head -n 1`, where the reader goes before the last line."""
    files = {
        flag: tmp_path / name for flag, name in (("json", "a.json"), ("video", "a.gif"), ("picture", "a.png"))
    }
    command = [sys.executable, "-m", "metaslac", "adapt", "--checkpoint", "zoo:point_robot", "--task", "80"]
    command += ["--episodes", "1", "--plain", "--threads", "1"]
    command += [f"--{flag}={path}" for flag, path in files.items()]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=300
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(path.is_file() for path in files.values())


def test_a_full_disk_under_what_is_said_is_told_in_a_line() -> None:
    command = [sys.executable, "-m", "metaslac", "settings"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=300
        )
    said = "metaslac: cannot write all that was to be said: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_run_that_was_started_without_standard_files_is_a_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "metaslac", "meta-train", "--family", "point_robot", "--preset", "quick"]
    command += [*ONE_THREAD, "--updates", "1", "--run-dir", str(tmp_path / "run"), *TINY]
    done = subprocess.run(["sh", "-c", f"exec {shlex.join(command)} <&- >&- 2>&-"], check=False, timeout=300)
    assert done.returncode == 0
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.manifest["update"] == 1
    assert damaged_files(checkpoint.path, checkpoint.manifest) == []


@pytest.mark.parametrize(("encoding", "said"), [("utf-8", b"caf\xe9\xd1\x8f"), ("latin-1", b"caf??")])
def test_a_name_that_cannot_be_written_in_the_terminals_letters_is_said_all_the_same(
    tmp_path: Path, encoding: str, said: bytes
) -> None:
    """One byte of it is Latin-1's, and one letter is Cyrillic."""
    agent = shutil.copytree(ZOO / "point_robot", tmp_path / os.fsdecode(b"caf\xe9\xd1\x8f"))
    command = [sys.executable, "-m", "metaslac", "inspect", str(agent)]
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0].endswith(said)
