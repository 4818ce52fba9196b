"""Cost against work, as a picture: `python benchmarks/cost.py --out FILE.png`; needs matplotlib.

Milliseconds of an update over batch and model size, and memory of the replay over tasks and episodes. With
`--redraw FILE.json` nothing is measured again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import chosen_threads, keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import matplotlib
import torch

from benchmarks.learner import Ours, milliseconds
from benchmarks.work import timed
from metaslac.config.presets import resolve
from metaslac.replay.task_replay import replay_bytes

matplotlib.use("agg")
from matplotlib import pyplot

DEPTHS = {
    8: (64, 64, 128),
    16: (128, 128, 256),
    32: (256, 256, 256),
}  # features, z2, hidden units
TASKS = (2, 4, 8, 16)  # in a meta-batch
ROUNDS = 3
REPLAY_TASKS = (25, 50, 100, 200)
REPLAY_EPISODES = (10, 20, 50, 100, 200)
EPISODE_STEPS = 50
IMAGE_SIZE = 64


def update_costs(device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Milliseconds of an update of the default preset, for each model size and meta-batch."""
    found = []
    for depth, (feature, z2, hidden) in DEPTHS.items():
        sizes = {"base_depth": depth, "feature_size": feature, "z2_size": z2, "hidden_size": hidden}
        for tasks in TASKS:
            settings = [f"model.{name}={value}" for name, value in sizes.items()]
            settings.append(f"train.tasks_per_update={tasks}")
            ours = Ours(resolve("default", settings), device)
            ours.warm_up()
            rounds = [timed(ours.update, seconds, device) for _ in range(ROUNDS)]
            found.append({"base_depth": depth, "tasks": tasks, "update_ms": milliseconds(rounds)})
            print(f"base depth {depth:2}, {tasks:2} tasks: {found[-1]['update_ms']:7.0f} ms", flush=True)
    return found


def replay_costs() -> list[dict[str, Any]]:
    """Bytes of the replay for tasks and episodes."""
    return [
        {
            "tasks": tasks,
            "episodes": episodes,
            "bytes": replay_bytes(tasks, episodes, EPISODE_STEPS, IMAGE_SIZE, action_size=6),
        }
        for tasks in REPLAY_TASKS
        for episodes in REPLAY_EPISODES
    ]


def draw(updates: list[dict[str, Any]], replays: list[dict[str, Any]], where: str, out: Path) -> None:
    """Both pictures side by side."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for depth in DEPTHS:
        rows = [row for row in updates if row["base_depth"] == depth]
        times = [row["update_ms"] for row in rows]
        left.plot([row["tasks"] for row in rows], times, marker="o", label=f"base depth {depth}")
    for tasks in REPLAY_TASKS:
        rows = [row for row in replays if row["tasks"] == tasks]
        sizes = [row["bytes"] / 2**30 for row in rows]
        right.plot([row["episodes"] for row in rows], sizes, marker="o", label=f"{tasks} tasks")
    left.set(xlabel="tasks in a meta-batch", ylabel="ms per update")
    left.set_title(f"update of the default preset ({where})")
    right.set(xlabel="episodes per task", ylabel="GiB")
    right.set_title(f"replay at {IMAGE_SIZE} x {IMAGE_SIZE}, {EPISODE_STEPS} decisions per episode")
    for axes, marks in ((left, TASKS), (right, REPLAY_EPISODES)):
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(marks, [str(mark) for mark in marks])
        low, high = axes.get_ylim()
        powers = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
        marks = [mark for mark in powers if low < mark < high]
        axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=chosen_threads(0).number, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="draw what was measured before")
    options = parser.parse_args()
    if options.redraw:
        report = json.loads(options.redraw.read_text())
    else:
        torch.set_num_threads(options.threads)
        report = {
            "where": "CUDA" if options.device == "cuda" else f"CPU, {options.threads} threads",
            "updates": update_costs(torch.device(options.device), options.seconds),
            "replays": replay_costs(),
        }
    draw(report["updates"], report["replays"], report["where"], options.out)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
