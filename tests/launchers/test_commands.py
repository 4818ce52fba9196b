"""The commands as a person uses them, on real pixels and the smallest possible agent."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import click
import imageio_ffmpeg
import pytest
from click.testing import CliRunner, Result
from runs import SMALL

import metaslac.memory
import metaslac.meta_train
from envs import make_family
from launchers import doctor
from launchers.cli import cli
from launchers.doctor import Attempt
from metaslac.checkpoint import load_checkpoint
from metaslac.run_log import TIME_COLUMNS
from metaslac.settings import describe
from metaslac.version import __version__

COMMANDS = ("meta-train", "sweep", "adapt", "evaluate", "families", "settings", "doctor")

ONE_THREAD = ("--device", "cpu", "--threads", "1")  # no slower for something so small

TINY = [
    f"--set={assignment}"
    for assignment in (
        *SMALL,
        "train.pretrain_updates=2",
        "train.tasks_per_visit=2",
        "train.tasks_per_update=2",
        "evaluation.every=2",
    )
]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result


def tiny_run(run_dir: Path) -> Path:
    run(
        *["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD],
        *["--updates", "3", "--run-dir", str(run_dir), *TINY],
    )
    return run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("runs") / "one")


def rows_but_the_times(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "progress.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in csv.DictReader(file)]


def test_a_run_leaves_all_that_was_promised(run_dir: Path) -> None:
    assert {"config.yaml", "variant.json", "progress.csv", "checkpoints"} <= {
        p.name for p in run_dir.iterdir()
    }
    assert list(run_dir.glob("events.out.tfevents.*"))
    rows = rows_but_the_times(run_dir)
    assert [row["update"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["test/return_1"] == "" and float(rows[2]["test/return_2"]) < 0
    family = make_family("point_robot")
    assert json.loads((run_dir / "variant.json").read_text())["task_hash"] == family.task_hash
    saved = load_checkpoint(run_dir)
    assert saved.manifest["update"] == 3
    assert saved.config.train.updates == 3 and saved.config.family.image_size == 32


def test_a_run_says_what_memory_it_will_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaslac.memory, "available_bytes", lambda device: 2**40)
    monkeypatch.setattr(metaslac.meta_train, "meta_train", lambda *_, **__: None)
    command = ["meta-train", "--preset", "quick", "--device", "cpu", "--run-dir", str(tmp_path / "run")]
    parts = "replay [0-9.]+ MiB, weights [0-9.]+ MiB, activations [0-9.]+ MiB"
    line = rf"^memory on cpu: {parts}, of 1024\.0 GiB available$"
    for expected, again in ((1, command), (0, [*command, "--quiet"])):
        assert len(re.findall(line, run(*again).stdout, re.MULTILINE)) == expected


def test_the_same_seed_gives_the_same_numbers(run_dir: Path, tmp_path: Path) -> None:
    assert rows_but_the_times(tiny_run(tmp_path / "again")) == rows_but_the_times(run_dir)


def test_adapt_shows_and_saves_every_held_out_task(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "adapt.json"
    result = run("adapt", *ONE_THREAD, "--checkpoint", str(run_dir), "--json", str(path))
    report = json.loads(path.read_text())
    assert list(report) == ["family", "checkpoint", "task_hash", "tasks", "mean_returns"]
    assert report["task_hash"] == make_family("point_robot").task_hash
    held_out = make_family("point_robot").test_tasks
    assert [task["index"] for task in report["tasks"]] == [task.index for task in held_out]
    assert [tuple(task["params"]) for task in report["tasks"]] == [task.params for task in held_out]
    assert all(len(task["returns"]) == len(task["belief_std"]) == 2 for task in report["tasks"])
    assert all(0 < std < 1 for task in report["tasks"] for std in task["belief_std"])
    first = sum(task["returns"][0] for task in report["tasks"]) / len(held_out)
    assert report["mean_returns"][0] == pytest.approx(first)
    lines = result.stdout.splitlines()
    assert len(lines) == len(held_out) + 2
    assert lines[-1].split()[:2] == ["mean", f"{first:.2f}"]


def test_adapt_films_one_task(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.mp4"
    run(
        "adapt",
        *ONE_THREAD,
        "--checkpoint",
        str(run_dir),
        "--task",
        "85",
        "--episodes",
        "2",
        "--video",
        str(path),
    )
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert frames == 2 * (make_family("point_robot").episode_steps + 1 + 10)
    assert next(imageio_ffmpeg.read_frames(str(path)))["size"] == (256, 288)
    assert [p.name for p in tmp_path.iterdir()] == ["one.mp4"]


def test_a_task_adapts_the_same_alone_or_among_others(run_dir: Path, tmp_path: Path) -> None:
    alone, among = tmp_path / "alone.json", tmp_path / "among.json"
    run("adapt", *ONE_THREAD, "--checkpoint", str(run_dir), "--task", "85", "--json", str(alone))
    run("adapt", *ONE_THREAD, "--checkpoint", str(run_dir), "--json", str(among))
    (task,) = json.loads(alone.read_text())["tasks"]
    same = next(t for t in json.loads(among.read_text())["tasks"] if t["index"] == 85)
    assert task["returns"] == pytest.approx(same["returns"], rel=1e-4)


def test_evaluate_saves_every_return(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    result = run(
        *[
            "evaluate",
            *ONE_THREAD,
            "--checkpoint",
            str(run_dir),
            "--episodes",
            "2",
            "--trials",
            "2",
            "--json",
            str(path),
        ]
    )
    report = json.loads(path.read_text())
    returns = report["returns"]
    assert (len(returns), len(returns[0]), len(returns[0][0])) == (20, 2, 2)
    first = [trial[0] for task in returns for trial in task]
    row = report["per_episode"][0]
    assert row["episode"] == 1 and row["mean"] == pytest.approx(sum(first) / len(first))
    assert row["interval"][0] <= row["iqm"] <= row["interval"][1]
    assert report["task_hash"] == make_family("point_robot").task_hash
    assert f"{row['iqm']:.2f}" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_shows_its_default(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    options = [option for option in cli.commands[command].params if option.name != "assignments"]
    assert text.count("[default: ") + text.count("[required]") == len(options)
    assert all(isinstance(option, click.Option) and option.help for option in options)


def test_without_a_command_the_help_is_shown() -> None:
    text = run().stdout
    assert all(command in text for command in COMMANDS)


def test_the_version_is_shown() -> None:
    assert run("--version").stdout == f"metaslac {__version__}\n"


def test_families_are_listed_with_what_makes_them() -> None:
    line = next(row for row in run("families").stdout.splitlines() if row.startswith("cheetah_vel"))
    family = make_family("cheetah_vel")
    assert {"100", "30", "200", family.task_hash[:12], *family.param_names} <= set(line.split())


def test_settings_are_listed_as_they_can_be_set() -> None:
    text = run("settings", "--preset", "quick").stdout
    assert all(f"{info.name}=" in text for info in describe())
    assert "family.image_size=32" in text


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("launchers.meta_train.resolve", interrupt)
    result = CliRunner().invoke(cli, ["meta-train"])
    assert result.exit_code == 130
    assert result.stderr.split() == ["metaslac:", "interrupted"]


def test_doctor_finds_a_renderer_here() -> None:
    text = run("doctor").stdout
    assert "frames/s" in text and "torch" in text and "cores" in text


def test_doctor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "try_rendering", lambda *_: Attempt(False, "does not work: no library"))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "apt-get install libegl1" in result.stderr


def test_doctor_is_not_hung_by_a_driver_that_hangs() -> None:
    assert doctor.try_rendering("egl", timeout=0.01) == Attempt(False, "no answer within 0.01 s")


def test_doctor_reports_a_back_end_that_fails() -> None:
    attempt = doctor.try_rendering("off", timeout=60)
    assert not attempt.works and "rendering" in attempt.text
