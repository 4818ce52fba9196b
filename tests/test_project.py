"""The project as a whole: rooms import each other one way, one name is installed, its papers agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from helpers.documents import python_block

from metaslac.storage.version import __version__

ROOT = Path(__file__).parents[1]
MOST_LINES, MOST_FILES = 350, 14


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def sources() -> Iterator[Path]:
    """Every Python file of ours, once."""
    for folder in ("metaslac", "envs", "launchers", "tests", "benchmarks"):
        yield from (ROOT / folder).rglob("*.py")  # does not follow the links of metaslac/


def test_the_import_contract_holds() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("metaslac", cache_dir=None)
    assert {"metaslac.envs.worlds.vector_env", "metaslac.launchers.cli"} <= graph.modules
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    while free := {name for name, below in imports.items() if not below & imports.keys()}:
        imports = {name: below for name, below in imports.items() if name not in free}
    assert not imports  # what is left imports something that is left


def test_files_and_folders_stay_small() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in sources()}
    assert len(lines) > 150
    assert not {str(path): count for path, count in lines.items() if count > MOST_LINES}
    for folder in {path.parent for path in lines}:
        entries = [path.name for path in folder.iterdir() if path.is_file() and path.name != "__init__.py"]
        assert len(entries) <= MOST_FILES, folder


def test_every_room_says_what_lives_there() -> None:
    for package in ("metaslac", "envs", "launchers"):
        for path in (ROOT / package).rglob("__init__.py"):
            says = path.read_text().partition('"""')[2].partition('"""')[0]
            assert len(says.split("\n\n")) == 2, path


def test_setup_reads_the_version() -> None:
    done = run("setup.py", "--version")
    assert done.stdout.split()[-1] == __version__, done.stderr


def test_one_name_is_installed_and_each_file_once(tmp_path: Path) -> None:
    done = run(
        "setup.py", "-q", "egg_info", f"--egg-base={tmp_path}", "build_py", f"--build-lib={tmp_path / 'lib'}"
    )
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "lib") == ["metaslac"]
    packed = {path.relative_to(tmp_path / "lib/metaslac") for path in (tmp_path / "lib").rglob("*.*")}
    ours = {
        Path(*path.relative_to(ROOT).parts[package == "metaslac" :])
        for package in ("metaslac", "envs", "launchers")
        for path in (ROOT / package).rglob("*.*")
        if "__pycache__" not in path.parts
    }
    assert packed - ours == {Path("storage/commit.txt")} and ours <= packed
    # Installed elsewhere it knows what it was built from, as it does here.
    code = "from metaslac.storage.provenance import source_commit; print(source_commit())"
    here, there = run("-c", code), run("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "lib"))
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?\n", here.stdout), here.stderr
    assert there.stdout == here.stdout, there.stderr


def test_what_is_built_from_packed_source_knows_its_commit_too(tmp_path: Path) -> None:
    done = run("setup.py", "-q", "egg_info", f"--egg-base={tmp_path}", "sdist", f"--dist-dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    source = next(path for path in tmp_path.iterdir() if (path / "setup.py").exists())
    done = run("setup.py", "-q", "build_py", f"--build-lib={tmp_path / 'lib'}", cwd=source)
    assert done.returncode == 0, done.stderr
    packed = (tmp_path / "lib/metaslac/storage/commit.txt").read_text()
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?\n", packed)


def test_importing_it_loads_neither_torch_nor_a_simulator() -> None:
    code = "import metaslac, metaslac.envs, sys; metaslac.envs.family_names; print(*sys.modules)"
    for back_end in ("", "egl", "nonsense"):
        done = run("-c", code, MUJOCO_GL=back_end)
        loaded = set(done.stdout.split())
        assert {"metaslac.envs.registry", "gymnasium"} <= loaded, done.stderr
        assert not {"torch", "mujoco", "dm_control", "OpenGL", "click"} & loaded


OWN = {
    "envs/__init__.py": "",
    "envs/mine.py": "HORIZON = 7\n",
    "launchers/__init__.py": "raise RuntimeError('not yours')\n",
    "maze.py": """
from envs.mine import HORIZON
from metaslac.envs.families.point_robot import PointRobot

class Maze(PointRobot):
    name = "maze"
    horizon = HORIZON
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project with packages `envs` and `launchers` of its own."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_project_may_have_envs_and_launchers_of_its_own(project: Path) -> None:
    example = python_block("import gymnasium\nfrom metaslac import envs\n")
    checked = "assert frames.shape == (16, 64, 64, 3) and info['task'].tolist() == list(range(16))\n"
    places = f"{ROOT}{os.pathsep}{project}"
    for code in (example + checked, "import envs.mine\n" + example + checked):
        done = run("-c", code, cwd=project, PYTHONPATH=places)
        assert (done.returncode, done.stderr) == (0, "")
    command = "-m", "metaslac"
    listed = run(*command, "families", cwd=project, PYTHONPATH=places)
    assert listed.returncode == 0 and "cheetah_vel" in listed.stdout, listed.stderr
    picture = ("families", "--show", "maze:Maze", "--out", "maze.png", "--image-size", "32")
    shown = run(*command, *picture, cwd=project, PYTHONPATH=places)
    assert shown.returncode == 0, shown.stderr
    assert (project / "maze.png").stat().st_size


def test_no_two_streams_of_random_numbers_have_one_number() -> None:
    found: list[str] = []
    for path in (*(ROOT / "metaslac").rglob("*.py"), *(ROOT / "launchers").rglob("*.py")):
        for numbers in re.findall(r"^\w+_STREAM\b.* = ([\d, ]+)", path.read_text(), re.MULTILINE):
            found += re.findall(r"\d+", numbers)
    assert len(found) > 10 and len(set(found)) == len(found)


def test_it_is_a_module_with_the_help_that_people_try_first() -> None:
    short, long = run("-m", "metaslac", "-h"), run("-m", "metaslac", "--help")
    assert short.returncode == 0 and short.stdout == long.stdout and "meta-train" in short.stdout
    assert run("-m", "metaslac", "adapt", "-h").stdout.startswith("Usage: metaslac adapt")
    assert run("-m", "metaslac", "--version").stdout.split() == ["metaslac", __version__]
    assert run("-c", "import metaslac; print(metaslac.__version__)").stdout.strip() == __version__


def test_every_requirement_has_a_tested_version() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    text = (ROOT / "setup.py").read_text()
    required = text.partition("install_requires=[")[2].partition("\n    ],")[0]
    extra = text.partition('"test": [')[2].partition("]")[0]
    names = re.findall(r'"([A-Za-z0-9_-]+)', required + extra)
    assert {"torch", "pytest", "imageio-ffmpeg"} <= set(names)
    assert {name.lower() for name in names} <= pinned
