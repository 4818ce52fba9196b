"""What `metaslac report` makes no page of, in one line each."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import untrained_checkpoint
from reports import ONE_THREAD, TRIALS, run

from metaslac.envs import make_family
from metaslac.launchers.cli import cli
from metaslac.launchers.report.gather import read_run


def refusal(*arguments: str) -> str:
    """The line with which the command refuses; nothing is written."""
    result = CliRunner().invoke(cli, ["report", *arguments])
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    return line


def edited(directory: Path, tmp_path: Path, **facts: object) -> Path:
    """A copy of a run whose evaluation says something else."""
    other = tmp_path / "edited"
    shutil.copytree(directory, other, symlinks=True)
    values = json.loads((other / "evaluation.json").read_text())
    (other / "evaluation.json").write_text(json.dumps({**values, **facts}))
    return other


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"family": "reacher_goal"}, "family point_robot"),
        ({"task_hash": "0" * 64}, "task_hash"),
        ({"seed": 5}, "seed 0"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    evaluated_run: Path, tmp_path: Path, facts: dict[str, object], words: str
) -> None:
    out = tmp_path / "out.html"
    line = refusal(str(evaluated_run), str(edited(evaluated_run, tmp_path, **facts)), "--out", str(out))
    assert "no runs to compare" in line and words in line and "edited" in line
    assert not out.exists()


def test_runs_of_different_episodes_are_refused(evaluated_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(evaluated_run, other, symlinks=True)
    asked = ("--episodes", "1", "--trials", str(TRIALS), "--overwrite")
    run("evaluate", "--checkpoint", str(other), *asked, *ONE_THREAD)
    line = refusal(str(evaluated_run), str(other), "--out", str(tmp_path / "out.html"))
    assert "episodes 2" in line and line.endswith(f"{other} 1")


def test_an_evaluation_to_choose_on_is_no_report(evaluated_run: Path, tmp_path: Path) -> None:
    directory = edited(evaluated_run, tmp_path, split="validation")
    line = refusal(str(directory), "--out", str(tmp_path / "out.html"))
    assert "is of validation tasks, and a report of held-out ones; `metaslac evaluate" in line


def test_a_run_that_was_not_evaluated_is_refused(evaluated_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "a run"
    shutil.copytree(evaluated_run, other, symlinks=True)
    (other / "evaluation.json").unlink()
    line = refusal(str(other), "--out", str(tmp_path / "out.html"))
    assert f"`metaslac evaluate --checkpoint '{other}'` makes it" in line


def test_other_bad_input_is_refused(evaluated_run: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out.html"))
    assert "is given twice" in refusal(str(evaluated_run), f"{evaluated_run}/../{evaluated_run.name}", *out)
    assert "must end in .html" in refusal(str(evaluated_run), "--out", str(tmp_path / "out.pdf"))
    (tmp_path / "file").touch()
    assert "file is not a directory" in refusal(str(evaluated_run), "--out", str(tmp_path / "file/out.html"))
    (tmp_path / "file").unlink()
    assert "is not a directory" in refusal(str(tmp_path / "nowhere"), *out)
    assert "--family reacher_goal" in refusal(str(evaluated_run), "--family", "reacher_goal", *out)
    assert "is a checkpoint" in refusal(str(evaluated_run / "checkpoints" / "last"), *out)
    values = json.loads((evaluated_run / "evaluation.json").read_text())
    without_settings = json.dumps({**values, "settings": {"task": {"size": 2}}})
    for name, content, words in (
        ("evaluation.json", "[]", "is not an evaluation"),
        ("progress.csv", "update,x\n1,2\n3\n", "not a table of numbers"),
        ("progress.csv", "update,x\n1,many\n", "not a table of numbers"),
        ("progress.csv", "", "not a table of numbers"),
        ("progress.csv", "update,env_steps\n1,2\n", "has no time/seconds"),
        ("progress.csv", "update,env_steps,time/seconds\n", "has no rows"),
        ("evaluation.json", without_settings, "settings are not those of a run"),
    ):
        other = tmp_path / "damaged"
        shutil.copytree(evaluated_run, other, symlinks=True)
        (other / name).write_text(content)
        assert words in refusal(str(other), *out)
        shutil.rmtree(other)
    assert list(tmp_path.iterdir()) == []


def test_files_among_the_directories_are_passed_over(evaluated_run: Path, tmp_path: Path) -> None:
    film = tmp_path / "adapt.mp4"
    film.touch()
    out = tmp_path / "out.html"
    asked = ("report", str(film), str(evaluated_run), "--out", str(out), *ONE_THREAD)
    result = CliRunner().invoke(cli, asked)
    assert (result.exit_code, result.stderr) == (0, f"passed over, as no directories: {film}\n")
    out.unlink()
    result = CliRunner().invoke(cli, ("report", str(film), "--out", str(out)))
    assert result.exit_code == 2 and f"{film} is not a directory" in result.stderr and not out.exists()


def test_rows_that_are_not_the_last_checkpoints_are_refused(evaluated_run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(evaluated_run, tmp_path / "a run", symlinks=True))
    path, rows = other / "progress.csv", (other / "progress.csv").read_text()
    lines = rows.splitlines(keepends=True)
    for under_way in (rows + lines[-1], "".join(lines[:-1]), rows):
        path.write_text(under_way)
        assert len(read_run(other).progress["update"]) == under_way.count("\n") - 1
    path.write_text(rows.replace("\n2,", "\n2,1", 1))
    line = refusal(str(other), "--out", str(tmp_path / "out.html"))
    assert "progress.csv was changed: it has not the rows of 00000003, the last checkpoint" in line
    subprocess.run(line.rpartition(": ")[2], shell=True, check=True)
    assert path.read_text() == rows


def test_a_family_that_is_code_is_not_imported_unasked(evaluated_run: Path, tmp_path: Path) -> None:
    family = make_family("point_robot", image_size=32)
    family.name = "mine_own:Family"
    directory = edited(evaluated_run, tmp_path, family=family.name)
    shutil.rmtree(directory / "checkpoints")
    untrained_checkpoint(directory / "checkpoints/1", family)
    (tmp_path / "mine_own.py").write_text("raise SystemExit('imported')\n")
    line = refusal(str(directory), "--out", str(tmp_path / "out.html"))
    assert "if you trust it, add --family mine_own:Family" in line
