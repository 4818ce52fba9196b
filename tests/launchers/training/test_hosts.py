"""One run on two hosts, network namespaces with addresses of their own, and the link between them cut."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers.hosts import LINK, Host, can_make_hosts, two_hosts
from helpers.rank_runs import arguments, assert_whole
from helpers.ranked import ROOT, environment, finish
from runs import assert_equal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_make_hosts(), reason="network namespaces take iproute2 and root"),
]
UPDATES = 60
CUT_SECONDS = 30


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Iterator[Sequence[Host]]:
    with two_hosts(f"metaslac{abs(hash(request.node.name)) % 10_000}") as made:
        yield made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with two_hosts("metaslac-whole") as made:
        assert [code for code, _, _ in finish(start(made, arguments(run_dir, UPDATES)))] == [0, 0]
    return run_dir


def start(hosts: Sequence[Host], command: Sequence[str]) -> list[subprocess.Popen[str]]:
    """A torchrun on each, of one rank."""
    return [
        subprocess.Popen(
            host.command(
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
                *(f"--node-rank={number}", f"--master-addr={hosts[0].address}", "--master-port=29511"),
                *("-m", "metaslac", *command),
            ),
            cwd=ROOT,
            env=environment(GLOO_SOCKET_IFNAME=LINK),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, host in enumerate(hosts)
    ]


def wait_until(done: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rows(run_dir: Path) -> int:
    path = run_dir / "progress.csv"
    return path.read_text().count("\n") if path.exists() else 0


def test_a_link_that_comes_back_changes_nothing(hosts: Sequence[Host], whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    processes = start(hosts, arguments(run_dir, UPDATES))
    wait_until(lambda: (run_dir / "checkpoints" / "last").exists())
    hosts[1].link("down")
    time.sleep(2)  # what was on its way is over
    before = rows(run_dir)
    time.sleep(CUT_SECONDS - 2)
    assert rows(run_dir) == before, "it was cut"
    hosts[1].link("up")
    found = finish(processes)
    assert [code for code, _, _ in found] == [0, 0], "\n".join(err for _, _, err in found)
    assert_whole(run_dir)
    assert_equal(whole, run_dir)


def test_a_link_that_is_gone_ends_both_sides_and_nothing_is_lost(
    hosts: Sequence[Host], whole: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    processes = start(hosts, arguments(run_dir, UPDATES))
    wait_until(lambda: (run_dir / "checkpoints" / "last").exists())
    hosts[1].link("down")
    since = time.monotonic()
    found = finish(processes, timeout=700)
    print(f"both sides ended within {time.monotonic() - since:.0f} s")
    for code, _, err in found:
        assert code == 1
        assert "has ended or does not answer" in err, err
        assert f"the last good checkpoint is {run_dir}" in err
    assert_whole(run_dir)
    hosts[1].link("up")
    found = finish(start(hosts, ["meta-train", "--resume", str(run_dir), "--quiet"]))
    assert [code for code, _, _ in found] == [0, 0], "\n".join(err for _, _, err in found)
    assert_equal(whole, run_dir)
