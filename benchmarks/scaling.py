"""Updates per second of two ranks of torchrun beside those of one: `python benchmarks/scaling.py`.

Weak scaling: two ranks, a core each, have twice the tasks in an update and in a visit that one rank has on
one core. The same two processes hold all kinds of training, which take turns, a visit and its updates each:
one rank while the other sleeps, two runs of one rank each that have nothing to do with each other, and one of
two ranks. Of a machine that does other work, the second and the third compare, and CPU seconds do.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import torch

from metaslac.config.presets import resolve
from metaslac.envs import make_vector_env
from metaslac.launchers.api.family import configured_family
from metaslac.ranks.group import joined
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions
from metaslac.training.trainer import MetaTrainer

CPU = torch.device("cpu")


class Cycle:
    """A training of so many ranks: a visit, and the updates after it, again and again."""

    def __init__(self, family: str, preset: str, ranks: Ranks) -> None:
        one = resolve(preset, [f"family.name={family}", "train.initial_episodes=1"])
        twice = {
            name: getattr(one.train, name) * ranks.size for name in ("tasks_per_update", "tasks_per_visit")
        }
        settings = [f"train.{name}={number}" for name, number in twice.items()]
        config = resolve(preset, [f"family.name={family}", "train.initial_episodes=1", *settings])
        made = configured_family(config.family)
        self.updates, self.ranks = config.train.updates_per_visit, ranks
        self.trainer = MetaTrainer(config, made, CPU, ranks)
        worlds = self.trainer.shard.most_visited(config.train.tasks_per_visit)
        self.env = make_vector_env(made, worlds, 1, tolerant=True)
        self.trainer.collector.collect_random(self.env)
        self.trainer.kept.begin()

    def __call__(self) -> tuple[float, float]:
        """Seconds, and CPU seconds of this process, of one cycle."""
        began, used = time.perf_counter(), time.process_time()
        self.trainer.collector.visit(self.env, self.trainer.agent)
        for _ in range(self.updates):
            self.ranks.agree(False)  # to stop, as the loop asks
            self.trainer.learner.update(self.trainer.batches.sample())
        return time.perf_counter() - began, time.process_time() - used


def work(rank: int, port: int, options: argparse.Namespace) -> None:
    """What each of the two processes does."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="127.0.0.1")
    with joined() as ranks:
        both = Cycle(options.family, options.preset, ranks)
        one = Cycle(options.family, options.preset, ALONE)
        found = []
        for number in range(options.rounds + 1):  # the first is to warm up
            times = {
                "one": ranks.of_first(one() if ranks.first else None),
                "apart": mean(ranks.tell(one())),
                "two": mean(ranks.tell(both())),
            }
            if number:
                found.append(times)
        if ranks.first:
            report(found, both.updates, options)
        for cycle in (both, one):
            cycle.env.close()


def mean(told: list[list[float]]) -> list[float]:
    """Seconds and CPU seconds of all ranks."""
    return [statistics.mean(values) for values in zip(*told, strict=True)]


def report(found: list[dict[str, list[float]]], updates: int, options: argparse.Namespace) -> None:
    """Print rates and their ratio, and write what was measured."""
    for place, what in enumerate(("second", "CPU second of a rank")):
        rates = {name: [updates / times[name][place] for times in found] for name in found[0]}
        middle = {name: statistics.median(values) for name, values in rates.items()}
        print(
            f"updates a {what}: one rank {middle['one']:.2f}, two runs apart {middle['apart']:.2f}, "
            f"two ranks {middle['two']:.2f}"
        )
        for other in ("one", "apart"):
            ratios = [two / one for one, two in zip(rates[other], rates["two"], strict=True)]
            least, most = min(ratios), max(ratios)
            print(f"  two ranks over {other}: {statistics.median(ratios):.3f} ({least:.3f} to {most:.3f})")
    if options.json is not None:
        about = {"commit": source_commit(), "versions": library_versions(), "hardware": hardware(CPU)}
        values = {**about, "family": options.family, "preset": options.preset, "updates": updates}
        options.json.write_text(json.dumps({**values, "rounds": found}, indent=1) + "\n")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="point_robot")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two cores are needed")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=work, args=(rank, port, options)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))


if __name__ == "__main__":
    main()
