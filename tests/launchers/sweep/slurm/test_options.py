"""What is asked of Slurm: understood or refused in a line, and in the batch script as sbatch has it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from metaslac.errors import MetaslacError
from metaslac.launchers.cli import cli
from metaslac.launchers.sweep.slurm.resources import Resources, asked_resources
from metaslac.launchers.sweep.slurm.submission import submit

SBATCH = """#!/bin/sh
cp "$1" {place}/script.sh
{last}
"""


def fake_slurm(
    place: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str = "echo Submitted batch job 41"
) -> None:
    """Commands of Slurm's in front of all others: sbatch keeps what it is given, the others do nothing."""
    place.mkdir()
    for name in ("srun", "squeue", "scancel", "scontrol"):
        (place / name).write_text("#!/bin/sh\n")
    (place / "sbatch").write_text(SBATCH.format(place=shlex.quote(str(place)), last=sbatch))
    for path in place.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")


def script_options(path: Path) -> dict[str, str]:
    words = [
        word
        for line in path.read_text().splitlines()
        if line.startswith("#SBATCH ")
        for word in shlex.split(line.removeprefix("#SBATCH "))
    ]
    return dict(word.removeprefix("--").split("=", 1) if "=" in word else (word[2:], "") for word in words)


def test_the_script_asks_for_what_was_asked_and_runs_the_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch)
    folder = tmp_path / "my sweep/slurm"
    folder.mkdir(parents=True)
    asked: dict[str, Any] = {"partition": "gpu", "gpus": 1, "time": "1-12", "memory": "16G"}
    resources = asked_resources(True, False, ("account=my group", "--exclude=n[1-3]"), **asked)
    assert resources is not None
    runs = ["infer-s0", "blind-s0", "infer-s1"]
    assert submit(folder, "metaslac-x", runs, resources, 4, 2) == ["41_0", "41_1", "41_2"]
    script = tmp_path / "bin/script.sh"
    assert script_options(script) == {
        "array": "0-2%2",
        "job-name": "metaslac-x",
        "partition": "gpu",
        "gpus-per-node": "1",
        "time": "1-12",
        "mem": "16G",
        "cpus-per-task": "4",
        "nodes": "1",
        "account": "my group",
        "exclude": "n[1-3]",
        "output": f"{folder}/%A_%a.out",
        "open-mode": "append",
        "requeue": "",
        "signal": "B:USR1@120",
    }
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    last = shlex.split([line for line in script.read_text().splitlines() if line][-1])
    assert last[:2] == ["exec", "env"] and last[3:5] == [sys.executable, "-P"]
    assert last[-4:] == [str(folder), *runs]
    assert not list(folder.rglob("*.pkl"))  # a command line is all that is handed over


def test_what_is_not_asked_for_is_left_to_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch)
    submit(tmp_path, "x", ["infer-s0"], Resources(), 1, 1)
    found = script_options(tmp_path / "bin/script.sh")
    assert not {"partition", "time", "mem", "gpus-per-node", "wckey", "account"} & found.keys()


def test_sbatch_says_no_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, "echo 'sbatch: error: no such account' >&2; exit 1")
    with pytest.raises(MetaslacError, match=r"^sbatch: .*no such account"):
        submit(tmp_path, "x", ["infer-s0"], Resources(), 1, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--partition", "gpu"], "--partition goes with --slurm only"),
        (["--detach"], "--detach goes with --slurm only"),
        (["--sbatch", "account=a"], "--sbatch goes with --slurm only"),
        (["--slurm", "--time", "soon"], "--time takes minutes, H:MM:SS or D-HH as sbatch does, not 'soon'"),
        (["--slurm", "--time", "2"], "--time 2: jobs end themselves 120 s before it is over"),
        (["--slurm", "--time", "0:01:59"], "--time 0:01:59: jobs end"),
        (["--slurm", "--memory", "16"], "--memory takes a number of M, G or T, such as 16G, not '16'"),
        (["--slurm", "--gpus", "2"], "'--gpus'"),
        (["--slurm", "--partition", "a\nrm"], "--partition takes printable text"),
        (["--slurm", "--sbatch", "account"], "--sbatch takes OPTION=VALUE"),
        (["--slurm", "--sbatch", "array=0-9"], "--sbatch array: the sweep decides it"),
        (["--slurm", "--sbatch", "mem=1G"], "--sbatch mem: --memory is for that"),
        (["--slurm", "--sbatch", "comment=a\nrm"], "--sbatch comment takes printable text"),
        (["--slurm", "--out", "100%"], "Slurm has a meaning of its own for % in 100%"),
        (["--slurm", "--memory", "100M"], "--memory 100M: each run needs "),
    ],
)
def test_bad_input_is_refused_in_a_line(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["sweep", "--family", "point_robot", "--preset", "quick", *options])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


@pytest.mark.parametrize(
    ("time", "fits"),
    [("3", True), ("2:01", True), ("0:02:01", True), ("0-00:02:01", True), ("0-1", True), ("1:59", False)],
)
def test_times_are_read_as_sbatch_reads_them(time: str, fits: bool) -> None:
    if fits:
        assert asked_resources(True, False, (), time=time) == Resources(time=time)
    else:
        with pytest.raises(MetaslacError):
            asked_resources(True, False, (), time=time)


def test_without_slurm_or_submitit_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["sweep", "--family", "point_robot", "--preset", "quick", "--slurm"]
    line = CliRunner().invoke(cli, command).stderr
    assert line.startswith("metaslac: --slurm: sbatch, squeue, scancel, scontrol not found here")
    fake_slurm(tmp_path / "bin", monkeypatch)
    monkeypatch.setitem(sys.modules, "submitit", None)
    line = CliRunner().invoke(cli, command).stderr
    assert line == 'metaslac: --slurm needs submitit: pip install "metaslac[slurm]"\n'
