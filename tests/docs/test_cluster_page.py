"""The batch scripts of docs/cluster.md; tests/launchers/sweep/slurm runs them where there is Slurm."""

import re
import shlex
import subprocess

import click
import pytest
from helpers.documents import batch_scripts

from metaslac.launchers.training.meta_train import meta_train

SCRIPTS = batch_scripts()


def test_there_is_one_for_a_process_and_one_for_torchrun() -> None:
    assert len(SCRIPTS) == 2 and "torchrun" in SCRIPTS[1] and "torchrun" not in SCRIPTS[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_is_bash_and_asks_sbatch_for_what_it_counts_on(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split()[1:] for line in script.splitlines() if line.startswith("#SBATCH")]
    options = {word.partition("=")[0] for words in lines for word in words}
    assert {"--signal", "--requeue", "--open-mode", "--time"} <= options
    # Options below the first command are not read.
    first = next(line for line in script.splitlines() if line and not line.startswith("#"))
    assert "#SBATCH" not in script.partition(first)[2]


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_it_runs_takes_the_pages_arguments(script: str) -> None:
    (called,) = re.findall(r"metaslac meta-train (.+)", script)
    assert called.startswith('"$@"')
    words = shlex.split("--family cheetah_vel --run-dir runs/cheetah_vel-full")
    meta_train.parse_args(click.Context(meta_train), words)
