"""Time to write a checkpoint, and another one after little has changed: `python benchmarks/checkpoint.py`.

A trainer of point_robot's quick preset with random episodes in its replay; everything is written, synced and
hashed as in a run. The two contenders take turns, from a folder without any checkpoint each time.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

import numpy as np
import torch

from metaslac import envs
from metaslac.config.presets import resolve
from metaslac.replay.experience import Episode
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.log.run_log import RunLog
from metaslac.training.trainer import MetaTrainer


def add(trainer: MetaTrainer, frames: int, rng: np.random.Generator) -> int:
    """Store random episodes until they have so many frames together, on as many tasks as can be."""
    steps, size = trainer.family.episode_steps, trainer.config.family.image_size
    count = -(-frames // (steps + 1))
    for number in range(count):
        zeros = np.zeros(steps, np.float32)
        episode = Episode(
            rng.integers(0, 256, (steps + 1, size, size, 3), dtype=np.uint8),
            np.zeros((steps, trainer.family.action_size), np.float32),
            zeros,
            zeros,
            terminated=False,
            diverged=False,
            control_steps=steps,
        )
        trainer.replay.add(number % len(trainer.family.train_tasks), episode, context=True)
    return count * (steps + 1)


def measure(folder: Path, frames: int, share: float, seed: int) -> dict[str, float]:
    """Seconds and bytes of a first checkpoint and of one after a share of the frames was added."""
    config = resolve("quick", ["family.name=point_robot", "runtime.device=cpu"])
    family = envs.make_family("point_robot", image_size=config.family.image_size)
    trainer, rng = MetaTrainer(config, family, torch.device("cpu")), np.random.default_rng(seed)
    told: dict[str, float] = {"frames": add(trainer, frames, rng)}
    with RunLog(folder, total_updates=2, quiet=True) as log:
        for kind in ("full", "changed"):
            if kind == "changed":
                told["changed_frames"] = add(trainer, int(share * frames), rng)
                trainer.progress.updates += 1
            os.sync()  # or this one would wait for what others have written
            start = time.perf_counter()
            trainer.save(folder, log)
            told[f"{kind}_seconds"] = time.perf_counter() - start
            checkpoint = load_checkpoint(folder)
            sizes = {
                (checkpoint.path / name).stat().st_ino: entry["size"]
                for name, entry in checkpoint.manifest["files"].items()
                if (checkpoint.path / name).stat().st_nlink == 1
            }
            told[f"{kind}_bytes"] = sum(sizes.values())
    return told


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--share", type=float, default=0.02, help="of the frames that is new")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rounds.append(measure(Path(folder), options.frames, options.share, number))
        one = rounds[-1]
        print(
            f"{one['frames']:.0f} frames: {one['full_seconds']:.2f} s, {one['full_bytes'] / 1e6:.0f} MB; "
            f"{one['changed_frames']:.0f} more: {one['changed_seconds']:.3f} s, "
            f"{one['changed_bytes'] / 1e6:.1f} MB; {one['changed_seconds'] / one['full_seconds']:.1%}",
            flush=True,
        )
    ratio = statistics.median(one["changed_seconds"] / one["full_seconds"] for one in rounds)
    print(f"median of the ratios: {ratio:.1%}")
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
