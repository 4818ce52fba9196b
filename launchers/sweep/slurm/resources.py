"""What is asked of Slurm for each run, as options of `metaslac sweep` and as parameters of sbatch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from metaslac.errors import MetaslacError

# As sbatch has it: after days there are hours, in front of seconds minutes.
TIME = re.compile(r"(?:(\d+)-(\d+)(?::(\d\d))?(?::(\d\d))?|(?:(\d+):)?(\d+)(?::(\d\d))|(\d+))")
MEMORY = re.compile(r"(\d+)([MGT])")
BYTES = {"M": 2**20, "G": 2**30, "T": 2**40}
NAME = re.compile(r"[a-z][a-z-]*")

# Long enough to drop an evaluation and write a checkpoint; the job then queues itself again.
SECONDS_BEFORE_THE_END = 120

# Of sbatch, and not to be set: the sweep counts on them.
DECIDED = (
    *("array", "chdir", "cpus-per-task", "error", "job-name", "nodes", "ntasks", "ntasks-per-node"),
    *("open-mode", "output", "parsable", "quiet", "requeue", "no-requeue", "signal", "test-only", "wait"),
)

Command = TypeVar("Command", bound=Callable[..., object])


@dataclass(frozen=True)
class Resources:
    """Of one run; what is None is left to the cluster's defaults."""

    partition: str | None = None
    gpus: int = 0
    time: str | None = None
    memory: str | None = None
    requeues: int = 100
    more: Mapping[str, str] = field(default_factory=dict)  # further options of sbatch

    def parameters(self) -> dict[str, Any]:
        """As submitit's executor for Slurm takes them."""
        return {
            "partition": self.partition,
            "time": self.time,
            "mem": self.memory,
            "gpus_per_node": self.gpus or None,
        }

    def memory_bytes(self) -> int | None:
        """What a run may use, if it was said."""
        found = MEMORY.fullmatch(self.memory or "")
        return int(found[1]) * BYTES[found[2]] if found else None


def slurm_options(command: Command) -> Command:
    """--slurm and what goes with it."""
    options = (
        click.option(
            "--slurm",
            is_flag=True,
            show_default="off",
            help="Each run as a job of Slurm's, --jobs of them at a time; needs the extra `slurm`.",
        ),
        click.option("--partition", show_default="the cluster's", help="With --slurm: where jobs queue."),
        click.option(
            "--gpus",
            type=click.IntRange(0, 1),
            show_default="0",
            help="With --slurm: GPUs of each run; --device is cuda with one, cpu without.",
        ),
        click.option(
            "--time",
            metavar="MINUTES|H:MM:SS|D-HH",
            show_default="the cluster's",
            help="With --slurm: limit of each job. A run that needs longer is queued again and goes on.",
        ),
        click.option(
            "--memory",
            metavar="NUMBER(M|G|T)",
            show_default="the cluster's",
            help="With --slurm: main memory of each run, such as 16G.",
        ),
        click.option(
            "--requeues",
            type=click.IntRange(min=0),
            show_default="100",
            help="With --slurm: how often a run is queued again when its time is over.",
        ),
        click.option(
            "--sbatch",
            "more",
            multiple=True,
            metavar="OPTION=VALUE",
            show_default="none",
            help="With --slurm: any other option of sbatch, such as account=mine; may be repeated.",
        ),
        click.option(
            "--detach",
            is_flag=True,
            show_default="off",
            help="With --slurm: leave when jobs are submitted; the same command without it watches them.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def asked_resources(slurm: bool, detach: bool, more: tuple[str, ...], **asked: Any) -> Resources | None:
    """What the options ask for; None without --slurm.

    Raises MetaslacError for what Slurm would not understand, and for options that need --slurm.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if not slurm:
        flags = [*given, *["sbatch"] * bool(more), *["detach"] * detach]
        if flags:
            raise MetaslacError(f"--{flags[0]} goes with --slurm only")
        return None
    resources = Resources(**given, more=dict(_option(text) for text in more))
    if resources.time is not None:
        _check_time(resources.time)
    if resources.memory is not None and not MEMORY.fullmatch(resources.memory):
        raise MetaslacError(f"--memory takes a number of M, G or T, such as 16G, not {resources.memory!r}")
    if resources.partition is not None:
        _check_value("--partition", resources.partition)
    return resources


def _check_time(text: str) -> None:
    found = TIME.fullmatch(text)
    if not found:
        raise MetaslacError(f"--time takes minutes, H:MM:SS or D-HH as sbatch does, not {text!r}")
    days, *after_days, hours, minutes, seconds, alone = (int(part or 0) for part in found.groups())
    minutes += 60 * (24 * days + after_days[0] + hours) + after_days[1] + alone
    if 60 * minutes + seconds + after_days[2] <= SECONDS_BEFORE_THE_END:
        raise MetaslacError(
            f"--time {text}: jobs end themselves {SECONDS_BEFORE_THE_END} s before it is over"
        )


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.strip().removeprefix("--")
    if not equals or not NAME.fullmatch(name):
        raise MetaslacError(f"--sbatch takes OPTION=VALUE, such as account=mine, not {text!r}")
    if name in DECIDED:
        raise MetaslacError(f"--sbatch {name}: the sweep decides it")
    if name in ("partition", "time", "mem", "gpus-per-node"):
        ours = {"mem": "memory", "gpus-per-node": "gpus"}.get(name, name)
        raise MetaslacError(f"--sbatch {name}: --{ours} is for that")
    _check_value(f"--sbatch {name}", value)
    return name, value


def _check_value(name: str, value: str) -> None:
    if not value or not value.isprintable():  # lines of the batch script
        raise MetaslacError(f"{name} takes printable text, not {value!r}")
