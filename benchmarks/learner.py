"""Cost of an update by part, beside a plain SLAC and the machine's limits: `python benchmarks/learner.py`.

`slac` is our learner without task inference, doing what slac_reference.py does, and `tiny` a small one of the
kind; `full` is the default preset, `quick-...` are presets. Contenders take turns, round by round, so that a
busy machine slows them alike.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import allow_tf32, chosen_threads, keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import numpy as np
import torch

from benchmarks.stopwatch import Stopwatch
from benchmarks.work import Round, Work, floor_seconds, limits, timed
from metaslac import envs
from metaslac.config.limits import state_size
from metaslac.config.presets import resolve
from metaslac.config.sections import Config
from metaslac.learning.batch import Batches
from metaslac.learning.cuda_graph import WARM_UP, GraphedStep
from metaslac.learning.learner import Learner
from metaslac.replay.experience import Episode
from metaslac.replay.task_replay import TaskReplay
from metaslac.storage.provenance import machine
from metaslac.training.kept_features import KeptFeatures

SLAC = ["task.inference=blind", "task.size=0", "train.steps_per_batch=1", "actor_critic.layer_norm=false"]
SIZES: dict[str, tuple[str, list[str]]] = {
    "slac": ("default", SLAC),
    "full": ("default", []),
    "tiny": ("quick_latent", [*SLAC, "model.base_depth=4", "train.windows=4"]),
    "quick-cheetah_vel": ("quick_latent", ["family.name=cheetah_vel"]),
    "quick-point_robot": ("quick_latent", ["family.name=point_robot"]),
}
EPISODES = 2  # of each task, in the replay that is drawn from


class Ours:
    """A learner of some size with a replay of random frames."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        allow_tf32(device, config.runtime.precision)  # as the command does
        self.family = envs.make_family(
            self.config.family.name,
            image_size=self.config.family.image_size,
            action_repeat=self.config.family.action_repeat,
            frames=self.config.family.frames,
            observation=self.config.family.observation,
        )
        self.tasks = self.config.train.tasks_per_update
        self.generator = torch.Generator(device).manual_seed(0)
        replay = filled_replay(self.config, self.family, self.tasks, device)
        params = torch.zeros(self.tasks, len(self.family.param_names), device=device)
        self.batches = Batches(config, replay, params, self.generator)
        self.learner = self.new_learner()
        KeptFeatures(self.learner, replay).begin()
        self._update: Callable[[], object] = lambda: self.learner.update(self.batches.sample())
        if device.type == "cuda":
            generators = self.generator, self.learner.chance.generator
            self._update = GraphedStep(lambda: self.learner.update(self.batches.sample()), generators, print)

    def new_learner(self) -> Learner:
        """A learner in its first state."""
        generator = torch.Generator(self.device).manual_seed(0)
        params, states = len(self.family.param_names), state_size(self.config, self.family)
        return Learner(self.config, self.family.action_size, params, self.device, generator, states)

    def update(self) -> None:
        """One update, sampling included; on CUDA as the graph that a run makes of it."""
        self._update()

    def warm_up(self) -> None:
        """Updates before any that is timed; on CUDA until there is a graph."""
        for _ in range(WARM_UP + 1 if self.device.type == "cuda" else 1):
            self.update()

    def encode(self) -> None:
        """Features and filtered latents of all windows, without gradient."""
        batch, learner = self.batches.sample(), self.learner
        m = torch.zeros(len(batch.params), learner.config.task.size, device=self.device)
        learner._see(learner.encode.fixed(batch.windows.frames), batch.windows, m)

    def work(self) -> Work:
        """What an update does, from the shapes of its operations."""
        batch, learner = self.batches.sample(), self.new_learner()
        with Work() as work:
            learner.update(batch)
        return work

    def parts(self, seconds: float) -> dict[str, float]:
        """Milliseconds of an update by part."""
        watch, learner = Stopwatch(self.device), self.new_learner()
        model, networks = learner.networks.latent_model, learner.networks
        watch.wrap(networks.encoder, "forward", "encode")
        watch.wrap(networks.context_encoder, "forward", "context encoder")
        watch.wrap(model, "infer", "filter")
        watch.wrap(model, "image_loss", "decode and image loss")
        watch.wrap(model, "prediction_loss", "prior and reward loss")
        watch.wrap(networks.actor, "forward", "actor and critics")
        for critic in (networks.critic, networks.target_critic):
            watch.wrap(critic, "forward", "actor and critics")
        for optimizer in learner.optimizers.values():
            watch.wrap(optimizer, "step", "optimisers")
        watch.wrap(learner, "_move_target", "targets")
        count = 0
        with patch.object(torch.Tensor, "backward", torch.Tensor.backward):  # put back at the end
            watch.wrap(torch.Tensor, "backward", "backward")
            start = time.perf_counter()
            while count < 2 or time.perf_counter() - start < seconds:
                if count == 1:
                    watch.seconds.clear()  # the first one warms up
                with watch.part("sampling"):
                    batch = self.batches.sample()
                with watch.part("other"):
                    learner.update(batch)
                count += 1
        return {name: 1e3 * value / (count - 1) for name, value in watch.seconds.items()}


