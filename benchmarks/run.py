"""Where the wall time of a whole run goes: `python benchmarks/run.py --family cheetah_vel`.

The run is the command's own, in the quick preset; `--share 0.1` makes a tenth of its updates (but all of its
random episodes). How much of an update is spent in torch's operators is measured afterwards, by its profiler.

`python benchmarks/run.py --beside 2 --share 0.02` is about updates/s beside so many busy processes instead,
of the command as it is and with one thread, in turns; `--beside 0` of threads that spin for longer, and of
threads that sleep at once, too.
"""

import argparse
import csv
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import chosen_threads, keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.stopwatch import Stopwatch
from metaslac.acting.agent import Agent
from metaslac.config.presets import resolve
from metaslac.config.sections import Config
from metaslac.envs.pixels.rendering import RenderPool
from metaslac.envs.simulation import Simulation
from metaslac.launchers.api.training import train
from metaslac.learning.learner import Batch, Learner
from metaslac.openmp import WAITING
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.provenance import machine
from metaslac.training.log.run_log import RunLog
from metaslac.training.trainer import MetaTrainer

PARTS = {
    "updates": [(Learner, "update"), (Learner, "pretrain")],
    "sampling": [(TaskReplay, "sample_windows"), (TaskReplay, "sample_context")],
    "acting networks": [(Agent, "begin_episode"), (Agent, "act"), (Agent, "observe")],
    "physics": [(Simulation, "reset"), (Simulation, "step")],
    "rendering": [(RenderPool, "draw"), (RenderPool, "start"), (RenderPool, "finish")],
    "storing episodes": [(TaskReplay, "add")],
    "checkpoints": [(MetaTrainer, "save")],
    "logging": [(RunLog, "row"), (RunLog, "progress"), (RunLog, "pretraining"), (RunLog, "message")],
}
ARITHMETIC = ("updates", "sampling", "acting networks", "physics", "rendering")
PROFILED_UPDATES = 5

# Beside others: options of the command, and what is set in its environment.
CONTENDERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "default": ([], {}),
    "one thread": (["--threads", "1"], {}),
    "spinning": ([], {"GOMP_SPINCOUNT": "300000"}),  # GNU's own default, which takes minutes beside others
    "sleeping": ([], {"OMP_WAIT_POLICY": "passive"}),
}


class Sample:
    """Keeps a learner and a batch of the run, to look into an update afterwards."""

    learner: Learner
    batch: Batch

    def __init__(self) -> None:
        update = Learner.update

        def kept(learner: Learner, batch: Batch) -> Any:
            self.learner, self.batch = learner, batch
            return update(learner, batch)

        patch.object(Learner, "update", kept).start()

    def operators(self) -> float:
        """The share of an update's time that is spent within torch's operators and autograd."""
        update = self.learner.update
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            start = time.perf_counter()
            for _ in range(PROFILED_UPDATES):
                update(self.batch)
            wall = time.perf_counter() - start
        inside = sum(
            event.self_cpu_time_total
            for event in profiled.key_averages()
            if event.key.startswith(("aten::", "autograd::")) or event.key.endswith("Backward0")
        )
        return inside / 1e6 / wall


def shortened(config: Config, share: float) -> list[str]:
    """Settings that make a run a share of what it is."""
    values = {
        "train.updates": config.train.updates,
        "train.pretrain_updates": config.train.pretrain_updates,
        "evaluation.every": config.evaluation.every,
        "checkpoint.every": config.checkpoint.every,
    }
    return [f"{name}={max(1, round(value * share))}" for name, value in values.items()]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Within, so many processes do nothing but compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def updates_per_second(name: str, words: list[str]) -> float:
    """Of a run of the command with these words, visits included, from its first update to its last."""
    options, variables = CONTENDERS[name]
    kept = {key: value for key, value in os.environ.items() if key not in (*WAITING, "OMP_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "metaslac", "meta-train", *words, *options]
        command += [f"--run-dir={folder}/run", "--quiet", "--set=runtime.log_every=1"]
        environment = {**kept, **variables, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        with open(f"{folder}/run/progress.csv", newline="") as file:
            seconds = [float(row["time/seconds"]) for row in csv.DictReader(file)]
    return (len(seconds) - 2) / (seconds[-2] - seconds[0])  # the last row has the evaluation


def measure_beside(options: argparse.Namespace, settings: list[str]) -> None:
    """Let the contenders take turns beside busy processes; print updates/s and the ratios of each turn."""
    words = [f"--family={options.family}", f"--preset={options.preset}", "--device=cpu"]
    words += [f"--set={setting}" for setting in settings]
    contenders = list(CONTENDERS)[: 2 if options.beside else None]
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with busy(options.beside):
        for number in range(options.rounds):
            for name in contenders[:: 1 if number % 2 == 0 else -1]:
                rates[name].append(updates_per_second(name, words))
                print(f"{number} {name:12}{rates[name][-1]:8.2f} updates/s", flush=True)
    for other in contenders[1:]:
        ratios = [ours / its for ours, its in zip(rates["default"], rates[other], strict=True)]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"default over {other}: {statistics.median(ratios):.2f} ({shown})")
    if options.json:
        about = {"beside": options.beside, "machine": machine(), "load_average": os.getloadavg()}
        options.json.write_text(json.dumps({**about, "updates_per_second": rates}, indent=1) + "\n")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="cheetah_vel")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--share", type=float, default=1.0, help="of the preset's updates")
    parser.add_argument("--threads", type=int, default=chosen_threads(0).number)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--beside", type=int, metavar="N", help="measure beside N busy processes")
    parser.add_argument("--rounds", type=int, default=3, help="of turns beside them")
    options = parser.parse_args()
    settings = [f"family.name={options.family}", f"runtime.threads={options.threads}", *options.set]
    config = resolve(options.preset, settings)
    if options.beside is not None:
        updates = max(3, round(config.train.updates * options.share))
        few = [f"{name}={updates}" for name in ("train.updates", "evaluation.every", "checkpoint.every")]
        measure_beside(options, ["train.pretrain_updates=5", *few, *options.set])
        return
    config = resolve(options.preset, [*settings, *shortened(config, options.share)])

    sample, watch = Sample(), Stopwatch(torch.device("cpu"))
    for name, methods in PARTS.items():
        for owner, method in methods:
            watch.wrap(owner, method, name)
    with tempfile.TemporaryDirectory() as folder, watch.part("the rest: Python, copies, start"):
        cpu, start = time.process_time(), time.perf_counter()
        train(config, Path(folder) / "run", quiet=True, asked=set())
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    inside = sample.operators()

    run = f"{options.family}, {options.preset} preset, {config.train.updates} updates"
    print(f"{run}: {wall:.0f} s, {cpu:.0f} CPU-s")
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"{name:32}{seconds:8.1f} s {seconds / wall:7.1%}")
    share = sum(watch.seconds.get(name, 0.0) for name in ARITHMETIC) / wall
    strict = share - (1 - inside) * watch.seconds["updates"] / wall
    print(f"{inside:.0%} of an update is spent within torch's operators and autograd, under the profiler")
    print(
        f"learning, acting, physics and rendering: {share:.1%}; of updates the operators alone: {strict:.1%}"
    )
    if options.json:
        report = {
            "settings": {key: value for key, value in vars(options).items() if key != "json"},
            "versions": {name: importlib.metadata.version(name) for name in ("metaslac", "torch", "mujoco")},
            "cores": machine()["cores"],
            "load_average": os.getloadavg(),
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "seconds": watch.seconds,
            "operators_in_updates": inside,
            "arithmetic": share,
            "arithmetic_operators_only": strict,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
