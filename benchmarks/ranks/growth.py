"""What training on many ranks sends, and what a model says of its cost: `python benchmarks/ranks/growth.py`.

Gradients that an update takes are counted, step by step, in a learner of each size; the CPU time of an update
is measured. What a network makes of them is a model: a ring all-reduce after each step, with nothing else
done meanwhile. No network is measured here.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import chosen_threads, keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import torch
from torch import Tensor

from benchmarks.learner import Ours, milliseconds
from benchmarks.work import timed
from metaslac.config.presets import resolve
from metaslac.launchers.outputs import table
from metaslac.learning.optimizers import Descent
from metaslac.storage.provenance import machine, source_commit

FAMILY = "cheetah_vel"
PRESETS = "quick", "default"
PARTS = "model", "context", "critic", "actor"  # optimisers, but for the temperature's
ROUNDS = 3
BYTES = 4  # of a gradient, in float32
UPDATES_MS = 4.0, 20.0, 100.0  # updates of some device, alone


class Network(NamedTuple):
    """What is assumed of what joins ranks."""

    name: str
    ranks: int
    bytes_per_second: float  # that one rank sends, while it receives as many
    latency: float  # seconds, of one message to the next rank


ASSUMED = (
    Network("8 H200 of one machine, NVLink at 450 GB/s", 8, 450e9, 5e-6),
    Network("64 machines of one GPU, at 25 GB/s", 64, 25e9, 10e-6),
)


class Reduce(NamedTuple):
    """One all-reduce: whose loss it belongs to, and numbers in it."""

    whose: str
    numbers: int


def all_reduces(ours: Ours) -> list[Reduce]:
    """Those of an update, in order: one after each loss, of the gradients of all weights that it moves."""
    found: list[Reduce] = []
    step = Descent.step

    def counted(self: Descent, whose: str, loss: Tensor, *names: str) -> None:
        groups = [self._optimizers[name].param_groups[0]["params"] for name in names]
        found.append(Reduce(whose, sum(weights.numel() for group in groups for weights in group)))
        step(self, whose, loss, *names)

    with patch.object(Descent, "step", counted):
        ours.learner.update(ours.batches.sample())
    return found


def ring_seconds(sent: float, network: Network) -> float:
    """Of an all-reduce of so many bytes: each rank sends 2 (n - 1) / n of them, in 2 (n - 1) messages."""
    messages = 2 * (network.ranks - 1)
    return messages / network.ranks * sent / network.bytes_per_second + messages * network.latency


def update_seconds(reduces: Sequence[Reduce], network: Network) -> float:
    """Of all that an update waits for the network."""
    return math.fsum(ring_seconds(BYTES * one.numbers, network) for one in reduces)


def measure(preset: str, seconds: float, device: torch.device) -> dict[str, Any]:
    """All figures of a preset."""
    ours = Ours(resolve(preset, [f"family.name={FAMILY}"]), device)
    weights = {
        name: sum(p.numel() for p in optimizer.param_groups[0]["params"])
        for name, optimizer in ours.learner.optimizers.items()
    }
    reduces, train = all_reduces(ours), ours.config.train
    ours.warm_up()
    rounds = [timed(ours.update, seconds, device) for _ in range(ROUNDS)]
    return {
        "preset": preset,
        "tasks_per_update": train.tasks_per_update,
        "steps_per_batch": train.steps_per_batch,
        "extra_steps": train.extra_steps,
        "weights": weights,
        "all_reduces": [one._asdict() for one in reduces],
        "update_ms": milliseconds(rounds, "cpu_seconds"),
        "network_ms": {network.name: 1e3 * update_seconds(reduces, network) for network in ASSUMED},
        "rounds": rounds,
    }


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """What is sent, and below it what the model says of that."""
    counted = []
    for row in rows:
        weights = [f"{row['weights'].get(name, 0):,}" for name in PARTS]
        numbers = [one["numbers"] for one in row["all_reduces"]]
        sent = [f"{BYTES * count / 1e6:.2f}" for count in (sum(numbers), max(numbers))]
        counted.append([row["preset"], *weights, str(len(numbers)), *sent, f"{row['update_ms']:.0f}"])
    modelled = []
    for network in ASSUMED:
        for row in rows:
            ms = row["network_ms"][network.name]
            shares = [f"{100 * update / (update + ms):.0f}%" for update in UPDATES_MS]
            modelled.append([network.name, row["preset"], f"{ms:.2f}", *shares])
    header = ["weights of", *PARTS, "all-reduces", "MB/update", "largest MB", "CPU ms/update"]
    below = ["ranks", "preset", "network ms", *(f"of {update:.0f} ms" for update in UPDATES_MS)]
    return f"{table(header, counted)}\n\n{table(below, modelled)}"


def main() -> None:
    """Measure and print; write everything to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="each of three rounds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(chosen_threads(options.threads).number)
    rows = []
    for preset in options.presets:
        rows.append(measure(preset, options.seconds, torch.device(options.device)))
    print(tables(rows))
    if options.json:
        figures = {
            "commit": source_commit(),
            "hardware": machine(),
            "device": options.device,
            "threads": options.threads,
            "assumed": [network._asdict() for network in ASSUMED],
            "rows": rows,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
