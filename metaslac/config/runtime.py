"""Settings of where a run runs, how often it tells of itself and what is kept of it.

All others, which change what is learned, are in sections.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaslac.config.fields import count, setting
from metaslac.errors import MetaslacError, nearest

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32")
TRACKERS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how often. What is computed stays the same, up to rounding where device or worlds differ."""

    device: str = setting("auto", "auto, cpu or cuda", choices=DEVICES)
    precision: str = setting(
        "auto",
        "float32, or auto for bfloat16 convolutions where they are faster: all of them on CUDA, those "
        "without gradient on a CPU with instructions for it",
        choices=PRECISIONS,
    )
    cuda_graph: bool = setting(True, "on CUDA, make an update as one graph instead of kernel by kernel")
    threads: int = count(
        0, "CPU threads; 0 takes as many as affinity, CPU quota and OMP_NUM_THREADS allow", low=0
    )
    worlds: int = count(
        16, "most environments to evaluate in, side by side; to play in there is one a task of a visit"
    )
    log_every: int = count(50, "updates between rows of progress.csv")
    track: str = setting(
        "",
        f"where else the run is told of, one or several of {', '.join(TRACKERS)} with commas between",
        older="",
    )
    data_set: str = setting(
        "", "directory of the data set that `metaslac offline-train` learns from; empty plays", older=""
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept of a run, to adapt with and to go on from."""

    every: int = count(1_000, "updates between checkpoints, pre-training included; the last is always saved")
    keep: int = count(3, "newest checkpoints kept")
    grace_minutes: float = setting(
        30.0, "minutes that training goes on while no checkpoint can be written", low=0, high=1e6
    )


def trackers_in(track: str) -> list[str]:
    """The names in runtime.track, each once; raises MetaslacError for one that is no tracker's."""
    names = list(dict.fromkeys(name.strip() for name in track.split(","))) if track.strip() else []
    for name in names:
        if name not in TRACKERS:
            raise MetaslacError(
                f"runtime.track is of {', '.join(TRACKERS)}, not {name!r}{nearest(name, TRACKERS)}"
            )
    return names