class Reference:
    """slac_reference.py in its own process, with the allocator's default settings."""

    def __init__(self, config: Config, action_size: int, threads: int, device: str) -> None:
        sizes = reference_sizes(config, action_size)
        script = ROOT / "benchmarks" / "slac_reference.py"
        command = [sys.executable, str(script), json.dumps(sizes), str(threads), device]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, kind: str, seconds: float) -> Round:
        """A round of `update` or `encode`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(kind, seconds, file=self._process.stdin, flush=True)
        answer: Round = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def reference_sizes(config: Config, action_size: int) -> dict[str, int]:
    """What slac_reference.py has to know to do the same."""
    train, model = config.train, config.model
    return {
        "image": config.family.image_size,
        "base_depth": model.base_depth,
        "feature": model.feature_size,
        "z1": model.z1_size,
        "z2": model.z2_size,
        "hidden": model.hidden_size,
        "window": model.window,
        "action": action_size,
        "windows": train.tasks_per_update * train.windows,
        "model_windows": train.tasks_per_update * train.model_windows,
    }


def filled_replay(config: Config, family: Any, tasks: int, device: torch.device) -> TaskReplay:
    """A replay with a few random episodes of each task."""
    steps, size, actions = family.episode_steps, config.family.image_size, family.action_size
    stack, repeat, states = config.family.frames, config.family.action_repeat, state_size(config, family)
    replay = TaskReplay(
        *(tasks, EPISODES, EPISODES, steps, size, actions, device, stack, repeat, states, config.on_states)
    )
    shape = (steps + 1, *[stack] * (stack > 1), size, size, 3)
    rng = np.random.default_rng(0)
    for number in range(tasks * EPISODES):
        rewards = rng.uniform(-1, 0, steps).astype(np.float32)
        episode = Episode(
            rng.normal(size=(steps + 1, states))
            if config.on_states
            else rng.integers(0, 256, shape, dtype=np.uint8),
            rng.uniform(-1, 1, (steps, actions)).astype(np.float32),
            rewards,
            rewards,
            terminated=False,
            diverged=False,
            control_steps=steps,
        )
        replay.add(number % tasks, episode, context=True)
    return replay


def milliseconds(rounds: Sequence[Round], clock: str = "wall_seconds") -> float:
    """Median over rounds of the milliseconds that one took."""
    return statistics.median(1e3 * one[clock] / one["count"] for one in rounds)


def ratio(slow: Sequence[Round], fast: Sequence[Round], clock: str) -> float:
    """Median over rounds of how many times longer the slow one took in the same round."""
    return statistics.median(
        (one[clock] / one["count"]) / (other[clock] / other["count"])
        for one, other in zip(slow, fast, strict=True)
    )


def measure(name: str, options: argparse.Namespace, ceiling: dict[str, float]) -> dict[str, Any]:
    """All figures of one size. Peak memory is that of the process: a new one for each size."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    ours = Ours(resolve(*SIZES[name]), device)
    works: dict[str, Callable[[], None]] = {"update": ours.update, "encode": ours.encode}
    ours.warm_up()
    ours.encode()
    reference = None
    if ours.config.task.size == 0:
        reference = Reference(ours.config, ours.family.action_size, options.threads, options.device)
    rounds: dict[str, dict[str, list[Round]]] = {"ours": {}, "reference": {}}
    for number in range(options.rounds):
        for kind, work in list(works.items())[:: 1 if number % 2 == 0 else -1]:
            rounds["ours"].setdefault(kind, []).append(timed(work, options.seconds, device))
            if reference is not None:
                rounds["reference"].setdefault(kind, []).append(reference.measure(kind, options.seconds))
    if reference is not None:
        reference.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    counted, update = ours.work(), milliseconds(rounds["ours"]["update"])  # by another learner, after memory
    flop, seconds = sum(counted.flop.values()), update / 1e3
    row: dict[str, Any] = {
        "size": name,
        "update_ms": update,
        "encode_ms": milliseconds(rounds["ours"]["encode"]),
        "updates_per_second": 1e3 / update,
        "flop": flop,
        "flop_per_second": flop / seconds,
        "bytes": counted.bytes,
        "bytes_per_second": counted.bytes / seconds,
        "floor_ms": 1e3 * floor_seconds(counted, ceiling),
        "share_of_ceiling": floor_seconds(counted, ceiling) / seconds,
        "peak_memory_bytes": memory,
        "parts_ms": ours.parts(options.seconds * 2),
        "rounds": rounds,
    }
    if reference is not None:
        for kind in works:
            slow, fast = rounds["reference"][kind], rounds["ours"][kind]
            row[f"reference_{kind}_ms"] = milliseconds(slow)
            row[f"{kind}_ratio_wall"] = ratio(slow, fast, "wall_seconds")
            row[f"{kind}_ratio_cpu"] = ratio(slow, fast, "cpu_seconds")
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as text."""
    names = ("ms/update", "updates/s", "floor ms", "of it", "GFLOP/s", "GB/s", "peak GiB", "times plain")
    lines = [f"{'size':20}" + "".join(f"{name:>12}" for name in names)]
    for row in rows:
        cells = (
            f"{row['update_ms']:.0f}",
            f"{row['updates_per_second']:.2f}",
            f"{row['floor_ms']:.0f}",
            f"{row['share_of_ceiling']:.0%}",
            f"{row['flop_per_second'] / 1e9:.0f}",
            f"{row['bytes_per_second'] / 1e9:.1f}",
            f"{row['peak_memory_bytes'] / 2**30:.2f}",
            f"{row['update_ratio_wall']:.2f}" if "update_ratio_wall" in row else "-",
        )
        lines.append(f"{row['size']:20}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def parts_table(rows: Sequence[dict[str, Any]]) -> str:
    """Milliseconds by part, and their share of the update, a column for each size."""
    names = sorted({name for row in rows for name in row["parts_ms"]})
    lines = [f"{'part':24}" + "".join(f"{row['size']:>24}" for row in rows)]
    for name in names:
        cells = []
        for row in rows:
            value, whole = row["parts_ms"].get(name, 0.0), sum(row["parts_ms"].values())
            cells.append(f"{value:14.1f} ms {value / whole:6.1%}")
        lines.append(f"{name:24}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="slac,full,quick-cheetah_vel,quick-point_robot", help="by commas")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=chosen_threads(0).number, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    allow_tf32(device, "auto")
    ceiling = limits(device)
    jobs = [(name, options, ceiling) for name in options.sizes.split(",")]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = pool.starmap(measure, jobs, chunksize=1)
    print(table(rows))
    for row in rows:
        if "encode_ratio_wall" not in row:
            continue
        frames = f"{row['size']}, posterior encode without gradient"
        print(
            f"{frames}: {row['encode_ms']:.0f} ms, plain {row['reference_encode_ms']:.0f} ms, "
            f"{row['encode_ratio_wall']:.2f} times as fast; by CPU time {row['encode_ratio_cpu']:.2f}, "
            f"the update {row['update_ratio_cpu']:.2f}"
        )
    print(parts_table(rows))
    if options.json:
        report = {
            "settings": {key: value for key, value in vars(options).items() if key != "json"},
            "versions": {name: importlib.metadata.version(name) for name in ("metaslac", "torch", "numpy")},
            "ceiling": ceiling,
            "cores": machine()["cores"],
            "load_average": os.getloadavg(),
            "rows": rows,
        }
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
