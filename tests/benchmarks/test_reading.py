"""The benchmark of reading: it runs, and what it prints follows from what it stores."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

from scripts import ROOT


def test_shares_and_ratios_follow_from_the_rounds(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "reading.py", "--megabytes", "2", "--seconds", "0.1"]
    command += ["--rounds", "2", "--json", tmp_path / "figures.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rounds = json.loads((tmp_path / "figures.json").read_text())["rounds"]
    assert list(rounds) == ["replay", "data", "data, from the disk"]
    for line, (name, kinds) in zip(done.stdout.splitlines(), rounds.items(), strict=True):
        found = re.fullmatch(
            rf"{name}: ([\d.]+) updates/s, ([\d.]+) times a replay's; "
            r"drawing a batch takes ([\d.]+) % of an update",
            line,
        )
        assert found is not None, line
        updates, batches, replays = (
            [one["count"] / one["wall_seconds"] for one in part]
            for part in (kinds["update"], kinds["batch"], rounds["replay"]["update"])
        )
        expected = (
            statistics.median(updates),
            statistics.median(one / other for one, other in zip(updates, replays, strict=True)),
            100 * statistics.median(u / b for u, b in zip(updates, batches, strict=True)),
        )
        assert all(
            abs(float(text) - value) < 0.06 for text, value in zip(found.groups(), expected, strict=True)
        )
