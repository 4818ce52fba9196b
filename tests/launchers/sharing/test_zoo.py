"""The agents that come with metaslac: whole, small, with cards that say what their evaluations say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from reports import ONE_THREAD, here, refusal

import metaslac
from metaslac.envs import make_family
from metaslac.evidence.evaluation_file import read_evaluation
from metaslac.launchers.api.trained import load_trained, play
from metaslac.storage import named
from metaslac.storage.manifest import check_agent

MOST_BYTES = 15e6  # of all agents together
SHIPPED = named.shipped_names()


@pytest.fixture
def zoo(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two agents in place of those that are shipped."""
    for name in ("point_robot", "twin"):
        shutil.copytree(agent, tmp_path / "zoo" / name)
    monkeypatch.setattr(named, "ZOO", tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_agent_is_whole_and_its_card_says_what_its_evaluation_says(name: str) -> None:
    check_own_words(named.ZOO / name)
    manifest = json.loads((named.ZOO / name / "manifest.json").read_text())
    assert manifest["family"] == name and manifest["task_hash"] == make_family(name).task_hash
    assert not manifest["commit"].endswith("-changed")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_agent_plays_as_it_was_judged(name: str) -> None:
    """First episodes of its evaluation again: their mean, for machines round differently and bodies fall."""
    evaluation = read_evaluation(named.ZOO / name)
    trained = load_trained(named.ZOO / name, None, "cpu", 1)
    tasks, about = trained.family.test_tasks, evaluation.about
    again = play(trained, tasks, episodes=1, stream=about["stream"], seed=about["seed"])
    assert [trial.task.index for trial in again] == list(evaluation.held_out.tasks)
    mean = np.mean([trial.returns[0] for trial in again])
    assert mean == pytest.approx(evaluation.held_out.returns[:, 0, 0].mean(), rel=0.05)


def check_own_words(directory: Path) -> None:
    """Fail unless every file is as exported, and the card's numbers are those of the raw returns."""
    check_agent(directory)
    evaluation = json.loads((directory / "evaluation.json").read_text())
    returns = np.array(evaluation["held_out"]["returns"])  # (tasks, trials, episodes)
    training = np.array(evaluation["training"]["returns"])
    card = (directory / "README.md").read_text()
    lines = card.split("## Returns on held-out tasks")[1].split("What it is not good at")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][
        2:
    ]
    assert [row[0] for row in rows] == [str(episode + 1) for episode in range(returns.shape[2])]
    flat = np.sort(returns.reshape(-1, returns.shape[2]), axis=0)
    cut = len(flat) // 4
    expected = returns.mean((0, 1)), flat[cut : len(flat) - cut].mean(0), training.mean((0, 1))
    for column, values in zip((1, 2, 4), expected, strict=True):
        assert [row[column] for row in rows] == [f"{value:.2f}" for value in values]
    assert f"lowest return of a last episode: {returns[..., -1].min():.2f}\n" in card
    tasks, trials, episodes = returns.shape
    assert re.search(rf"\b{tasks} tasks, {trials} trials? of {episodes} episodes on each", card)


def test_that_check_can_fail(zoo: Path) -> None:
    check_own_words(zoo / "twin")
    card = zoo / "twin" / "README.md"
    card.write_text(card.read_text().replace("MIT", "TIM"))
    with pytest.raises(metaslac.MetaslacError, match="README.md is damaged"):
        check_own_words(zoo / "twin")


def test_all_of_them_are_small() -> None:
    assert sum(path.stat().st_size for path in named.ZOO.rglob("*") if path.is_file()) < MOST_BYTES


