"""The commands as a person uses them, on real pixels and the smallest possible agent."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import click
import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import untrained_checkpoint
from PIL import Image
from runs import TINY

import metaslac.launchers.api.memory
import metaslac.training.online
from metaslac.config.text import describe
from metaslac.envs import make_family
from metaslac.evidence.evaluation import summarise
from metaslac.evidence.evaluation_file import Trials, read_evaluation, write_evaluation
from metaslac.evidence.probe import probe_scores
from metaslac.launchers.cli import cli
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.version import __version__
from metaslac.training.log import run_log
from metaslac.training.log.run_log import TIME_COLUMNS

COMMANDS = (
    *("meta-train", "sweep", "adapt", "evaluate", "report", "dataset", "families", "settings", "doctor"),
    *("export", "zoo", "demo"),
)
IN_GROUPS = (("dataset", "record"), ("dataset", "info"), ("dataset", "convert"))

ONE_THREAD = ("--device", "cpu", "--threads", "1")  # no slower for something so small


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
    assert all(float(row[f"validation/return_{episode}"]) < 0 for row in rows for episode in (1, 2))
    family = make_family("point_robot")
    assert json.loads((run_dir / "variant.json").read_text())["task_hash"] == family.task_hash
    saved = load_checkpoint(run_dir)
    assert saved.manifest["update"] == 3
    assert saved.config.train.updates == 3 and saved.config.family.image_size == 32


def test_a_run_says_what_memory_it_will_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaslac.launchers.api.memory, "available_bytes", lambda device: 2**40)
    monkeypatch.setattr(metaslac.training.online, "meta_train", lambda *_, **__: None)
    command = ["meta-train", "--preset", "quick", "--device", "cpu", "--run-dir", str(tmp_path / "run")]
    parts = "replay [0-9.]+ [MG]iB, weights [0-9.]+ MiB, activations [0-9.]+ MiB"
    line = rf"^memory on cpu: {parts}, of 1024\.0 GiB available$"
    for expected, again in ((1, command), (0, [*command, "--quiet"])):
        assert len(re.findall(line, run(*again).stdout, re.MULTILINE)) == expected


def test_a_run_says_how_long_it_will_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "SHORT_SECONDS", 0.0)
    start = ["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD, "--updates", "3"]
    slow = ("--set", "train.pretrain_updates=12", "--run-dir", str(tmp_path / "run"))
    told = run(*start, *TINY, *slow).stderr
    assert re.search(r"^pre-training: [0-9.]+ updates/s, about \d+ s more, then 3 updates in", told, re.M)
    assert re.search(r"^pre-training 12/12  [0-9.]+ updates/s  model/loss ", told, re.M)
    assert re.search(r"^updates left: 1, at [0-9.]+ updates/s about \d+ s without evaluations$", told, re.M)


def test_who_knows_no_presets_yet_is_told_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hints: list[str] = []
    monkeypatch.setattr(metaslac.launchers.api.memory, "available_bytes", lambda device: 2**40)
    monkeypatch.setattr(metaslac.training.online, "meta_train", lambda *_, hint, **__: hints.append(hint))
    start = ["meta-train", "--device", "cpu", "--quiet"]
    for number, preset in enumerate(([], ["--preset", "default"], ["--preset", "quick"])):
        run(*start, *preset, "--run-dir", str(tmp_path / str(number)))
    run(*start, "--resume", str(tmp_path / "0"))
    assert ["--preset quick" in hint for hint in hints] == [True, True, False, False]


def test_the_same_seed_gives_the_same_numbers(run_dir: Path, tmp_path: Path) -> None:
    assert rows_but_the_times(tiny_run(tmp_path / "again")) == rows_but_the_times(run_dir)


def test_adapt_shows_and_saves_every_held_out_task(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "adapt.json"
    result = run("adapt", *ONE_THREAD, "--checkpoint", str(run_dir), "--json", str(path))
    report = json.loads(path.read_text())
    about = ["family", "checkpoint", "task_hash", "observation", "privileged"]
    assert list(report) == [*about, "tasks", "mean_returns"]
    assert report["task_hash"] == make_family("point_robot").task_hash
    held_out = make_family("point_robot").test_tasks
    assert [task["index"] for task in report["tasks"]] == [task.index for task in held_out]
    assert [tuple(task["params"]) for task in report["tasks"]] == [task.params for task in held_out]
    assert all(len(task["returns"]) == len(task["belief_std"]) == 2 for task in report["tasks"])
    assert all(0 < std < 1 for task in report["tasks"] for std in task["belief_std"])
    first = sum(task["returns"][0] for task in report["tasks"]) / len(held_out)
    assert report["mean_returns"][0] == pytest.approx(first)
    lines = result.stdout.splitlines()
    assert len(lines) == len(held_out) + 3
    assert lines[-2].split()[:2] == ["mean", f"{first:.2f}"]
    assert lines[-1] == f"the table as JSON: {path}"


@pytest.mark.parametrize("inference", ["oracle", "blind"])
def test_adapt_shows_no_belief_of_agents_that_have_none(tmp_path: Path, inference: str) -> None:
    family, path = make_family("point_robot", image_size=32), tmp_path / "table.json"
    checkpoint = untrained_checkpoint(tmp_path / "one", family, inference=inference)
    asked = ["--checkpoint", str(checkpoint), "--task", "85", "--json", str(path)]
    result = run("adapt", *ONE_THREAD, *asked, "--picture", str(tmp_path / "one.png"))
    header, task, mean, *written = result.stdout.splitlines()
    assert header.split() == ["task", "goal_x", "goal_y", "return", "1", "return", "2"]
    assert (len(task.split()), len(mean.split())) == (5, 3)
    assert written == [f"the table as JSON: {path}", f"picture: {tmp_path / 'one.png'}"]


def test_adapt_films_one_task(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.mp4"
    result = run(
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
    assert result.stdout.splitlines()[-1] == f"video: {path}"
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert frames == 2 * (make_family("point_robot").episode_steps + 1 + 10)
    assert next(imageio_ffmpeg.read_frames(str(path)))["size"] == (256, 320)
    assert [p.name for p in tmp_path.iterdir()] == ["one.mp4"]


def test_adapt_shows_people_the_goal_unless_they_want_it_plain(run_dir: Path, tmp_path: Path) -> None:
    asked = [*ONE_THREAD, "--checkpoint", str(run_dir), "--task", "85", "--episodes", "1", "--size", "192"]
    tables = []
    for name, more in (("marked", []), ("plain", ["--plain"])):
        video, picture = tmp_path / f"{name}.gif", tmp_path / f"{name}.png"
        result = run("adapt", *asked, *more, "--video", str(video), "--picture", str(picture))
        *table, first, second = result.stdout.splitlines()
        assert (first, second) == (f"video: {video}", f"picture: {picture}")
        tables.append(table)
    assert tables[0] == tables[1]
    marked, plain = (
        np.asarray(Image.open(tmp_path / f"{name}.gif").convert("RGB")) for name in ("marked", "plain")
    )
    assert (marked.shape, plain.shape) == ((192 + 48, 192, 3), (192 + 32, 192, 3))
    goal = np.array(make_family("point_robot").tasks[85].params)
    column, row = np.round(192 * (0.5 + goal * (1, -1) / 4)).astype(int)
    near = np.array([70, 240, 120]) - marked[48 + row, column].astype(int)
    assert np.abs(near).max() < 30
    colours = {tuple(colour) for colour in plain[32:].reshape(-1, 3)}
    assert len(colours) == 2  # ground and point


def test_a_task_adapts_the_same_alone_or_among_others(run_dir: Path, tmp_path: Path) -> None:
    alone, among = tmp_path / "alone.json", tmp_path / "among.json"
    run("adapt", *ONE_THREAD, "--checkpoint", str(run_dir), "--task", "85", "--json", str(alone))
    run("adapt", *ONE_THREAD, "--checkpoint", str(run_dir), "--json", str(among))
    (task,) = json.loads(alone.read_text())["tasks"]
    same = next(t for t in json.loads(among.read_text())["tasks"] if t["index"] == 85)
    assert task["returns"] == pytest.approx(same["returns"], rel=1e-4)


def test_evaluate_keeps_every_return_and_belief(run_dir: Path) -> None:
    options = [*ONE_THREAD, "--episodes", "2", "--trials", "2"]
    result = run("evaluate", *options, "--checkpoint", str(run_dir))
    found = read_evaluation(run_dir)
    family = make_family("point_robot")
    assert found.training is not None and found.about["task_hash"] == family.task_hash
    for trials, tasks in ((found.held_out, family.test_tasks), (found.training, family.train_tasks)):
        assert trials.returns.shape == (len(tasks), 2, 2)
        assert trials.belief_mean.shape == (len(tasks), 2, 3, 2)
        np.testing.assert_allclose(trials.params, [task.params for task in tasks])
        assert (trials.belief_width[:, 0] == 1).all() and (np.diff(trials.belief_width) <= 0).all()
    first = summarise(found.held_out.returns)[0]
    assert f"{first.iqm:.2f}" in result.stdout and f"{first.low:.2f} to {first.high:.2f}" in result.stdout
    assert f"{found.training.returns[..., 0].mean():.2f}" in result.stdout
    assert f"{probe_scores(found)[2, 1]:.3f}" in result.stdout
    again = found.about["command"].split()
    run(*again[1:], *ONE_THREAD, "--json", str(run_dir / "again.json"))
    np.testing.assert_array_equal(
        read_evaluation(run_dir / "again.json").held_out.returns, found.held_out.returns
    )


def arrays(trials: Trials) -> tuple[np.ndarray, ...]:
    return trials.params, trials.returns, trials.belief_mean, trials.belief_width


def test_evaluate_shows_how_much_of_the_gap_is_closed(run_dir: Path, tmp_path: Path) -> None:
    options = [*ONE_THREAD, "--episodes", "2", "--trials", "2", "--no-training-tasks"]
    run("evaluate", *options, "--checkpoint", str(run_dir), "--json", str(tmp_path / "infer.json"))
    infer, paths = read_evaluation(tmp_path / "infer.json"), {}
    for name, above in (("blind", -2.0), ("oracle", 6.0), ("low", -3.0)):
        returns = infer.held_out.returns + above
        inference = "blind" if name == "blind" else "oracle"
        control = replace(infer, about={**infer.about, "inference": inference})
        control = replace(control, held_out=replace(infer.held_out, returns=returns))
        paths[name] = tmp_path / f"{name}.json"
        write_evaluation(paths[name], control)
    asked = [*options, "--checkpoint", str(run_dir), "--json", str(tmp_path / "again.json")]
    text = run("evaluate", *asked, "--blind", str(paths["blind"])).stdout
    assert "above blind" in text and "+2.00" in text and "gap closed" not in text
    both = ["--blind", str(paths["blind"]), "--oracle", str(paths["oracle"])]
    text = run("evaluate", *asked, *both).stdout
    assert "gap closed" in text and "0.25" in text
    assert (
        "undefined: oracle is not above blind" in run("evaluate", *asked, *both[:3], str(paths["low"])).stdout
    )
    assert "needs --blind" in run("evaluate", *asked, "--oracle", str(paths["oracle"])).stdout
    fewer = read_evaluation(paths["blind"])
    part = Trials(fewer.held_out.tasks[:-1], *(values[:-1] for values in arrays(fewer.held_out)))
    write_evaluation(tmp_path / "fewer.json", replace(fewer, held_out=part))
    wrong = [
        ["--blind", str(paths["oracle"])],
        ["--oracle", str(tmp_path)],
        ["--trials", "3", *both],
        ["--blind", str(tmp_path / "fewer.json")],
        ["--blind", str(paths["blind"]), "--json", str(paths["blind"])],
        ["--json", "/dev/null"],
    ]
    for controls in wrong:
        result = CliRunner().invoke(cli, ["evaluate", *asked, *controls])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1


def test_evaluate_plays_the_tasks_it_is_asked_to_and_compares_no_two_kinds(
    run_dir: Path, tmp_path: Path
) -> None:
    asked = ["evaluate", *ONE_THREAD, "--episodes", "2", "--trials", "2", "--no-training-tasks"]
    asked += ["--checkpoint", str(run_dir), "--split"]
    text = run(*asked, "validation").stdout
    assert "20 validation tasks" in text and str(run_dir / "evaluation-validation.json") in text
    found = read_evaluation(run_dir, "validation")
    tasks = make_family("point_robot").validation_tasks
    assert list(found.held_out.tasks) == [task.index for task in tasks] == list(range(100, 120))
    np.testing.assert_allclose(found.held_out.params, [task.params for task in tasks])
    assert found.about["split"] == "validation" and "--split validation" in found.about["command"]
    again = tmp_path / "again.json"
    run(*found.about["command"].split()[1:], *ONE_THREAD, "--json", str(again))
    np.testing.assert_array_equal(read_evaluation(again).held_out.returns, found.held_out.returns)

    blind = tmp_path / "blind.json"
    write_evaluation(blind, replace(found, about={**found.about, "inference": "blind"}))
    assert "above blind" in run(*asked, "validation", "--blind", str(blind), "--json", str(again)).stdout
    result = CliRunner().invoke(cli, [*asked, "test", "--blind", str(blind), "--json", str(again)])
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2 and line.endswith("evaluated with another split: validation, not test")


@pytest.mark.parametrize("names", [*((command,) for command in COMMANDS), *IN_GROUPS], ids=" ".join)
def test_every_option_has_help_and_shows_its_default(names: tuple[str, ...]) -> None:
    text = " ".join(run(*names, "--help").stdout.split())
    command: click.Command = cli
    for name in names:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert all(option.help for option in options)
    shown = [option for option in options if option.name != "assignments"]
    assert text.count("[default: ") + text.count("[required]") == len(shown)


def test_without_a_command_the_help_is_shown() -> None:
    text = run().stdout
    assert all(command in text for command in COMMANDS)


def test_the_version_is_shown() -> None:
    assert run("--version").stdout == f"metaslac {__version__}\n"


def test_families_are_listed_with_what_makes_them() -> None:
    line = next(row for row in run("families").stdout.splitlines() if row.startswith("cheetah_vel"))
    family = make_family("cheetah_vel")
    assert line.split()[2:5] == ["100", "30", "30"]
    assert {"200", family.task_hash[:12], *family.param_names} <= set(line.split())


def test_settings_are_listed_as_they_can_be_set() -> None:
    text = run("settings", "--preset", "quick").stdout
    assert all(f"{info.name}=" in text for info in describe())
    assert "family.image_size=32" in text


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metaslac.launchers.api.training.resolve", interrupt)
    result = CliRunner().invoke(cli, ["meta-train"])
    assert result.exit_code == 130
    assert result.stderr.split() == ["metaslac:", "interrupted"]
