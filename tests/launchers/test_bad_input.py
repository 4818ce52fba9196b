"""Bad input: one line on stderr, exit code 2, nothing written, and no work begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from fakes import make_agent, tiny_config

import metaslac.launchers.api.memory
from metaslac.config.sections import Config
from metaslac.config.text import apply_settings, with_values
from metaslac.envs import make_family
from metaslac.launchers.cli import cli
from metaslac.storage.checkpoint import save_checkpoint
from metaslac.training.run_directory import start_run_directory


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, so that anything written shows."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*arguments: str) -> str:
    """The line with which a command refuses."""
    before = contents()
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert contents() == before
    return the_line(result.stderr)


def the_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    assert line.startswith("metaslac: ")
    return line


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in Path().rglob("*")}


def a_checkpoint(directory: Path, **facts: object) -> Path:
    """A whole checkpoint of an agent that has learned nothing."""
    config = with_values(tiny_config(), {"family.name": "point_robot"})
    manifest = {
        "family": "point_robot",
        "task_hash": make_family("point_robot", image_size=32).task_hash,
        "train_tasks": 80,
        "test_tasks": 20,
        "param_names": ["goal_x", "goal_y"],
        "action_size": 2,
        "update": 1,
        "env_steps": 1,
        **facts,
    }
    save_checkpoint(directory, {"nothing": torch.zeros(1)}, config, manifest)
    return directory


def test_an_unknown_family_gets_the_list_and_the_nearest() -> None:
    line = refusal("meta-train", "--family", "cheeta_vel")
    assert "cheetah_vel" in line and "point_robot" in line and "did you mean" in line


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["settings", "--family", "point_robt"], "point_robot"),
        (["settings", "--preset", "quik"], "quick"),
        (["meta-train", "--preset", "quik"], "quick"),
        (["sweep", "--preset", "sac-pixel"], "sac-pixels"),
        (["offline-train", "--algorithm", "lomp"], "lompo"),
    ],
)
def test_a_name_that_is_nearly_right_gets_the_nearest(words: list[str], near: str) -> None:
    result = CliRunner().invoke(cli, words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"; did you mean {near!r}?\n") and result.stderr.count("\n") == 1


def test_an_unknown_setting_gets_the_nearest() -> None:
    line = refusal("meta-train", "--set", "train.update=3")
    assert line == "metaslac: unknown setting 'train.update'; did you mean 'train.updates'?"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "train.updates=many"], "train.updates must be a whole number"),
        (["--set", "train.updates"], "section.field=value"),
        (["--updates", "0"], "train.updates must be at least 1"),
        (["--updates", "x"], "--updates"),
        (["--preset", "fast"], "quick"),
        (["--task-inference", "guess"], "oracle"),
        (["--seed", "-1"], "train.seed"),
        (["--threads", "-1"], "runtime.threads"),
        (["--set", "train.windows=33"], "train.steps_per_batch"),
        (["--set", "family.action_repeat=7"], "action_repeat"),
        (["--sed", "1"], "--seed"),
    ],
)
def test_a_value_that_cannot_be_is_named(arguments: list[str], named: str) -> None:
    assert named in refusal("meta-train", *arguments)


def test_an_unknown_command_is_one_line() -> None:
    assert "meta-trian" in refusal("meta-trian")


@pytest.mark.parametrize("command", ["adapt", "evaluate"])
class TestCheckpoints:
    def test_the_option_is_needed(self, command: str) -> None:
        assert "--checkpoint" in refusal(command)

    def test_a_missing_one(self, command: str) -> None:
        assert "runs/none does not exist" in refusal(command, "--checkpoint", "runs/none")

    def test_a_truncated_one(self, command: str) -> None:
        weights = a_checkpoint(Path("run/checkpoints/1")) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        assert "model.safetensors is damaged" in refusal(command, "--checkpoint", "run")

    def test_one_that_is_not_ours(self, command: str) -> None:
        Path("other").mkdir()
        torch.save({"a": 1}, "other/model.pt")
        assert "not a metaslac checkpoint" in refusal(command, "--checkpoint", "other")
        assert "is not a directory" in refusal(command, "--checkpoint", "other/model.pt")

    def test_weights_of_another_shape(self, command: str) -> None:
        a_checkpoint(Path("run/checkpoints/1"))
        assert "do not fit" in refusal(command, "--checkpoint", "run")

    def test_another_task_list(self, command: str) -> None:
        a_checkpoint(Path("run/checkpoints/1"), task_hash="0" * 64)
        assert "another task list of point_robot" in refusal(command, "--checkpoint", "run")

    def test_no_episodes(self, command: str) -> None:
        assert "--episodes" in refusal(command, "--checkpoint", "run", "--episodes", "0")

    def test_a_seed_that_is_several_numbers(self, command: str) -> None:
        assert "--seed" in refusal(command, "--checkpoint", "run", "--seed", str(2**32))

    def test_an_output_that_could_not_be_written(self, command: str) -> None:
        Path("file").touch()
        line = refusal(command, "--checkpoint", "run", "--json", "file/deep/out.json")
        assert "file is not a directory" in line


def test_a_video_is_an_mp4_or_a_gif() -> None:
    assert "must end in .mp4 or .gif" in refusal("adapt", "--checkpoint", "run", "--video", "out.avi")


def test_a_film_has_a_size_that_codecs_take() -> None:
    assert "--size 200: must be a multiple of 16" in refusal("adapt", "--checkpoint", "run", "--size", "200")


def test_only_held_out_tasks_are_adapted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    a_checkpoint(Path("run/checkpoints/1"))
    monkeypatch.setattr("metaslac.acting.agent.agent_from_checkpoint", lambda *_: make_agent())
    line = refusal("adapt", "--checkpoint", "run", "--task", "3")
    assert line == "metaslac: --task 3: the held-out tasks of point_robot are 80 to 99"


def test_a_run_directory_that_holds_a_different_run() -> None:
    start_run_directory(Path("run"), apply_settings(Config(), ["train.seed=1"]), {})
    line = refusal("meta-train", "--run-dir", "run", "--seed", "2")
    assert "different run: train.seed (1, 2)" in line


def test_resuming_with_settings_that_may_not_change() -> None:
    start_run_directory(Path("run"), Config(), {})
    line = refusal("meta-train", "--resume", "run", "--seed", "2", "--set", "model.z1_size=4")
    assert "cannot go on with run: model.z1_size (32, 4), train.seed (0, 2)" in line
    assert "neither --preset nor --run-dir" in refusal("meta-train", "--resume", "run", "--preset", "quick")
    assert "nowhere does not exist" in refusal("meta-train", "--resume", "nowhere")
    Path("other").mkdir()
    assert "other holds no run: it has no config.yaml" in refusal("meta-train", "--resume", "other")


@pytest.mark.parametrize(
    "command", [["meta-train"], ["adapt", "--checkpoint", "x"], ["evaluate", "--checkpoint", "x"]]
)
def test_cuda_where_there_is_none(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda: torch finds no CUDA device" in refusal(*command, "--device", "cuda")


@pytest.mark.parametrize(
    ("setting", "lower"),
    [
        ("replay.episodes_per_task=100000", "replay.episodes_per_task (now 100000) to "),
        ("train.windows=100000", "train.windows (now 100000), "),
        ("actor_critic.hidden_size=16384", "actor_critic.hidden_size (now 16384), "),
    ],
)
def test_a_run_that_cannot_fit_says_what_it_needs_and_what_to_lower(
    setting: str, lower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metaslac.launchers.api.memory, "available_bytes", lambda device: 4 * 2**30)
    line = refusal("meta-train", "--preset", "quick", "--set", setting, "--device", "cpu")
    assert "the run does not fit: replay " in line and "cpu has 4.0 GiB available; lower " in line
    assert lower in line


def test_a_run_that_fits_no_more_is_not_to_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_values(tiny_config(), {"family.name": "point_robot"})
    start_run_directory(Path("run"), config, {})
    monkeypatch.setattr(metaslac.launchers.api.memory, "available_bytes", lambda device: 2**20)
    line = refusal("meta-train", "--resume", "run")
    assert "go on where there is more, or in a new run lower replay.episodes_per_task" in line


def test_no_renderer_names_the_package_to_install() -> None:
    before = contents()
    done = subprocess.run(
        [sys.executable, "-m", "metaslac", "meta-train", "--preset", "quick", "--device", "cpu"],
        env={**os.environ, "MUJOCO_GL": "off", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "pixels cannot be rendered" in the_line(done.stderr)
    assert contents() == before
