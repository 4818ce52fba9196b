"""One run on two hosts, network namespaces with addresses of their own, and the link between them cut."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.hosts import LINK, Host, two_hosts, why_no_hosts
from helpers.rank_runs import arguments, assert_whole
from helpers.ranked import ROOT, environment, finish
from runs import assert_equal, rows
from terminals import wait_for

pytestmark = pytest.mark.slow
UPDATES = 60
CUT_SECONDS = 30


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    if reason := why_no_hosts():
        pytest.skip(reason)


@pytest.fixture
def hosts() -> Iterator[Sequence[Host]]:
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with two_hosts() as made:
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


def test_a_link_that_comes_back_changes_nothing(hosts: Sequence[Host], whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    processes = start(hosts, arguments(run_dir, UPDATES))
    wait_for(lambda: (run_dir / "checkpoints" / "last").exists())
    hosts[1].link("down")
    time.sleep(2)  # what was on its way is over
    before = rows(run_dir)
    time.sleep(CUT_SECONDS - 2)
    assert rows(run_dir) == before, "nothing was learned meanwhile"
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
    wait_for(lambda: (run_dir / "checkpoints" / "last").exists())
    hosts[1].link("down")
    found = finish(processes, timeout=180)  # 55 s, and what it takes to say so
    for code, _, err in found:
        assert code == 1
        assert "has ended or does not answer" in err, err
        assert f"the last good checkpoint is {run_dir}" in err
    assert_whole(run_dir)
    hosts[1].link("up")
    found = finish(start(hosts, ["meta-train", "--resume", str(run_dir), "--quiet"]))
    assert [code for code, _, _ in found] == [0, 0], "\n".join(err for _, _, err in found)
    assert_equal(whole, run_dir)
