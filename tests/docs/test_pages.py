"""The README and the pages of docs/: links lead somewhere, code runs, commands are commands."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
from helpers.documents import ROOT, blocks, documents, python_block
from helpers.rollouts import rlkit_rollout
from PIL import Image

from metaslac import envs
from metaslac.launchers.cli import cli

OWN_FAMILY = "import numpy as np\nfrom metaslac.envs import TaskFamily"
GYMNASIUM_FAMILY = "import gymnasium\nimport numpy as np\n"  # run by tests/launchers/families
META_WORLD = "import metaworld"  # likewise
OWN_LOOP = "import gymnasium, metaslac"
RLKIT = "import metaslac\nfrom metaslac.integrations.rlkit import"
ENVIRONMENTS = "import gymnasium\nfrom metaslac import envs"  # run by tests/test_project.py
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
MOST_LINES = 150  # of a README that is read


def test_its_first_picture_is_small_and_moves() -> None:
    path = ROOT / "docs/adaptation.gif"
    with Image.open(path) as gif:
        assert getattr(gif, "n_frames", 1) > 60 and path.stat().st_size < 1.5e6


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < MOST_LINES


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_linked_are_there(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    linked = [name for name, _ in LINK.findall(text) if name and "://" not in name]
    missing = [name for name in linked if not (path.parent / name).is_file()]
    assert not missing


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_code_that_begins_also_ends(path: Path) -> None:
    fences = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("```")]
    assert all(line != "```" for line in fences[::2]) and set(fences[1::2]) <= {"```"}


def test_every_page_is_linked_from_the_readme_or_another() -> None:
    linked = {
        (path.parent / name).resolve()
        for path in documents()
        for name, _ in LINK.findall(path.read_text(encoding="utf-8"))
        if name.endswith(".md")
    }
    api = ROOT / "docs/api"
    alone = {path for path in documents() if path.parent != api} - linked - {ROOT / "README.md"}
    assert alone <= {ROOT / "docs/index.md"}


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("metaslac", "envs", "launchers"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)

    def built() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = built()
    assert done.returncode == 0 and "No issues found" in done.stderr, done.stdout + done.stderr
    api = (tmp_path / "build/site/api/index.html").read_text()
    assert "meta_train" in api and "the checkpoint is not exactly as it was saved" in api
    pages = [path.read_text() for path in (tmp_path / "build/site").rglob("*.html")]
    assert len(pages) > 20
    elsewhere = r'<(?:script|link|img)[^>]*(?:src|href)="?https?://'
    assert not any(re.search(elsewhere, page) for page in pages)  # they need no network
    with (tmp_path / "docs/gpu.md").open("a") as file:
        file.write("[nowhere](training.md#nowhere)\n")
    assert built().returncode != 0


def test_every_command_is_one() -> None:
    said = [
        (path, line)
        for path, code in blocks("sh")
        for line in code.replace("\\\n", " ").splitlines()
        if line.startswith("metaslac ")
    ]
    assert len(said) > 30
    for path, line in said:
        words = shlex.split(line.partition(" #")[0])[1:]
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group):
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, (path, line)
            command, context = found, click.Context(found, context)
        command.parse_args(context, words)  # unknown options and bad values raise


def test_all_python_is_run_somewhere() -> None:
    run = OWN_FAMILY, OWN_LOOP, ENVIRONMENTS, GYMNASIUM_FAMILY, META_WORLD, RLKIT
    assert all(code.startswith(run) for _, code in blocks("python"))


def test_a_family_of_ones_own_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gravity_of_docs.py").write_text(python_block(OWN_FAMILY))
    monkeypatch.syspath_prepend(tmp_path)
    family = envs.make_family("gravity_of_docs:CheetahGravity", image_size=32)
    env = envs.make_vector_env(family, 2)
    gravity = [task.params[0] for task in family.tasks]
    heavy, light = int(np.argmax(gravity)), int(np.argmin(gravity))
    frames, _ = env.reset(seed=[0, 0], options={"task": [heavy, light]})
    np.testing.assert_array_equal(frames[0], frames[1])
    for _ in range(10):
        frames, *_ = env.step(np.zeros((2, 6)))
    assert not np.array_equal(frames[0], frames[1])
    env.close()


def test_a_loop_of_ones_own_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = python_block(OWN_LOOP)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    names["env"].close()
    widths = [sum(map(float, line.strip("[]").split())) for line in capsys.readouterr().out.splitlines()]
    assert len(widths) == 3 and 5 > widths[0] > widths[1] > widths[2] > 0  # 5 is that of the prior


def test_held_out_tasks_are_rolled_out_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = python_block(RLKIT)
    stand_in = ModuleType("rlkit.samplers.rollout_functions")
    stand_in.rollout = rlkit_rollout  # type: ignore[attr-defined]
    for name in ("rlkit", "rlkit.samplers", stand_in.__name__):
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    names["env"].close()
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == [97, 98, 99]
    returns = [float(value) for line in lines for value in re.findall(r"-\d+\.\d+", line)]
    assert len(returns) == 9 and all(-60 < value < 0 for value in returns)
