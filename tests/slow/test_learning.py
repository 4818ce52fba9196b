"""Learning, for real: short runs of point_robot's quick preset from pixels, on one thread.

Standing still at the origin from the start earns -13.7 on the held-out goals, walking there -14.4.
"""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from launchers.cli import cli


def held_out_returns(run_dir: Path, inference: str, updates: int) -> list[float]:
    """Mean held-out return of each of three episodes at the end of a short run."""
    arguments = ["meta-train", "--family", "point_robot", "--preset", "quick", "--threads", "1", "--quiet"]
    arguments += ["--updates", str(updates), "--task-inference", inference, "--run-dir", str(run_dir)]
    arguments += ["--set", "evaluation.trials=5", "--set", f"evaluation.every={updates}"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    with (run_dir / "progress.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    return [float(last[f"test/return_{episode}"]) for episode in (1, 2, 3)]


@pytest.mark.slow
def test_told_the_goal_the_agent_learns_to_walk_there(tmp_path: Path) -> None:
    """Encoder, model, critic and actor together: about -6.5 is usual here, and the optimum is -4.6."""
    assert min(held_out_returns(tmp_path / "run", "oracle", 700)) > -9


@pytest.mark.slow
def test_inferring_the_goal_makes_later_episodes_better(tmp_path: Path) -> None:
    """From first to third episode 2.2 to 3.1 is usual here; an agent that cannot infer gains nothing."""
    first, _, third = held_out_returns(tmp_path / "run", "infer", 1_500)
    assert third - first > 1.2
    assert third > -13.3
