"""Stop signals: the same one passed on by another process is no second one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from metaslac.launchers.signals import SECONDS_OF_ECHO, stop_requested

TWICE = """
import signal, sys, time
from metaslac.launchers.signals import stop_requested
first, second, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
with stop_requested() as stop:
    signal.raise_signal(first)
    time.sleep(seconds)
    signal.raise_signal(second)
    sys.exit(stop.number)
"""


def test_it_says_whether_one_has_come_and_which() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with stop_requested() as stop:
        assert (stop(), stop.number) == (False, None)
        signal.raise_signal(signal.SIGUSR1)
        assert (stop(), stop.number) == (True, signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize(
    ("second", "seconds", "code"),
    [
        (signal.SIGTERM, 0.0, signal.SIGTERM),  # an echo
        (signal.SIGTERM, 2 * SECONDS_OF_ECHO, 128 + signal.SIGTERM),
        (signal.SIGINT, 0.0, 128 + signal.SIGINT),
    ],
)
def test_a_second_one_ends_the_process_unless_it_is_an_echo(second: int, seconds: float, code: int) -> None:
    command = [sys.executable, "-c", TWICE, *map(str, (signal.SIGTERM.value, int(second), seconds))]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == code


AFTERWARDS = """
import signal
from metaslac.launchers.signals import stop_requested
with stop_requested():
    pass
signal.raise_signal(signal.SIGTERM)
print("said what became of it")
"""


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({}, -signal.SIGTERM, ""),
        ({"TORCHELASTIC_RUN_ID": "none"}, 0, "said what became of it\n"),
    ],
)
def test_one_that_comes_late_is_torchruns_alone(environment: dict[str, str], code: int, said: str) -> None:
    command = [sys.executable, "-c", AFTERWARDS]
    env = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"} | environment
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert (ended.returncode, ended.stdout) == (code, said)
