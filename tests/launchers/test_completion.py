"""What a shell is offered when a word is completed, as bash asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from metaslac.launchers.cli import cli


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fam"], ["families"]),
        (["meta-train", "--task-inference", "o"], ["oracle"]),
        (["dataset", ""], ["convert", "info", "record"]),
    ],
)
def test_shells_complete_commands_options_and_choices(words: list[str], offered: list[str]) -> None:
    typed = {"COMP_WORDS": "\n".join(["metaslac", *words]), "COMP_CWORD": str(len(words))}
    asked = CliRunner(env={"_METASLAC_COMPLETE": "bash_complete", **typed}).invoke(cli, prog_name="metaslac")
    assert [line.partition(",")[2] for line in asked.stdout.splitlines()] == offered


def offer(directory: Path, *words: str) -> list[str]:
    """Each as `type,value`, by a new process there, which has loaded no simulator and no torch."""
    typed = {"COMP_WORDS": "\n".join(["metaslac", *words]), "COMP_CWORD": str(len(words))}
    asked = f"""
import os, sys
os.environ |= {{"_METASLAC_COMPLETE": "bash_complete", **{typed!r}}}
from metaslac.launchers.cli import cli
try:
    cli(prog_name="metaslac")
except SystemExit:
    assert not {{"torch", "mujoco", "dm_control"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=directory, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_shells_complete_families_agents_and_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("b", "a", "a/checkpoints/1"):
        (runs / name).mkdir(parents=True)
    for file in ("b/config.yaml", "a/config.yaml", "a/checkpoints/1/manifest.json", "page.html"):
        (runs / file).touch()
    plain = "plain,{}".format
    zoo = [plain(f"zoo:{name}") for name in ("cheetah_vel", "point_robot", "reacher_goal")]
    assert offer(tmp_path, "meta-train", "--family", "po") == [plain("point_robot")]
    assert offer(tmp_path, "families", "--show", "dmc", ":", "pend") == [plain("pendulum-swingup")]
    assert offer(tmp_path, "demo", "") == [each.replace("zoo:", "") for each in zoo]
    assert offer(tmp_path, "adapt", "--checkpoint", "") == [*zoo, plain("runs/a"), plain("runs/b")]
    assert offer(tmp_path, "watch", "--checkpoint", "zoo", ":") == [each.replace("zoo:", "") for each in zoo]
    assert offer(tmp_path, "report", "runs/b", "runs/") == [plain("runs/a"), plain("runs/b")]
    assert offer(tmp_path, "inspect", "runs/a/checkpoints/") == [plain("runs/a/checkpoints/1")]
    assert offer(tmp_path, "meta-train", "--resume", "elsewhere") == ["dir,"]