def test_what_acts_takes_them_by_name(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metaslac.load("zoo:twin", "cpu").family == "point_robot"
    by_name, by_path = (metaslac.adapt(at, task=83, threads=1) for at in ("zoo:twin", zoo / "twin"))
    assert by_name.tasks[0].returns == by_path.tasks[0].returns
    assert "weights only, whole" in here("inspect", "zoo:twin", "--verify")
    metaslac.record(tmp_path / "data", checkpoint="zoo:twin", split="test", episodes=1, threads=1)
    asked = [
        "--checkpoint",
        "zoo:twin",
        "--episodes",
        "1",
        "--trials",
        "1",
        "--no-training-tasks",
        *ONE_THREAD,
    ]
    before = sorted(path.name for path in zoo.rglob("*"))
    assert "--json FILE says where the evaluation of zoo:twin goes" in refusal("evaluate", *asked)
    by_path_too = [word.replace("zoo:twin", str(zoo / "twin")) for word in asked]
    assert "--json FILE says where" in refusal("evaluate", *by_path_too)
    here("evaluate", *asked, "--json", str(tmp_path / "mine.json"))
    assert json.loads((tmp_path / "mine.json").read_text())["command"].split()[3] == "zoo:twin"
    assert sorted(path.name for path in zoo.rglob("*")) == before
    controlled = [*asked, "--json", str(tmp_path / "mine.json"), "--blind", "zoo:twin"]
    assert "--blind zoo:twin: its task.inference is infer" in refusal("evaluate", *controlled)
    # A directory called so is meant where that is said.
    monkeypatch.chdir(tmp_path)
    shutil.copytree(zoo / "twin", "zoo:mine")
    assert metaslac.load("./zoo:mine", "cpu").family == "point_robot"


def test_a_name_that_is_none_is_refused_with_those_there_are(zoo: Path, tmp_path: Path) -> None:
    for words in (["adapt", "--checkpoint", "zoo:twim"], ["demo", "twim"], ["inspect", "zoo:twim"]):
        assert "no agent zoo:twim: there are point_robot, twin; did you mean 'twin'?" in refusal(*words)
    for name in ("", "..", "../zoo/twin"):
        with pytest.raises(metaslac.MetaslacError, match="there are point_robot, twin"):
            metaslac.load(f"zoo:{name}")


def test_zoo_lists_them(zoo: Path) -> None:
    lines = here("zoo").splitlines()
    evaluation = json.loads((zoo / "twin" / "evaluation.json").read_text())
    means = np.array(evaluation["held_out"]["returns"]).mean((0, 1))
    assert [line.split()[0] for line in lines] == ["agent", "zoo:point_robot", "zoo:twin"]
    assert f"{means[0]:.1f}, {means[1]:.1f} on 20 held-out tasks" in lines[2] and " KiB " in lines[2]


def test_zoo_says_so_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "ZOO", tmp_path)
    assert here("zoo") == "no agent comes with this version\n"
    assert "none comes with this version" in refusal("demo")


def test_demo_is_adapt_of_one_task_with_a_film(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = here("demo", "--params", "-0.5", "0.3", *ONE_THREAD)
    adapted = here(
        *[
            "adapt",
            "--checkpoint",
            "zoo:point_robot",
            "--params",
            "-0.5",
            "0.3",
            "--episodes",
            "3",
            *ONE_THREAD,
        ]
    )
    assert shown == f"{adapted}video: demo-point_robot.mp4\n"
    frames = imageio_ffmpeg.read_frames("demo-point_robot.mp4")
    assert next(frames)["size"][0] >= 256 and sum(1 for _ in frames) >= 3 * 21
    told = here("demo", "twin", "--task", "83", "--episodes", "1", "--video", "mine.mp4", *ONE_THREAD)
    assert told.splitlines()[1].startswith("83 ") and told.endswith("video: mine.mp4\n")
    film = Path("demo-point_robot.mp4").read_bytes()
    first, *_, last = here("demo", "--episodes", "1", *ONE_THREAD).splitlines()[1:]
    assert first.startswith("80 ") and last == "video: demo-point_robot-2.mp4"
    assert Path("demo-point_robot.mp4").read_bytes() == film
    assert "a goal in [-1, 1]^2" in refusal("demo", "--params", "3", "3", *ONE_THREAD)
    assert "the held-out tasks of point_robot are 80 to 99" in refusal("demo", "--task", "7", *ONE_THREAD)
