"""What `metaslac doctor` finds, and what it advises where nothing can be rendered."""

from __future__ import annotations

import signal
import subprocess

import pytest
from click.testing import CliRunner

from metaslac.launchers import doctor
from metaslac.launchers.cli import cli
from metaslac.launchers.doctor import Attempt


def test_doctor_finds_a_renderer_here() -> None:
    text = CliRunner().invoke(cli, ["doctor"], catch_exceptions=False).stdout
    assert "frames/s" in text and "torch" in text and "cores" in text


MISSING = Attempt(False, "does not work: its libraries cannot be loaded; install `libegl1`")
CRASHES = Attempt(False, "does not work: SIGSEGV ends it")
DRAWS = Attempt(True, "egl, Mesa")


@pytest.mark.parametrize(
    ("variables", "attempts", "said"),
    [
        ({}, {None: MISSING, "egl": MISSING, "osmesa": MISSING}, "apt-get install libegl1"),
        ({}, {None: CRASHES, "egl": CRASHES, "osmesa": MISSING}, "apt-get install libegl1"),
        ({}, {None: CRASHES, "egl": CRASHES, "osmesa": CRASHES}, "what stands above says why"),
        ({}, {None: CRASHES, "egl": DRAWS, "osmesa": CRASHES}, "with MUJOCO_GL=egl it does"),
        ({"MUJOCO_GL": "glfw"}, {None: CRASHES, "egl": MISSING, "osmesa": DRAWS}, "with MUJOCO_GL=osmesa it"),
        (
            {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"},
            {None: CRASHES, "egl": DRAWS, "osmesa": DRAWS},
            "with MUJOCO_GL=egl and PYOPENGL_PLATFORM=egl it does",
        ),
    ],
)
def test_doctor_gives_each_cause_its_remedy(
    variables: dict[str, str],
    attempts: dict[str | None, Attempt],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "try_rendering", lambda name, _: attempts[name])
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert said in line and ("install" in line) == (MISSING in attempts.values() and "apt-get" in said)


def test_doctor_names_the_signal_of_a_driver_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = subprocess.CompletedProcess([], -signal.SIGSEGV, "", "a warning that says nothing\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: crashed)
    assert doctor.try_rendering("osmesa", 60).text == "does not work: SIGSEGV ends it"


def test_doctor_is_not_hung_by_a_driver_that_hangs() -> None:
    assert doctor.try_rendering("egl", timeout=0.01) == Attempt(False, "no answer within 0.01 s")


def test_doctor_reports_a_back_end_that_fails() -> None:
    attempt = doctor.try_rendering("off", timeout=60)
    assert not attempt.works and "rendering" in attempt.text
