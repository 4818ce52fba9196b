"""`metaslac doctor`: can this machine run metaslac, and what is missing if not.

Rendering is tried in a process of its own, because a broken driver can hang or kill the one that asks.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from metaslac.launchers.api.process import chosen_threads, threads_line
from metaslac.storage.provenance import machine
from metaslac.storage.version import library_versions

BACK_ENDS = ("egl", "osmesa")
CHOOSE = ("MUJOCO_GL", "PYOPENGL_PLATFORM")
SECONDS_TO_RENDER = 60
INSTALL = "sudo apt-get install libegl1 libopengl0 libgl1-mesa-dri"


class Attempt(NamedTuple):
    """What came of rendering with one back end."""

    works: bool
    text: str


@click.command(short_help="Check rendering, devices and versions.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=SECONDS_TO_RENDER,
    show_default=True,
    help="Seconds each rendering back end may take.",
)
def doctor(timeout: int) -> int:
    """Check what a run needs: rendering back ends, GL vendor, frames per second, torch device, versions.

    Exits with 1, and says what to do about it, when a run could render nothing.
    """
    for name, version in library_versions().items():
        click.echo(f"{name:<12} {version}")
    click.echo(f"{'system':<12} {platform.platform()}, {machine()['cores']} cores")
    click.echo(f"{'threads':<12} {threads_line(chosen_threads(0))}")
    click.echo(f"{'device':<12} {_devices()}")
    chosen = try_rendering(None, timeout)
    click.echo(f"{'rendering':<12} {chosen.text}")
    each = {name: try_rendering(name, timeout) for name in BACK_ENDS}
    for name, attempt in each.items():
        click.echo(f"{'  ' + name:<12} {attempt.text}")
    if not chosen.works:
        click.echo(advice(each), err=True)
        return 1
    return 0


def advice(each: Mapping[str, Attempt]) -> str:
    """What to do where the back end of a run does not render, given what comes of each when it is named."""
    working = next((name for name, attempt in each.items() if attempt.works), None)
    if working is not None:
        variables = [variable for variable in CHOOSE if variable in os.environ] or ["MUJOCO_GL"]
        settings = " and ".join(f"{variable}={working}" for variable in variables)
        return f"a run renders nothing, for the reason given above; with {settings} it does"
    if any("install" in attempt.text for attempt in each.values()):
        return f"nothing can be rendered; on Debian or Ubuntu: {INSTALL}"
    return "nothing can be rendered; what stands above says why"


def try_rendering(back_end: str | None, timeout: float) -> Attempt:
    """Render with a back end, or with the one a run would choose, in a subprocess with a time-out."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    if back_end is not None:
        environment["MUJOCO_GL"] = environment["PYOPENGL_PLATFORM"] = back_end
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "metaslac.envs.probe"],  # -P: whatever lies in the user's directory
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Attempt(False, f"no answer within {timeout:g} s")
    return _read(done.stdout) or Attempt(False, f"does not work: {_last_line(done)}")


def _read(output: str) -> Attempt | None:
    """What `metaslac.envs.probe` printed, None where it died before that."""
    try:
        facts: dict[str, Any] = json.loads(output)
        if "error" in facts:
            return Attempt(False, f"does not work: {facts['error']}")
        rate = float(facts["frames_per_second"])
        return Attempt(
            True, f"{facts['back_end']}, {facts['vendor']}, {facts['renderer']}, {rate:.0f} frames/s"
        )
    except (ValueError, KeyError, TypeError):
        return None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"{signal.Signals(-done.returncode).name} ends it"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _devices() -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu; no CUDA device"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"cuda: {', '.join(names)}"
