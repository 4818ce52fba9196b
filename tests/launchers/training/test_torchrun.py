"""`torchrun -m metaslac meta-train`: ranks that are killed, restarted and refused, as real processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.processes import children_of
from helpers.rank_runs import arguments, assert_whole
from helpers.ranked import ROOT, environment, finish, free_port, start_ranks
from runs import assert_equal

from metaslac.launchers.cli import cli

# Runs the command line; the second rank kills itself in the n-th call of one of these, before any restart.
DRIVER = """
import os, signal, sys
import metaslac.learning.learner, metaslac.storage.checkpoint, metaslac.training.collection
from metaslac.launchers.cli import main
where, count = sys.argv[1], int(sys.argv[2])
owner, name = {
    "visit": (metaslac.training.collection, "run_trial"),
    "update": (metaslac.learning.learner.Learner, "update"),
    "checkpoint": (metaslac.storage.checkpoint, "write_synced"),
}[where]
function, calls = getattr(owner, name), 0
def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **options)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    setattr(owner, name, killed)
sys.argv = ["metaslac", *sys.argv[3:]]
main()
"""
RESTARTS = 9


def torchrun(*command: str, ranks: int = 2) -> subprocess.Popen[str]:
    told = [f"--nproc-per-node={ranks}", f"--max-restarts={RESTARTS}", f"--master-port={free_port()}"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *told, *command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two ranks."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    [(code, out, err)] = finish([torchrun("-m", "metaslac", *arguments(run_dir))])
    assert code == 0 and out.count("finished") == 1, err
    return run_dir


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("update", 6),
        pytest.param("visit", 3, marks=pytest.mark.slow),
        pytest.param("checkpoint", 60, marks=pytest.mark.slow),
    ],
)
def test_a_killed_rank_is_restarted_and_the_run_goes_on_exactly(
    whole: Path, tmp_path: Path, where: str, count: int
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    run_dir = tmp_path / "run"
    [(code, out, err)] = finish([torchrun(str(script), where, str(count), *arguments(run_dir))])
    assert code == 0 and out.count("finished") == 1, err
    assert "going on from" in out
    assert "rank 0 of 2: another has ended or does not answer" in err
    assert f"the last good checkpoint is {run_dir}" in err
    assert "Traceback" not in err
    assert_whole(run_dir)
    assert_equal(whole, run_dir)
    assert not list((run_dir / "checkpoints").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_moments_change_nothing(whole: Path, tmp_path: Path, seed: int) -> None:
    rng, run_dir, kills = random.Random(seed), tmp_path / "run", 0
    process = torchrun("-m", "metaslac", *arguments(run_dir))
    while process.poll() is None and kills < 4:
        time.sleep(rng.uniform(4, 14))
        ranks = children_of(process.pid)
        if len(ranks) == 2:
            rng.choice(ranks).kill()
            kills += 1
    [(code, _, err)] = finish([process])
    assert code == 0, err
    assert_whole(run_dir)
    assert_equal(whole, run_dir)


@pytest.mark.parametrize("pause", [0.05, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_signal_to_one_rank_stops_all(tmp_path: Path, pause: float) -> None:
    """Also one that comes twice, as Ctrl-C does: from the terminal, and sent on by torchrun."""
    run_dir = tmp_path / "run"
    processes = start_ranks(2, "-m", "metaslac", *arguments(run_dir), "--updates=100000")
    deadline = time.monotonic() + 120
    while not (run_dir / "checkpoints" / "last").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGINT)
    time.sleep(pause)
    processes[1].send_signal(signal.SIGINT)
    (code, out, err), (other, quiet, _) = finish(processes)
    assert (code, other) == (75, 75), err
    assert "stopped at update" in out and quiet == ""
    assert_whole(run_dir)


def test_what_several_ranks_cannot_train_is_refused_in_one_line(tmp_path: Path) -> None:
    settings = ["--set=train.tasks_per_update=1"]
    (code, _, err), (other, _, nothing) = finish(
        start_ranks(2, "-m", "metaslac", *arguments(tmp_path / "run"), *settings)
    )
    assert (code, other) == (2, 2)
    lines = [line for line in err.splitlines() if line.startswith("metaslac: ")]
    assert lines == [
        "metaslac: 2 ranks are too many: train.tasks_per_update is 1, and each rank needs one or more"
    ]
    assert "metaslac: " not in nothing and "Traceback" not in err + nothing
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [["offline-train", "--dataset", "data"], ["sweep"]])
def test_commands_of_one_process_say_so(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert f"metaslac {command[0]} runs in one process, and torchrun has started 2" in result.output
