"""An exported agent acts as its run does, says how it was judged, and is refused where that is not enough."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml
from checkpoints import put
from click.testing import CliRunner
from fakes import untrained_checkpoint
from reports import ONE_THREAD, changed, here, refusal
from runs import STOPPABLE

import metaslac
from metaslac.envs import make_family
from metaslac.evidence.evaluation_file import read_evaluation
from metaslac.launchers.cli import cli
from metaslac.storage.checkpoint import load_checkpoint

ACTS = {"encoder", "context_encoder", "actor"}  # and infers the task, where the actor sees no latents


def test_it_has_the_weights_that_act_and_no_others(agent: Path, evaluated_run: Path) -> None:
    kept, all_of_them = (
        safetensors.numpy.load_file(agent / "model.safetensors"),
        load_checkpoint(evaluated_run),
    )
    assert {name.split(".")[0] for name in kept} == ACTS
    assert "critic" in {name.split(".")[0] for name in all_of_them.tensors}
    for name, tensor in kept.items():
        np.testing.assert_array_equal(tensor, all_of_them.tensors[name].numpy())
    assert {path.name for path in agent.iterdir()} == {
        *("model.safetensors", "config.yaml", "manifest.json", "evaluation.json", "README.md")
    }


def test_an_actor_that_sees_latents_keeps_its_latent_model(tmp_path: Path) -> None:
    family = make_family("point_robot", image_size=32)
    checkpoint = untrained_checkpoint(tmp_path / "run" / "1", family)
    metaslac.export(checkpoint, tmp_path / "features")
    latent = load_checkpoint(tmp_path / "features")
    assert not any(name.startswith("latent_model") for name in latent.tensors)
    sees = CliRunner().invoke(
        cli,
        [
            *["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD, "--updates", "1"],
            *["--run-dir", str(tmp_path / "latent"), "--quiet"],
            *[f"--set={setting}" for setting in (*STOPPABLE, "actor_critic.actor_input=latent")],
        ],
    )
    assert sees.exit_code == 0, sees.output
    metaslac.export(tmp_path / "latent", tmp_path / "agent")
    assert any(name.startswith("latent_model") for name in load_checkpoint(tmp_path / "agent").tensors)
    one, other = (metaslac.adapt(tmp_path / name, task=83, threads=1) for name in ("latent", "agent"))
    assert one.tasks[0].returns == other.tasks[0].returns


def test_it_acts_as_its_run(agent: Path, evaluated_run: Path, tmp_path: Path) -> None:
    one, other = (metaslac.adapt(path, task=83, episodes=3, threads=1) for path in (evaluated_run, agent))
    assert one.tasks[0].returns == other.tasks[0].returns
    np.testing.assert_array_equal(one.tasks[0].belief_mean, other.tasks[0].belief_mean)
    frame = np.zeros((32, 32, 3), np.uint8)
    actions = []
    for path in (evaluated_run, agent):
        single = metaslac.load(path, "cpu")
        single.begin_task()
        single.begin_episode(frame)
        actions.append(single.act())
    np.testing.assert_array_equal(*actions)
    for name, path in (("run", evaluated_run), ("agent", agent)):
        metaslac.record(tmp_path / name, checkpoint=path, split="test", episodes=1, threads=1)
    for file in ("frames.npy", "actions.npy", "rewards.npy"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "agent" / file).read_bytes()


def test_its_evaluation_is_kept_whole_and_its_card_says_what_is_in_it(
    agent: Path, evaluated_run: Path
) -> None:
    kept, made = read_evaluation(agent / "evaluation.json"), read_evaluation(evaluated_run)
    np.testing.assert_array_equal(kept.held_out.returns, made.held_out.returns)
    np.testing.assert_array_equal(kept.held_out.belief_mean, made.held_out.belief_mean)
    card = (agent / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["library_name"]) == ("mit", "metaslac")
    returns = np.array(json.loads((evaluated_run / "evaluation.json").read_text())["held_out"]["returns"])
    for episode, mean in enumerate(returns.mean((0, 1)), 1):
        assert f"| {episode} | {mean:.2f} |" in card
    last = returns[..., -1]
    assert f"lowest return of a last episode: {last.min():.2f}\n" in card
    assert f"task {80 + last.mean(1).argmin()} (" in card
    assert f"last episode below the first in {(last < returns[..., 0]).sum()} of 40 trials" in card
    assert "1 training seed, 20 tasks, 2 trials of 2 episodes on each" in card
    assert "3 updates, 1760 environment steps, seed 0" in card and "pixels, 32x32x3" in card
    for line in (
        "R^2",
        "Licence: MIT",
        f"metaslac evaluate --checkpoint {shlex.quote(evaluated_run.name)} ",
        "metaslac adapt --checkpoint",
    ):
        assert line in card


def test_no_path_of_the_machine_is_in_it(agent: Path, evaluated_run: Path) -> None:
    about = read_evaluation(agent / "evaluation.json").about
    command = f"metaslac evaluate --checkpoint {shlex.quote(evaluated_run.name)} --episodes 2"
    assert about["command"].startswith(command)
    for path in agent.iterdir():
        assert str(evaluated_run.parent).encode() not in path.read_bytes(), path


def test_inspect_says_what_it_is(agent: Path, tmp_path: Path) -> None:
    shown = here("inspect", str(agent))
    assert "weights only, whole" in shown and "replay" not in shown and "DAMAGED" not in shown
    means = read_evaluation(agent / "evaluation.json").held_out.returns.mean((0, 1))
    assert f"returns (held-out)  {means[0]:.2f}, {means[1]:.2f}\n" in shown
    assert "weights only, whole: every checksum matches" in here("inspect", str(agent), "--verify")
    for name in ("README.md", "evaluation.json", "model.safetensors"):
        copy = shutil.copytree(agent, tmp_path / name)
        data = (copy / name).read_bytes()
        put(copy / name, data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        result = CliRunner().invoke(cli, ["inspect", str(copy), "--verify"])
        assert result.exit_code == 1 and f"{name} is damaged" in result.stderr


def test_its_evaluation_goes_beside_it_or_where_it_is_told_to(agent: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(agent, tmp_path / "agent")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    asked = ["--episodes", "1", "--trials", "1", "--no-training-tasks", *ONE_THREAD]
    here("evaluate", "--checkpoint", str(copy), *asked)
    assert (tmp_path / "agent.evaluation.json").is_file()
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    # The one it came with is read where there is no later one.
    assert read_evaluation(agent).about["trials"] == 2 and read_evaluation(copy).about["trials"] == 1
    again = read_evaluation(tmp_path / "agent.evaluation.json").about
    assert again["trained_with"] == read_evaluation(agent).about["trained_with"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["meta-train", "--resume", "AGENT"], "weights only: a training cannot go on from it"),
        (["dataset", "record", "--checkpoint", "AGENT", "--from-replay", "--out", "DATA"], "no replay"),
        (["dataset", "record", "--checkpoint", "AGENT", "--stages", "1", "--episodes", "1"], "of one stage"),
        (["report", "AGENT", "--out", "DATA.html"], "an exported agent, not a run directory"),
        (["export", "AGENT", "--out", "DATA"], "is an exported agent already; copy it"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_needs_more_than_weights_is_refused(
    agent: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    told = [word.replace("AGENT", str(agent)).replace("DATA", str(tmp_path / "data")) for word in arguments]
    told += ["--out", str(tmp_path / "data")] * ("--stages" in told)
    assert said in refusal(*told)
    assert not list(tmp_path.iterdir())


def test_where_something_is_nothing_is_exported(evaluated_run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is there already" in refusal("export", str(evaluated_run), "--out", str(tmp_path / "full"))
    (tmp_path / "empty").mkdir()
    here("export", str(evaluated_run), "--out", str(tmp_path / "empty"))
    assert "is there already" in refusal("export", str(evaluated_run), "--out", str(tmp_path / "empty"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert "says where the agent goes" in refusal("export", str(evaluated_run))


def test_a_run_that_is_not_finished_or_not_whole_is_refused(evaluated_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(evaluated_run, tmp_path / "run", symlinks=True)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"updates: 3\b", "updates: 4", config))
    out = str(tmp_path / "agent")
    assert "is not finished: 3 of 4 updates are made" in refusal("export", str(copy), "--out", out)
    (copy / "config.yaml").write_text(config)
    last = (copy / "checkpoints" / "last").resolve()
    replay = next((last / "replay").iterdir())
    replay.rename(copy / "away")
    assert f"{replay} is missing" in refusal("export", str(copy), "--out", out)
    (copy / "away").rename(replay)
    data = bytearray((last / "model.safetensors").read_bytes())
    data[-1] ^= 1
    put(last / "model.safetensors", bytes(data))
    assert "its checksum does not match" in refusal("export", str(copy), "--out", out)
    assert not (tmp_path / "agent").exists()


def test_a_run_whose_name_is_no_text_has_a_card_and_a_page(evaluated_run: Path, tmp_path: Path) -> None:
    """As of a directory that was named in Latin-1."""
    run = shutil.copytree(evaluated_run, tmp_path / os.fsdecode(b"caf\xe9"), symlinks=True)
    how = {"episodes": 2, "trials": 2, "threads": 1}
    metaslac.evaluate(run, overwrite=True, **how)
    metaslac.export(run, tmp_path / "agent")
    here("report", str(run), "--out", str(tmp_path / "page.html"), *ONE_THREAD)
    for page in (tmp_path / "agent" / "README.md", tmp_path / "page.html"):
        assert "caf\ufffd" in page.read_text(encoding="utf-8")


def test_an_evaluation_of_other_weights_is_refused(evaluated_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(evaluated_run, tmp_path / "run", symlinks=True)
    text = (copy / "evaluation.json").read_text()
    (copy / "evaluation.json").write_text(text.replace('"update": 3', '"update": 2'))
    said = refusal("export", str(copy), "--out", str(tmp_path / "agent"))
    assert "is of another agent than" in said and "its update is 2, not 3" in said


def test_a_checkpoint_may_be_of_any_stage(evaluated_run: Path, tmp_path: Path) -> None:
    checkpoint = next(path for path in (evaluated_run / "checkpoints").glob("0*"))
    here("export", str(checkpoint), "--out", str(tmp_path / "agent"))
    assert "It was exported without an evaluation." in (tmp_path / "agent" / "README.md").read_text()
    assert load_checkpoint(tmp_path / "agent").manifest["update"] == int(checkpoint.name.partition("-")[0])


def test_an_evaluation_of_a_run_that_differs_in_a_setting_alone_is_refused(evaluated_run: Path) -> None:
    """Such as one of another seed that was copied along: it has made as many updates and steps."""
    run = changed(evaluated_run, "infer", 8, lambda returns: returns)
    said = refusal("export", str(run), "--out", str(run.with_name("agent-8")))
    assert "evaluation.json is of another agent than" in said and "they differ in train.seed (8, 0)" in said
    assert not run.with_name("agent-8").exists()
