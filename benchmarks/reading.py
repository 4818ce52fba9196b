"""What it costs to learn from a data set and not from a replay: `python benchmarks/reading.py`.

The same learner draws from a replay in memory, from a data set whose pages the system has, and from one whose
pages it was asked to forget before each batch, so that they are read from the disk. They take turns. As in a
run, the system is asked for the pages of a batch while the update before it is made; that one is not timed.
"""

import argparse
import json
import mmap
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

from metaslac.launchers.api.process import keep_large_blocks

keep_large_blocks()  # as the command does, before the first large tensor

import numpy as np
import torch

from benchmarks.learner import Ours
from benchmarks.work import Round
from metaslac.config.presets import resolve
from metaslac.launchers.api.data_sets import about_of
from metaslac.learning.batch import Batch
from metaslac.replay.data_set import RecordedTask, open_data_set
from metaslac.replay.data_writer import written_data_set
from metaslac.replay.experience import Episode
from metaslac.replay.recorded import RecordedExperience
from metaslac.storage.npy import mapping_of
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions

DEVICE = torch.device("cpu")


def recorded(ours: Ours, path: Path, megabytes: float) -> RecordedExperience:
    """A data set of about that many megabytes of random pictures, of each of the tasks that a batch has."""
    family, rng = ours.family, np.random.default_rng(0)
    about, n = about_of(family, ours.config.family.name, "train", 0, 0), family.episode_steps
    shape = (n + 1, *about.rows()["frames"][1])
    count = max(1, round(megabytes * 2**20 / ours.tasks / np.prod(shape)))
    with written_data_set(path, about) as writer:
        for task in family.train_tasks[: ours.tasks]:
            for _ in range(count):
                frames = rng.integers(0, 256, shape, dtype=np.uint8)
                actions = rng.uniform(-1, 1, (n, family.action_size)).astype(np.float32)
                rewards = rng.uniform(-1, 0, n).astype(np.float32)
                episode = Episode(frames, actions, rewards, rewards, False, False, n)
                writer.add(RecordedTask(task.index, tuple(map(float, task.params))), episode, "random")
    return RecordedExperience(open_data_set(path), DEVICE)


def timed_after(before: Callable[[], object], work: Callable[[], object], seconds: float) -> Round:
    """Do both again and again for about so many seconds; the time is that of the work alone."""
    count, wall, start = 0, 0.0, time.perf_counter()
    while not count or time.perf_counter() - start < seconds:
        before()
        since = time.perf_counter()
        work()
        wall += time.perf_counter() - since
        count += 1
    return {"count": count, "wall_seconds": wall}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="point_robot", help="whose quick_latent preset it is")
    parser.add_argument("--megabytes", type=float, default=1_000, help="of pictures in the data set")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ours = Ours(resolve("quick_latent", [f"family.name={options.family}"]), DEVICE)
    with tempfile.TemporaryDirectory() as folder:
        data = recorded(ours, Path(folder) / "data", options.megabytes)
        batches = ours.batches
        sources = {"replay": batches.replay, "data": data, "data, from the disk": data}
        pictures = os.open(data.data.path / "frames.npy", os.O_RDONLY)
        mapping = mapping_of(data.data.arrays["frames"])
        os.sync()  # what is not on the disk yet is not forgotten

        def remember() -> None:
            with (data.data.path / "frames.npy").open("rb") as file:
                while file.read(2**24):
                    pass

        def forget() -> None:
            kept = batches.sample()
            mapping.madvise(mmap.MADV_DONTNEED)  # nor what a process has mapped
            os.posix_fadvise(pictures, 0, 0, os.POSIX_FADV_DONTNEED)
            batches.ask_ahead()
            ours.learner.update(kept)

        def draw() -> Batch:
            batch = batches.sample()
            batches.ask_ahead()
            return batch

        rounds: dict[str, dict[str, list[Round]]] = {name: {"update": [], "batch": []} for name in sources}
        ours.warm_up()
        for number in range(options.rounds):
            for name in list(sources)[:: 1 if number % 2 == 0 else -1]:
                batches.replay = sources[name]
                for what, work in (("update", lambda: ours.learner.update(draw())), ("batch", draw)):
                    before = forget if name.endswith("disk") else lambda: None
                    if name == "data":
                        remember()  # what the rounds before have made the system forget
                        timed_after(before, draw, options.seconds / 10)
                    rounds[name][what].append(timed_after(before, work, options.seconds / 2))
        os.close(pictures)
    rates = {
        name: {what: [one["count"] / one["wall_seconds"] for one in found] for what, found in kinds.items()}
        for name, kinds in rounds.items()
    }
    for name, found in rates.items():
        share = statistics.median(u / b for u, b in zip(found["update"], found["batch"], strict=True))
        ratio = statistics.median(
            a / b for a, b in zip(found["update"], rates["replay"]["update"], strict=True)
        )
        print(
            f"{name}: {statistics.median(found['update']):.2f} updates/s, {ratio:.2f} times a replay's; "
            f"drawing a batch takes {100 * share:.1f} % of an update"
        )
    if options.json is not None:
        about = {"commit": source_commit(), "versions": library_versions(), "hardware": hardware(DEVICE)}
        values = {**about, "settings": {**vars(options), "json": str(options.json)}, "rounds": rounds}
        options.json.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
