"""Cost against work, as a picture: `python benchmarks/cost.py --out results/cost.png` (needs matplotlib).

Milliseconds of an update over batch and model size, and memory of the replay over tasks and episodes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # in place of this folder, whose envs.py would hide the package

from launchers.process import keep_large_blocks, usable_cores  # noqa: E402

keep_large_blocks()  # as the command does, before the first large tensor

import matplotlib  # noqa: E402
import torch  # noqa: E402

from benchmarks.learner import Ours, milliseconds  # noqa: E402
from benchmarks.work import timed  # noqa: E402
from launchers.presets import resolve  # noqa: E402
from metaslac.replay import replay_bytes  # noqa: E402

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

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


def update_costs(device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Milliseconds of an update of the default preset, for each model size and meta-batch."""
    found = []
    for depth, (feature, z2, hidden) in DEPTHS.items():
        sizes = {"base_depth": depth, "feature_size": feature, "z2_size": z2, "hidden_size": hidden}
        for tasks in TASKS:
            settings = [f"model.{name}={value}" for name, value in sizes.items()]
            settings.append(f"train.tasks_per_update={tasks}")
            ours = Ours(resolve("default", settings), device)
            ours.update()
            rounds = [timed(ours.update, seconds, device) for _ in range(ROUNDS)]
            found.append({"base_depth": depth, "tasks": tasks, "update_ms": milliseconds(rounds)})
            print(f"base depth {depth:2}, {tasks:2} tasks: {found[-1]['update_ms']:7.0f} ms", flush=True)
    return found


def replay_costs() -> list[dict[str, Any]]:
    """Bytes of the replay for tasks, episodes and the size of images."""
    return [
        {
            "image_size": size,
            "tasks": tasks,
            "episodes": episodes,
            "bytes": replay_bytes(tasks, episodes, EPISODE_STEPS, size, action_size=6),
        }
        for size in (32, 64)
        for tasks in REPLAY_TASKS
        for episodes in REPLAY_EPISODES
    ]


def draw(updates: list[dict[str, Any]], replays: list[dict[str, Any]], title: str, out: Path) -> None:
    """Both pictures side by side."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for depth in DEPTHS:
        rows = [row for row in updates if row["base_depth"] == depth]
        left.plot(
            [row["tasks"] for row in rows],
            [row["update_ms"] for row in rows],
            marker="o",
            label=f"base depth {depth}",
        )
    left.set(xscale="log", yscale="log", xlabel="tasks in a meta-batch", ylabel="ms per update")
    left.set_xticks(TASKS, [str(tasks) for tasks in TASKS])
    left.set_title(title)
    for size, style in ((32, "--"), (64, "-")):
        for tasks, colour in zip(REPLAY_TASKS, ("C0", "C1", "C2", "C3"), strict=True):
            rows = [row for row in replays if (row["image_size"], row["tasks"]) == (size, tasks)]
            right.plot(
                [row["episodes"] for row in rows],
                [row["bytes"] / 2**30 for row in rows],
                style,
                color=colour,
                label=f"{tasks} tasks, {size} x {size}",
            )
    right.set(xscale="log", yscale="log", xlabel="episodes per task", ylabel="GiB of replay")
    right.set_xticks(REPLAY_EPISODES, [str(episodes) for episodes in REPLAY_EPISODES])
    right.set_title(f"replay, {EPISODE_STEPS} decisions per episode")
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(out, dpi=120)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=usable_cores(), help="CPU threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    updates, replays = update_costs(torch.device(options.device), options.seconds), replay_costs()
    where = "CUDA" if options.device == "cuda" else f"CPU, {options.threads} threads"
    draw(updates, replays, f"update of the default preset ({where})", options.out)
    if options.json:
        options.json.write_text(json.dumps({"updates": updates, "replays": replays}, indent=1) + "\n")


if __name__ == "__main__":
    main()
