"""The project as a whole: packages depend on each other one way only, and its papers agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from metaslac.version import __version__

ROOT = Path(__file__).parents[2]


def test_the_import_contract_holds() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_setup_reads_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == __version__


def test_every_requirement_has_a_tested_version() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    text = (ROOT / "setup.py").read_text()
    required = text.partition("install_requires=[")[2].partition("\n    ],")[0]
    extra = text.partition('"test": [')[2].partition("]")[0]
    names = re.findall(r'"([A-Za-z0-9_-]+)', required + extra)
    assert {"torch", "pytest", "imageio-ffmpeg"} <= set(names)
    assert {name.lower() for name in names} <= pinned
