"""Critics or agents that saw the simulator's state: every command that shows a result of one says so."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from runs import TINY

from metaslac.config.sections import ON_STATES, PRIVILEGED
from metaslac.config.state_presets import ON_STATES as STATE_SETTINGS
from metaslac.launchers.cli import cli

FEW = "task.context_length=4", "task.context_max=16", "replay.episodes_per_task=2"
RESTING = (
    *("family.frames=2", "family.image_size=32", "model.elbo_weight=0", "model.feature_reward_weight=1"),
    *("actor_critic.standardise=true", "train.freeze_encoder=true", "model.window=2", *FEW),
)

SETTINGS = {
    "critics": [*RESTING, "actor_critic.critic_input=state"],
    "nobody": [*RESTING, "actor_critic.critic_input=features"],
    "agent": [*(f"{name}={value}" for name, value in STATE_SETTINGS.items()), *FEW],
}
SAID = {"critics": PRIVILEGED, "agent": ON_STATES}  # who sees states -> what has to be said

ONCE = "--episodes", "1", "--trials", "1"


def here(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code in (0, 2), result.output
    return result


def is_said(who: str, output: str) -> bool:
    """Whether what must be said is, and nothing else."""
    return [words for words in SAID.values() if words in output] == ([SAID[who]] if who in SAID else [])


@pytest.fixture(scope="module", params=SETTINGS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Who sees states, and a run."""
    directory = tmp_path_factory.mktemp(request.param) / "run"
    settings = [f"--set={text}" for text in SETTINGS[request.param]]
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
    who, directory = run
    result = here(*command, str(directory))
    assert result.exit_code == 0
    assert is_said(who, result.output)


def test_a_report_says_it_and_has_no_reconstructions(run: tuple[str, Path], tmp_path: Path) -> None:
    who, directory = run
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
    assert is_said(who, page)
    assert "trained without a latent model" in page


def test_agents_on_states_are_filmed_all_the_same(run: tuple[str, Path], tmp_path: Path) -> None:
    _, directory = run
    video, picture = tmp_path / "video.mp4", tmp_path / "picture.png"
    asked = "--video", str(video), "--picture", str(picture)
    adapt = ["adapt", "--episodes", "1", "--device", "cpu", "--checkpoint", str(directory)]
    assert here(*adapt, *asked).exit_code == 0
    reader = imageio_ffmpeg.read_frames(str(video))
    next(reader)  # what the file says of itself
    frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    assert len(frames) > 10 and np.ptp(frames[0]) > 100
    assert (frames[0] != frames[-1]).any()
    assert np.ptp(np.asarray(Image.open(picture))) > 100


@pytest.mark.parametrize(("who", "differs"), [("critics", "privileged"), ("agent", "observation")])
def test_it_is_compared_with_its_like_only(tmp_path: Path, who: str, differs: str) -> None:
    train = ["meta-train", "--family", "point_robot", "--updates", "1", "--device", "cpu", "--threads", "1"]
    evaluate = ["evaluate", *ONCE, "--no-training-tasks", "--device", "cpu"]
    for name, inference, seer in (("a", "infer", who), ("b", "blind", "nobody")):
        chosen = [f"--set={text}" for text in (*SETTINGS[seer], f"task.inference={inference}")]
        here(*train, "--quiet", "--run-dir", str(tmp_path / name), *TINY, *chosen)
    assert here(*evaluate, "--checkpoint", str(tmp_path / "b")).exit_code == 0
    refused = here(*evaluate, "--checkpoint", str(tmp_path / "a"), "--blind", str(tmp_path / "b"))
    assert refused.exit_code == 2 and differs in refused.output
