"""Which limits of a machine are obeyed: memory and CPU of control groups, affinity, OpenMP's variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import torch
from fakes import CPU
from runs import TINY

from metaslac.config.text import from_yaml
from metaslac.envs import make_family, make_vector_env
from metaslac.envs.machine import CpuThreads, cpu_threads
from metaslac.launchers.api.memory import available_bytes

ROOT = Path(__file__).parents[3]
MIB, GIB = 2**20, 2**30


class Machine:
    """The files that Linux shows, in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def available(self) -> int | None:
        return available_bytes(CPU, self.root)

    def threads(self, **environment: str) -> CpuThreads:
        return cpu_threads(self.root, environment)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with 8 GiB available and no control groups."""
    machine = Machine(tmp_path)
    machine.has(
        "proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nHugePages_Free: 0\n"
    )
    return machine


def test_where_nothing_is_known_nothing_is_said(tmp_path: Path) -> None:
    assert available_bytes(CPU, tmp_path) is None
    Machine(tmp_path).has("proc/meminfo", "MemTotal: 16777216 kB\n")
    assert available_bytes(CPU, tmp_path) is None


def test_without_limits_it_is_what_the_machine_has(machine: Machine) -> None:
    assert machine.available() == 8 * GIB
    machine.has("proc/self/cgroup", "0::/\n")
    machine.has("sys/fs/cgroup/memory.max", "max\n")
    machine.has("sys/fs/cgroup/memory.current", "1000\n")
    assert machine.available() == 8 * GIB


@pytest.mark.parametrize("where", ["", "/job/step", "/job"])
@pytest.mark.parametrize("top", ["sys/fs/cgroup", "sys/fs/cgroup/unified"])
def test_the_limit_of_a_group_or_one_around_it_holds(machine: Machine, where: str, top: str) -> None:
    machine.has("proc/self/cgroup", "0::/job/step\n")
    machine.has(f"{top}{where}/memory.max", f"{3 * GIB}\n")
    machine.has(f"{top}{where}/memory.current", f"{2 * GIB}\n")
    assert machine.available() == GIB
    machine.has(f"{top}{where}/memory.stat", f"anon 5\nactive_file {GIB // 4}\ninactive_file {GIB // 4}\n")
    assert machine.available() == GIB * 3 // 2


def test_version_one_of_control_groups(machine: Machine) -> None:
    group = "sys/fs/cgroup/memory/job"
    machine.has("proc/self/cgroup", "4:cpu,cpuacct:/\n3:memory:/job\n0::/\n")
    machine.has(f"{group}/memory.limit_in_bytes", f"{2 * GIB}\n")
    machine.has(f"{group}/memory.usage_in_bytes", f"{GIB}\n")
    machine.has(f"{group}/memory.stat", f"inactive_file 7\ntotal_inactive_file {MIB}\n")
    assert machine.available() == GIB + MIB
    machine.has(f"{group}/memory.limit_in_bytes", "9223372036854771712\n")
    assert machine.available() == 8 * GIB


def test_more_used_than_allowed_leaves_nothing(machine: Machine) -> None:
    machine.has("proc/self/cgroup", "0::/\n")
    machine.has("sys/fs/cgroup/memory.max", "1000\n")
    machine.has("sys/fs/cgroup/memory.current", "2000\n")
    assert machine.available() == 0


def test_a_gpu_has_what_its_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 8 * GIB))
    assert available_bytes(torch.device("cuda")) == 5 * GIB


@pytest.fixture
def eight_cores(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    return machine


def test_threads_are_as_many_as_cores_may_be_used(eight_cores: Machine) -> None:
    assert eight_cores.threads() == (8, "the cores it may run on")


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "3,2"}, 3),  # by depth of nesting
        ({"OMP_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "2"}, 2),
        ({"OMP_NUM_THREADS": "64"}, 8),
        *[({"OMP_NUM_THREADS": text}, 8) for text in ("", "0", "-2", "many")],  # as the runtime has it
    ],
)
def test_threads_are_no_more_than_is_set_for_openmp(
    eight_cores: Machine, variables: dict[str, str], number: int
) -> None:
    found = eight_cores.threads(**variables)
    assert found.number == number
    if number < 8:
        assert found.why in [f"{name}={text.partition(',')[0]}" for name, text in variables.items()]


@pytest.mark.parametrize("where", ["", "/job/step", "/job"])
@pytest.mark.parametrize("top", ["sys/fs/cgroup", "sys/fs/cgroup/unified"])
@pytest.mark.parametrize(
    ("quota", "number"),
    [("100000 100000", 1), ("150000 100000", 2), ("260000 100000", 3), ("1000 100000", 1), ("max 100000", 8)],
)
def test_threads_are_no_more_than_a_quota_pays_for(
    eight_cores: Machine, where: str, top: str, quota: str, number: int
) -> None:
    eight_cores.has("proc/self/cgroup", "0::/job/step\n")
    eight_cores.has(f"{top}{where}/cpu.max", f"{quota}\n")
    assert eight_cores.threads().number == number


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("250000", (3, "its CPU quota of 2.5 cores")), ("-1", (8, "the cores it may run on"))],
)
def test_quotas_of_version_one(eight_cores: Machine, quota: str, expected: tuple[int, str]) -> None:
    eight_cores.has("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n")
    eight_cores.has("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    eight_cores.has("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", f"{quota}\n")
    assert eight_cores.threads() == expected


@pytest.mark.parametrize("number", [1, 2])
def test_worlds_are_drawn_by_no_more_threads_by_themselves(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setenv("OMP_NUM_THREADS", str(number))
    before = set(threading.enumerate())
    with closing(make_vector_env(make_family("point_robot", image_size=32), 8)):
        assert len(set(threading.enumerate()) - before) == number


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which the OpenMP runtime says as it loads what it was set to."""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    clean |= {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "verbose", **environment}
    done = subprocess.run(
        [sys.executable, *words], env=clean, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("code", "environment", "spins"),
    [
        ("import metaslac, torch", {}, "3000"),
        ("import metaslac.envs, torch", {}, "3000"),
        ("import metaslac, torch", {"OMP_WAIT_POLICY": "active"}, "30000000000"),
        ("import metaslac, torch", {"GOMP_SPINCOUNT": "9"}, "9"),
        ("import metaslac, torch", {"OMP_WAIT_POLICY": "passive"}, "0"),
        ("import torch, metaslac", {}, "300000"),  # too late
    ],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    code: str, environment: dict[str, str], spins: str
) -> None:
    """How often a thread looks before it sleeps."""
    assert f"GOMP_SPINCOUNT = '{spins}'" in python("-c", code, **environment).stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="one core limits it, too")
