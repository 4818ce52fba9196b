"""Learning, for real: a short run of point_robot's quick preset from pixels, on one thread.

Standing still at the origin from the start earns -16.7 on the validation goals, walking there -17.2.
"""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from metaslac.launchers.cli import cli


def validation_returns(run_dir: Path, updates: int) -> list[float]:
    """Mean return on validation tasks of each of three episodes at the end of a short run."""
    arguments = ["meta-train", "--family", "point_robot", "--preset", "quick", "--threads", "1", "--quiet"]
    arguments += ["--updates", str(updates), "--run-dir", str(run_dir)]
    arguments += ["--set", "evaluation.trials=5", "--set", f"evaluation.every={updates}"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    with (run_dir / "progress.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    return [float(last[f"validation/return_{episode}"]) for episode in (1, 2, 3)]


@pytest.mark.slow
def test_inferring_the_goal_makes_later_episodes_better(tmp_path: Path) -> None:
    """Nothing blind to the goal earns more than walking to the middle, nor gains from episode to episode."""
    first, _, third = validation_returns(tmp_path / "run", 1_500)
    assert third - first > 1.2
    assert third > -13.3
