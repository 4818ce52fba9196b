"""Commands on runs with other latent models than SLAC's: trained, inspected, adapted with and reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import TINY

from metaslac.launchers.cli import cli

SETTINGS = (
    "family.image_size=32",
    "task.context_length=4",
    "task.context_max=16",
    "replay.episodes_per_task=2",
)


def output(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


IMAGINED = "imagination.share=0.5", "imagination.penalty=log_prob", "model.heads=3"


@pytest.mark.parametrize(
    ("kind", "actor_input", "more"),
    [("deterministic", "latent", ()), ("vae", "features", ()), ("filtering", "latent", IMAGINED)],
    ids=["deterministic", "vae", "imagined"],
)
def test_every_command_takes_a_run_of_any_kind(
    kind: str, actor_input: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    run, page = str(tmp_path / "run"), tmp_path / "page.html"
    chosen = f"model.kind={kind}", f"actor_critic.actor_input={actor_input}", *more
    settings = [f"--set={text}" for text in (*SETTINGS, *chosen)]
    common = "--device", "cpu", "--threads", "1"
    train = "meta-train", "--family", "point_robot", "--updates", "2", *common, "--quiet", "--run-dir", run
    output(*train, *TINY, *settings)
    assert "update" in output("inspect", run, "--verify")
    output("adapt", "--checkpoint", run, "--episodes", "1", *common)
    evaluate = "evaluate", "--checkpoint", run, "--episodes", "2", "--trials", "1", "--no-training-tasks"
    output(*evaluate, *common)
    output("report", run, "--out", str(page), *common)
    text = page.read_text()
    assert "trained without a latent model" not in text
    assert f"model.kind={kind}" in text  # in the command that trains another
