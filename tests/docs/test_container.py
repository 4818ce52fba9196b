"""The Dockerfile against what the README, the Makefile and setup.py say; no image is built here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.documents import ROOT

NOT_IN_IMAGES = {"python3-venv"}  # the image's own Python is used


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile and what follows it."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def commands() -> list[list[str]]:
    """The words of each command that is run while the image is built."""
    parts = [re.split(r"&&|;", rest) for word, rest in instructions() if word == "RUN"]
    return [shlex.split(command) for some in parts for command in some]


def test_it_installs_the_systems_packages_that_the_readme_and_the_makefile_name() -> None:
    (install,) = (words for words in commands() if "apt-get" in words and "install" in words)
    packages = {word for word in install[install.index("install") + 1 :] if not word.startswith("-")}
    makefile = re.search("^SYSTEM_PACKAGES := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert makefile is not None
    assert packages == set(makefile[1].split()) - NOT_IN_IMAGES
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{package}`" in readme for package in packages)
    # The workflow installs by make alone.
    assert "apt-get" not in (ROOT / ".github/workflows/tests.yml").read_text()


def test_all_that_pip_installs_is_constrained() -> None:
    installs = [words for words in commands() if words[:2] == ["pip", "install"]]
    assert len(installs) == 2
    for words in installs:
        assert words[words.index("--constraint") + 1] == "constraints.txt"
    (extras,) = (rest.removeprefix("EXTRAS=") for word, rest in instructions() if rest.startswith("EXTRAS="))
    setup = (ROOT / "setup.py").read_text()
    assert all(f'"{extra}": [' in setup for extra in extras.split(","))
    assert installs[-1][-1] == ".[${EXTRAS}]"


def test_it_ends_as_a_user_who_is_not_root_and_is_checked() -> None:
    (base, *_), words = instructions(), [word for word, _ in instructions()]
    assert base == ("FROM", "python:3.12-slim")
    user = next(rest for word, rest in instructions() if word == "USER")
    assert user != "root" and words.count("USER") == 1 and ["useradd", "--create-home", user] in commands()
    doctor = instructions().index(("RUN", "metaslac doctor"))
    assert doctor > words.index("USER") and words.index("ENTRYPOINT") > doctor


def test_what_is_sent_to_the_daemon_is_enough_to_build(tmp_path: Path) -> None:
    first, *lines = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert first == "*"
    source = tmp_path / "source"
    source.mkdir()
    for name in (line[1:] for line in lines if line.startswith("!")):
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(path, source)
    commit = "0123456789abcdef" * 2 + "01234567"
    (source / "metaslac/storage/commit.txt").write_text(f"{commit}\n")
    lib = tmp_path / "lib"
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={lib}"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        [sys.executable, "-m", "metaslac", "zoo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(lib)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "point_robot" in said.stdout, said.stderr
    assert (lib / "metaslac/storage/commit.txt").read_text() == f"{commit}\n"