def test_a_run_says_how_many_threads_it_has_and_why(tmp_path: Path) -> None:
    command = ["-m", "metaslac", "meta-train", "--family", "point_robot", "--preset", "quick"]
    command += ["--device", "cpu", "--updates", "1", "--run-dir", str(tmp_path / "run"), *TINY]
    done = python(*command, OMP_NUM_THREADS="1")
    line = "CPU threads 1: OMP_NUM_THREADS=1; GOMP_SPINCOUNT=3000"
    assert line in done.stdout.splitlines()[:2] and "GOMP_SPINCOUNT = '3000'" in done.stderr
    text = (tmp_path / "run/config.yaml").read_text()
    assert text.splitlines()[0] == f"# {line}"
    assert from_yaml(text).runtime.threads == 0  # elsewhere, another number may be right
    variant = json.loads((tmp_path / "run/variant.json").read_text())
    assert variant["threads"] == {"number": 1, "why": "OMP_NUM_THREADS=1"}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="one core limits it, too")
def test_doctor_says_it_too() -> None:
    done = python("-m", "metaslac", "doctor", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="active")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("threads ")]
    assert line.split(maxsplit=1)[1] == "1: OMP_NUM_THREADS=1; OMP_WAIT_POLICY=active"


WITHOUT_A_TEMPORARY_PLACE = """
import errno, os, sys, tempfile

def nowhere():
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

tempfile._get_default_tempdir = nowhere
os.environ["HOME"] = "/proc/nowhere"
from metaslac.launchers.cli import main
main()
"""


def test_reports_and_agents_are_made_on_a_machine_without_a_place_for_temporary_files(
    evaluated_run: Path, tmp_path: Path
) -> None:
    """Such as a container whose only writable place is the one for results."""
    run = str(evaluated_run)
    python("-c", WITHOUT_A_TEMPORARY_PLACE, "export", run, "--out", str(tmp_path / "agent"))
    out = tmp_path / "new" / "report.html"
    python("-c", WITHOUT_A_TEMPORARY_PLACE, "report", run, "--out", str(out), "--threads", "1")
    assert b"data:video/mp4" in out.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent", "new"]
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
