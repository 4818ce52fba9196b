"""`metaslac sweep`: the three kinds of task inference with several seeds, in one command.

What it consists of is in plan.py, the processes in jobs.py, those on a cluster in slurm/, the screen in
view.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from metaslac.config.presets import PRESETS, fit_to_tasks, resolve
from metaslac.config.runtime import DEVICES, trackers_in
from metaslac.config.sections import TASK_INFERENCE, Config
from metaslac.config.text import assignments_of, settings_in, values_of
from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import configured_family, try_out
from metaslac.launchers.api.process import choose_device, chosen_threads, draw_on, refuse_ranks
from metaslac.launchers.api.training import file_name
from metaslac.launchers.errors import FAULT
from metaslac.launchers.options import (
    SETTINGS,
    UserPath,
    config_option,
    family_name_option,
    preset_option,
    track_option,
)
from metaslac.launchers.outputs import tell
from metaslac.launchers.signals import STOPPED as STOPPED_CODE
from metaslac.launchers.signals import Stop, stop_requested
from metaslac.launchers.sweep.jobs import DONE, FAILED, STOPPED, Here, Job, Workers
from metaslac.launchers.sweep.memory import check_asked_memory, check_memory_of
from metaslac.launchers.sweep.plan import REPORT, Sweep, begun, check_out, is_trained
from metaslac.launchers.sweep.slurm.jobs import OnSlurm
from metaslac.launchers.sweep.slurm.resources import Resources, asked_resources, slurm_options
from metaslac.launchers.sweep.view import Reader, View, results

MOST_SEEDS = 1000
SLURM_THREADS = 2

# What is not for --set, and why.
DECIDED = {
    "train.seed": "--seeds and --first-seed decide it",
    "task.inference": "--task-inference decides it",
    "runtime.threads": "--threads decides it",
}


@click.command(short_help="Train and evaluate infer, oracle and blind with several seeds.")
@family_name_option(
    show_default=Config().family.name, help="As of meta-train; `metaslac families` lists them."
)
@preset_option(
    PRESETS,
    default="default",
    show_default=True,
    help="Settings to start from; quick is sized for two CPU cores.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, MOST_SEEDS),
    default=3,
    show_default=True,
    help="Runs of each kind; more of them later go on with the same sweep.",
)
@click.option(
    "--first-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Their first seed."
)
@click.option(
    "--task-inference",
    type=click.Choice(TASK_INFERENCE),
    multiple=True,
    show_default="all three",
    help="Only this kind; may be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    show_default="1; with --slurm all",
    help="Runs side by side.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    show_default=f"cores it may use / jobs; with --slurm {SLURM_THREADS}",
    help="CPU threads of each run. On CPU, the same number gives the same numbers.",
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    show_default=Config().runtime.device,
    help="Where to compute; on cuda, all jobs share the GPU.",
)
@click.option(
    "--out",
    type=UserPath(),
    show_default="sweeps/FAMILY-PRESET",
    help="Where everything is written. A sweep that is there is gone on with.",
)
@config_option
@click.option(
    "--updates", type=int, show_default="the preset's", help="Updates after pre-training, of every run."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Any setting of `metaslac settings` for every run; may be repeated, the last one wins.",
)
@track_option
@click.option(
    "--episodes",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Episodes in each trial of the evaluation.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Trials on each task in the evaluation.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    show_default="off",
    help="Replace evaluations of other episodes, trials or checkpoints that are there.",
)
@click.option("--quiet", is_flag=True, show_default="off", help="No progress on the screen.")
@slurm_options
def sweep(
    family: str | None,
    preset: str,
    seeds: int,
    first_seed: int,
    task_inference: tuple[str, ...],
    jobs: int | None,
    threads: int | None,
    device: str | None,
    out: Path | None,
    config: Path | None,
    updates: int | None,
    assignments: tuple[str, ...],
    track: str | None,
    episodes: int,
    trials: int,
    overwrite: bool,
    quiet: bool,
    slurm: bool,
    detach: bool,
    more: tuple[str, ...],
    **asked: Any,
) -> int:
    """Train with the task inferred, given (oracle) and unknown (blind), several seeds each; evaluate, report.

    Each run is a `metaslac meta-train` in OUT/INFERENCE-sSEED and then a `metaslac evaluate`; what they print
    is in OUT/INFERENCE-sSEED.log. One `metaslac report` over all of them ends the sweep.

    The same command again does what is left to do. SIGTERM, SIGINT (Ctrl-C) and SIGHUP have every run write a
    checkpoint and exit with 75; a second one ends all at once. A run that fails does not stop the others.

    With --slurm each run is a job of Slurm's. SIGHUP, or the end of this command in any other way, leaves
    jobs alone; the same command finds them again.
    """
    refuse_ranks("metaslac sweep")
    refuse_decided(assignments)
    resources = asked_resources(slurm, detach, more, **asked)
    inferences = [name for name in TASK_INFERENCE if name in (task_inference or TASK_INFERENCE)]
    runs = len(inferences) * seeds
    jobs = min(jobs or (runs if resources else 1), runs)
    threads = threads or (SLURM_THREADS if resources else max(1, chosen_threads(0).number // jobs))
    if resources and device is None:
        device = "cuda" if resources.gpus else "cpu"
    flags = {"family": family, "device": device, "threads": threads, "updates": updates, "track": track}
    given = {name: str(value) for name, value in flags.items() if value is not None}
    changes = [f"{SETTINGS[name]}={value}" for name, value in given.items()]
    assignments = (*assignments_in(config, given), *assignments)
    numbers = range(first_seed, first_seed + seeds)
    configs = [
        resolve(preset, [*changes, f"train.seed={numbers[-1]}", f"task.inference={name}", *assignments])
        for name in inferences
    ]
    family, device = configs[0].family.name, configs[0].runtime.device
    plan = Sweep(
        out=out or Path("sweeps") / f"{file_name(family)}-{config.stem if config else preset}",
        configs=configs,
        seeds=numbers,
        train_options=[
            f"--preset={preset}",
            *(f"--{name}={value}" for name, value in given.items()),
            *(f"--set={assignment}" for assignment in assignments),
        ],
        trained_options=[f"--family={family}", f"--device={device}", f"--threads={threads}"],
        episodes=episodes,
        trials=trials,
        overwrite=overwrite,
    )
    workers = OnSlurm(plan.out, resources, jobs, threads, detach) if resources else Here(jobs, threads)
    plan = checked(plan, values_of(assignments).keys(), jobs, resources)
    return work(plan, workers, quiet)


def assignments_in(file: Path | None, flags: Collection[str]) -> list[str]:
    """The settings in a file, but for those that a sweep or one of these flags decides."""
    decided = {*DECIDED, *(SETTINGS[name] for name in flags)}
    values = settings_in(file) if file else {}
    return assignments_of({name: value for name, value in values.items() if name not in decided})


def refuse_decided(assignments: Sequence[str]) -> None:
    """Raise MetaslacError for what differs between runs, or between children and a run alone."""
    for name in sorted(values_of(assignments)):
        if name in DECIDED:
            raise MetaslacError(f"--set {name}: {DECIDED[name]} for all runs of a sweep")


def checked(plan: Sweep, asked: Collection[str], jobs: int, resources: Resources | None = None) -> Sweep:
    """The plan, fitted to its family, once all that can be wrong was looked at; writes nothing.

    Runs on a cluster have its devices and memory, of which nothing is known here but what was asked for.
    """
    device = choose_device("cpu" if resources else plan.configs[0].runtime.device)
    draw_on(device)

    from metaslac.config.limits import check_family
    from metaslac.training.log.trackers.trackers import check_installed

    check_installed(trackers_in(plan.configs[0].runtime.track))

    options = plan.configs[0].family
    family = configured_family(options)
    fitted = [fit_to_tasks(config, len(family.train_tasks), asked) for config in plan.configs]
    plan = replace(plan, configs=[config for config, _ in fitted])
    for config in plan.configs:
        check_family(config, family)
    check_out(plan)
    left = sum(not is_trained(run) for run in plan.runs())
    if left:
        if resources:
            check_asked_memory(resources, plan.configs, family)
        elif device.type == "cpu":  # on CUDA each run sees what those before it have taken
            check_memory_of(min(jobs, left), plan.configs, family)
        try_out(family, options.name)
    if fitted[0][1]:
        click.echo(fitted[0][1])
    return plan


def work(plan: Sweep, workers: Workers, quiet: bool) -> int:
    """Do what is left to do; returns the exit code."""
    runs = plan.runs()
    work = [plan.job(run) for run in runs]
    readers = [Reader(run) for run in runs]
    with begun(plan, lambda text: tell(text, err=True)) as lock, stop_requested() as stop:
        if not quiet:
            tell(f"{counted(len(runs), 'run')} in {plan.out}; {workers.words}")
        view = View(readers, work, workers.limit, stop, quiet)
        workers.run(work, stop, [lock], view.show)
        view.close()
        tell(results(readers, work))
        for job in work:
            if job.state == FAILED:
                tell(f"metaslac: {job.name} failed, {job.fault}; see {job.log}", err=True)
        if words := workers.left():
            tell(words)
            return STOPPED_CODE if stop() else 0
        if stop() or any(job.state == STOPPED for job in work):
            done = sum(job.state == DONE for job in work)
            tell(f"stopped with {done} of {len(work)} runs done; the same command goes on")
            return STOPPED_CODE
        return write_report(plan, work, workers, stop, lock)


def write_report(plan: Sweep, work: Sequence[Job], workers: Workers, stop: Stop, lock: int) -> int:
    """The page about all that there is, and a word about what is not; returns the sweep's exit code."""
    missing = [job.name for job in work if job.state != DONE]
    if plan.evaluated():
        job = plan.report()
        if job.steps[0].due():
            tell(f"writing {plan.out / REPORT}")
        workers.run([job], stop, [lock])
        if words := workers.left():
            tell(words)
            return STOPPED_CODE
        if job.state == STOPPED:
            tell("stopped; the same command goes on")
            return STOPPED_CODE
        if job.state == FAILED:
            tell(f"metaslac: no report, {job.fault}; see {job.log}", err=True)
            return FAULT
        tell(f"report: {plan.out / REPORT}{' without ' if missing else ''}{', '.join(missing)}")
    if missing:
        tell(
            f"metaslac: {len(missing)} of {len(work)} runs failed; the same command tries them again",
            err=True,
        )
    return FAULT if missing else 0


def counted(number: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{number} {noun}{'s' * (number != 1)}"
