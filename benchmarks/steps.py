"""Critic and actor steps per CPU second, on kept features, latents and states: `python benchmarks/steps.py`.

Of the quick presets of a family, `quick`, `quick_latent` and `pearl-quick`, and of the second with as many
decisions in a step as the first has. They take turns, so that a busy machine slows them alike.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import torch

from benchmarks.learner import Ours
from benchmarks.work import timed
from metaslac.config.presets import resolve
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="cheetah_vel")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, named = torch.device("cpu"), f"family.name={options.family}"
    configs = {
        "quick": resolve("quick", [named]),
        "quick_latent": resolve("quick_latent", [named]),
        "quick_latent, as large steps": resolve(
            "quick_latent", [named, "train.windows=64", "actor_critic.hidden_size=256"]
        ),
        "pearl-quick": resolve("pearl-quick", [named]),
    }
    learners = {name: Ours(config, device) for name, config in configs.items()}
    steps = {
        name: config.train.steps_per_batch + config.train.extra_steps for name, config in configs.items()
    }
    decisions = {
        name: config.train.tasks_per_update * config.train.windows // config.train.steps_per_batch
        for name, config in configs.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in configs}
    for ours in learners.values():
        ours.warm_up()
    for number in range(options.rounds):
        for name, ours in list(learners.items())[:: 1 if number % 2 == 0 else -1]:
            one = timed(ours.update, options.seconds, device)
            rates[name].append(steps[name] * one["count"] / one["cpu_seconds"])
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["quick"], found, strict=True))
        print(
            f"{name}: {statistics.median(found):.0f} steps of {decisions[name]} decisions a CPU second; "
            f"quick makes {ratio:.2f} times as many"
        )
    if options.json is not None:
        about = {"commit": source_commit(), "versions": library_versions(), "hardware": hardware(device)}
        values = {**about, "family": options.family, "decisions": decisions, "steps_per_cpu_second": rates}
        options.json.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
