"""A critic that saw the simulator's state in training: every command that shows a result of it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from runs import TINY

from metaslac.config.sections import PRIVILEGED
from metaslac.launchers.cli import cli

RESTING = (
    *("family.frames=2", "family.image_size=32", "model.elbo_weight=0", "model.feature_reward_weight=1"),
    *("actor_critic.standardise=true", "train.freeze_encoder=true", "model.window=2"),
    *("task.context_length=4", "task.context_max=16", "replay.episodes_per_task=2"),
)

ONCE = "--episodes", "1", "--trials", "1"


def here(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code in (0, 2), result.output
    return result


@pytest.fixture(scope="module", params=["state", "features"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The critic's input and an evaluated run."""
    directory = tmp_path_factory.mktemp(request.param) / "run"
    settings = [f"--set={text}" for text in (*RESTING, f"actor_critic.critic_input={request.param}")]
    train = ["meta-train", "--family", "point_robot", "--updates", "2", "--device", "cpu", "--threads", "1"]
    assert here(*train, "--quiet", "--run-dir", str(directory), *TINY, *settings).exit_code == 0
    return request.param, directory


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["adapt", "--episodes", "1", "--device", "cpu", "--checkpoint"],
        [
            "evaluate",
            "--episodes",
            "1",
            "--trials",
            "1",
            "--no-training-tasks",
            "--device",
            "cpu",
            "--checkpoint",
        ],
    ],
    ids=lambda command: command[0],
)
def test_it_is_said_wherever_a_result_stands(run: tuple[str, Path], command: list[str]) -> None:
    critic_input, directory = run
    result = here(*command, str(directory))
    assert result.exit_code == 0
    assert (PRIVILEGED in result.output) == (critic_input == "state")


def test_a_report_says_it_and_has_no_reconstructions(run: tuple[str, Path], tmp_path: Path) -> None:
    critic_input, directory = run
    evaluate = [
        "evaluate",
        "--episodes",
        "2",
        "--trials",
        "1",
        "--device",
        "cpu",
        "--overwrite",
        "--checkpoint",
    ]
    assert here(*evaluate, str(directory)).exit_code == 0
    assert (
        here("report", str(directory), "--out", str(tmp_path / "page.html"), "--device", "cpu").exit_code == 0
    )
    page = (tmp_path / "page.html").read_text().replace("&#39;", "'")
    assert (PRIVILEGED in page) == (critic_input == "state")
    assert "trained without a latent model" in page


def test_it_is_compared_with_its_like_only(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    settings = [f"--set={text}" for text in RESTING]
    train = ["meta-train", "--family", "point_robot", "--updates", "1", "--device", "cpu", "--threads", "1"]
    evaluate = ["evaluate", *ONCE, "--no-training-tasks", "--device", "cpu"]
    for name, inference, critic_input in (("a", "infer", "state"), ("b", "blind", "features")):
        directory = str(tmp_path / name)
        chosen = [f"--set=actor_critic.critic_input={critic_input}", f"--set=task.inference={inference}"]
        here(*train, "--quiet", "--run-dir", directory, *TINY, *settings, *chosen)
    assert here(*evaluate, "--checkpoint", str(tmp_path / "b")).exit_code == 0
    refused = here(*evaluate, "--checkpoint", str(tmp_path / "a"), "--blind", str(tmp_path / "b"))
    assert refused.exit_code == 2 and "privileged" in refused.output
