"""`metaslac offline-train` and what follows it, on small data sets of point_robot."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from reports import ONE_THREAD, refusal, run
from runs import TINY

import metaslac
from metaslac.config.offline import ALGORITHMS, resolve_offline
from metaslac.config.text import from_yaml
from metaslac.errors import MetaslacError
from metaslac.evidence.evaluation_file import read_evaluation
from metaslac.launchers.report.words import number
from metaslac.replay.data_set import open_data_set
from metaslac.replay.data_writer import written_data_set

# Sizes alone: what an algorithm and its preset decide stays as it is.
IMAGINING = ("lompo", "no-penalty")
SMALL = [*TINY, "--set=model.heads=2", "--set=train.pretrain_updates=0", "--updates", "4"]


def data_of(path: Path, split: str, episodes: int = 2, **options: object) -> Path:
    metaslac.record(
        path, random="point_robot", episodes=episodes, split=split, image_size=32, threads=1, **options
    )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_of(tmp_path_factory.mktemp("data") / "train", "train")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_of(tmp_path_factory.mktemp("data") / "test", "test", 3)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    run("offline-train", "--dataset", str(data), "--run-dir", str(path), *SMALL, *ONE_THREAD, "--quiet")
    return path


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_every_algorithm_trains_and_its_agent_adapts(algorithm: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    small = [text for text in SMALL if algorithm in IMAGINING or "heads" not in text]
    said = run(
        *["offline-train", "--dataset", str(data), "--algorithm", algorithm, "--run-dir", str(path)],
        *[*small, *ONE_THREAD, "--quiet"],
    )
    assert f"metaslac adapt --checkpoint {path}" in said
    rows = list(csv.DictReader((path / "progress.csv").open()))
    assert {row["env_steps"] for row in rows} == {"0"}
    assert ("imagination/penalty" in rows[0]) == (algorithm in IMAGINING)
    assert ("critic/loss" in rows[0]) == (algorithm != "cloning")
    told = tmp_path / "adapted.json"
    run("adapt", "--checkpoint", str(path), "--episodes", "2", "--json", str(told), *ONE_THREAD)
    report = json.loads(told.read_text())
    assert all(np.isfinite(task["returns"]).all() for task in report["tasks"])


def test_a_run_goes_on_where_it_ended_also_with_data_that_were_moved(data: Path, tmp_path: Path) -> None:
    moved, path = tmp_path / "moved", tmp_path / "run"
    shutil.copytree(data, moved)
    small = [*SMALL, "--set=train.lr_decay=0", *ONE_THREAD, "--quiet"]
    begin = ["offline-train", "--dataset", str(moved), "--run-dir", str(path), *small]
    run(*begin)
    assert "is finished: 4 updates" in run(*begin)
    moved.rename(tmp_path / "elsewhere")
    more = ["offline-train", "--resume", str(path), "--updates", "6", "--quiet"]
    assert "is not there; if it was moved, say where to: --dataset DIR" in refusal(*more)
    run(*more, "--dataset", str(tmp_path / "elsewhere"))
    whole = tmp_path / "whole"
    run("offline-train", "--dataset", str(data), "--run-dir", str(whole), *small, "--updates", "6")
    one, other = (list(csv.DictReader((run_dir / "progress.csv").open()))[-1] for run_dir in (path, whole))
    assert {k: v for k, v in one.items() if not k.startswith("time/")} == {
        k: v for k, v in other.items() if not k.startswith("time/")
    }


def test_context_that_is_given_is_acted_on_and_kept_apart(trained: Path, held_out: Path) -> None:
    arguments = ["evaluate", "--checkpoint", str(trained), "--trials", "2", "--episodes", "1", *ONE_THREAD]
    said = run(*arguments, "--context", str(held_out), "--context-episodes", "2")
    assert "given 2 episodes of data set" in said and "training tasks" not in said
    run(*arguments, "--no-training-tasks")
    alone, given = read_evaluation(trained), read_evaluation(trained, given=True)
    assert given.about["exploration_episodes"] == 0 and alone.about["context"] == ""
    assert (alone.held_out.belief_width[:, 0] == 1).all()
    assert (given.held_out.belief_width[:, 0] < 1).all()
    assert (given.held_out.belief_mean[:, 0, 0] != given.held_out.belief_mean[:, 1, 0]).any()  # of others
    own = refusal(*arguments, "--blind", str(trained / "evaluation-given.json"), "--overwrite")
    assert "task.inference is infer" in own


def test_a_report_of_given_context_has_films_of_what_was_given(
    trained: Path, held_out: Path, data: Path, tmp_path: Path
) -> None:
    given = ["--context", str(held_out), "--context-episodes", "2"]
    evaluate = ["evaluate", "--checkpoint", str(trained), "--trials=1", "--episodes=1", *ONE_THREAD]
    run(*evaluate, *given, "--overwrite")
    page = tmp_path / "report.html"
    run("report", str(trained), "--out", str(page), *given, *ONE_THREAD)
    text = page.read_text()
    returns = read_evaluation(trained, given=True).held_out.returns
    assert "after 2 episodes of data set" in text and "evaluation-given.json" in text
    assert "None: the agents were given episodes of each task." in text
    first = re.search(r"Task (\d+)", text)
    assert first is not None
    task = read_evaluation(trained, given=True).held_out.tasks.index(int(first[1]))
    assert f"Episode 1: return {number(returns[task, 0, 0])}" in text
    report = ["report", str(trained), "--out", str(tmp_path / "other.html")]
    assert "was given 2 episodes of data set" in refusal(*report, *given[:2])
    assert "is of train tasks, not of test ones" in refusal(*report, "--context", str(data))
    assert "goes with context" in refusal(*report, *given[2:])
    assert not (tmp_path / "other.html").exists()


def test_training_tasks_are_those_of_the_data(data: Path, tmp_path: Path) -> None:
    whole = open_data_set(data)
    few = [task for task in whole.tasks if task.index % 8 == 3]
    with written_data_set(tmp_path / "few", whole.about) as writer:
        for entry, (index, *_) in enumerate(whole.episodes.tolist()):
            for task in few:
                if task.index == index:
                    writer.add(task, whole.episode(entry), "random")
    path = tmp_path / "run"
    train = ["offline-train", "--dataset", str(tmp_path / "few"), "--run-dir", str(path), "--quiet"]
    run(*train, *SMALL, *ONE_THREAD)
    run("evaluate", "--checkpoint", str(path), "--trials=1", "--episodes=1", *ONE_THREAD)
    training = read_evaluation(path).training
    assert training is not None
    assert list(training.tasks) == [task.index for task in few] and len(few) == 10


def test_bad_input_is_refused_before_anything_is_written(
    data: Path, held_out: Path, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"

    def refused(*arguments: str) -> str:
        line = refusal("offline-train", "--run-dir", str(path), *arguments)
        assert not path.exists()
        return line

    train = ["--dataset", str(data)]
    assert "a data set is needed" in refused()
    assert "is not a data set: it has no data.json" in refused("--dataset", str(tmp_path))
    assert "is of test tasks, not of train ones" in refused("--dataset", str(held_out))
    assert "family.image_size is 64, but the data set was recorded with 32" in refused(
        *train, "--set=family.image_size=64"
    )
    assert "--family cheetah_vel" in refused(*train, "--family", "cheetah_vel")
    assert "critic_input=state needs states" in refused(
        *train, "--algorithm", "actor-critic", "--set=actor_critic.critic_input=state"
    )
    assert "needs actor_critic.actor_input=latent" in refused(
        *train, "--set=actor_critic.actor_input=features"
    )
    assert f"{data} has 80 training tasks" in refused(*train, "--set=train.tasks_per_update=81")
    assert "nothing to be set" in refused(*train, "--set=runtime.data_set=elsewhere")
    assert "nothing is collected" in refused(*train, "--set=train.collect_ahead=true")
    assert "nothing new to train the encoder on" in refused(
        *train, "--algorithm=actor-critic", "--set=train.refresh_first=5", "--set=train.freeze_encoder=true"
    )
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    content = bytearray((damaged / "rewards.npy").read_bytes())
    content[-1] ^= 1
    (damaged / "rewards.npy").write_bytes(content)
    assert "rewards.npy is damaged" in refused("--dataset", str(damaged))
    assert refusal(
        "dataset", "record", "--checkpoint", str(trained), "--from-replay", "--out", str(path)
    ) == (f"metaslac: {trained / 'checkpoints/00000004'} was learned from a data set and has no replay")
    goes_on = f"is of metaslac offline-train, which goes on with --resume {trained}"
    assert goes_on in refusal("meta-train", "--resume", str(trained))
    assert "nothing to be set" in refusal("meta-train", "--set=runtime.data_set=x")
    assert "goes with context" in refusal("evaluate", "--checkpoint", str(trained), "--context-episodes=2")
    assert "which has no data set" in refusal("offline-train", "--resume", str(online(tmp_path / "online")))


def test_states_beside_pictures_are_no_hindrance_to_those_who_see_none(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", "train", 1, states=True)
    train = ["offline-train", "--dataset", str(data), *SMALL, *ONE_THREAD, "--quiet", "--updates", "1"]
    for algorithm in IMAGINING:
        run(*train, "--algorithm", algorithm, "--run-dir", str(tmp_path / algorithm))
    seen = ["--set=actor_critic.critic_input=state", "--set=model.heads=1"]
    path = tmp_path / "privileged"
    run(*train, "--algorithm", "actor-critic", "--run-dir", str(path), *seen)
    given = data_of(tmp_path / "given", "test", 1)  # of pictures alone: it is the agent that is given them
    said = run("evaluate", "--checkpoint", str(path), "--trials=1", "--context", str(given), *ONE_THREAD)
    assert "the critic saw the simulator's state in training" in said


def test_a_data_set_is_found_again_from_anywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    monkeypatch.chdir(data.parent)
    run("offline-train", "--dataset", data.name, "--run-dir", str(path), *SMALL, *ONE_THREAD, "--quiet")
    monkeypatch.chdir(tmp_path)
    run("offline-train", "--resume", str(path), "--updates", "5", "--quiet")


def online(path: Path) -> Path:
    run(
        *["meta-train", "--family", "point_robot", "--preset", "quick", "--run-dir", str(path), "--quiet"],
        *[*TINY, "--updates", "1", *ONE_THREAD],
    )
    return path


def test_another_data_set_is_not_gone_on_with(trained: Path, tmp_path: Path) -> None:
    other = data_of(tmp_path / "other", "train", seed=1)
    line = refusal("offline-train", "--resume", str(trained), "--dataset", str(other), "--updates", "5")
    assert line == f"metaslac: {trained} was trained on another data set than {other}"


def test_settings_are_those_of_preset_algorithm_and_data_set(trained: Path) -> None:
    config = from_yaml((trained / "config.yaml").read_text())
    assert (config.family.name, config.family.image_size) == ("point_robot", 32)
    assert config.imagination.penalty == "log_prob" and config.actor_critic.actor_input == "latent"
    assert config.model.window == 3 and config.offline  # of quick
    recorded = {
        "family.name": "point_robot",
        "family.image_size": 32,
        "family.frames": 1,
        "family.action_repeat": 1,
        "family.observation": "pixels",
        "runtime.data_set": "somewhere",
    }
    assert resolve_offline("cloning", "quick", recorded, {}).train.cloning
    for algorithm, preset in (("bc", "quick"), ("lompo", "small")):
        with pytest.raises(MetaslacError, match=f"there is no .*{'bc' if algorithm == 'bc' else 'small'}"):
            resolve_offline(algorithm, preset, recorded, {})


def test_report_and_inspect_say_what_was_learned_from(trained: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["--trials", "1", "--episodes", "2", *ONE_THREAD, "--overwrite"]
    run("evaluate", "--checkpoint", str(trained), *arguments)
    run("report", str(trained), "--out", str(tmp_path / "page.html"), *ONE_THREAD)
    page = (tmp_path / "page.html").read_text()
    assert f"metaslac offline-train --dataset {data} --algorithm actor-critic --preset default" in page
    assert "over env steps" not in page and "over updates" in page
    said = run("inspect", str(trained))
    (line,) = [line for line in said.splitlines() if line.startswith("data set")]
    assert "3200 steps" in line and "replay" not in said
