"""The file an evaluation leaves, evaluation.json: every return and belief, and how to make it again.

What is computed from them is in evaluation.py and probe.py; the trials themselves are adaptation.py's.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaslac.acting.adaptation import ADAPTATION_STREAM, TaskAdaptation
from metaslac.config.text import listed
from metaslac.errors import MetaslacError
from metaslac.storage.files import write_atomically
from metaslac.storage.last import followed
from metaslac.storage.manifest import read_manifest
from metaslac.storage.named import is_exported, located

NAME = "evaluation.json"
FORMAT = 1
BELIEF_DIGITS = 6  # significant ones; returns and parameters are whole
WIDTH_DIGITS = 3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """T trials of E episodes, of D decisions at most, on each of N tasks of P parameters.

    The belief's width is the mean over m's dimensions and over the trials that have seen so many transitions;
    not a number where none has.
    """

    tasks: Sequence[int]  # indices in the family
    params: Array  # (N, P)
    returns: Array  # (N, T, E); not a number where an episode diverged or was lost
    belief_mean: Array  # (N, T, E + 1, M), before the first episode and after each
    belief_width: Array  # (N, E D + 1), mean standard deviation of m after so many transitions


@dataclass(frozen=True)
class Evaluation:
    """Trials of one trained agent.

    `about` says which agent, how and where. Always there: family, task_hash, param_names, inference,
    train_seed, update, env_steps, split ("test" or "validation"), episodes, trials, seed, stream (which
    random numbers of that seed), exploration_episodes, redraw_every, mean_below (how m was drawn),
    sample_actions (whether actions were samples, or the policy's mean), context (which episodes of whose
    the agent was given before the first, "" for none),
    observation ("pixels" or "state", what the agent sees), privileged (whether the critic saw the
    simulator's state in training), decisions (of an episode),
    settings (the whole configuration), command, commit (None outside a repository), versions, hardware.
    """

    about: Mapping[str, Any]
    held_out: Trials  # on the tasks of the split
    training: Trials | None  # the same on the training tasks, if asked for


# What evaluations must have in common to be compared.
DESIGN = (
    *("family", "task_hash", "split", "episodes", "trials", "seed", "exploration_episodes", "decisions"),
    *("redraw_every", "mean_below", "sample_actions", "observation", "privileged", "stream", "context"),
)

INCIDENTAL = ("command", "hardware")  # to whether two evaluations are the same
MOST_SHOWN = 24  # characters of what differs

# What is filled in for evaluations that are older than an entry.
OLDER = {
    "split": "test",
    "redraw_every": 0,
    "mean_below": 0.0,
    "sample_actions": False,
    "observation": "pixels",
    "privileged": False,
    "stream": ADAPTATION_STREAM,
    "context": "",
}

# What `about` must say, and as what kind of value.
ABOUT: Mapping[str, type | tuple[type, ...]] = {
    "family": str,
    "task_hash": str,
    "param_names": list,
    "inference": str,
    "train_seed": int,
    "update": int,
    "env_steps": int,
    "split": str,
    "episodes": int,
    "trials": int,
    "seed": int,
    "stream": int,  # of generators
    "exploration_episodes": int,
    "redraw_every": int,
    "mean_below": float,
    "sample_actions": bool,
    "context": str,
    "observation": str,
    "privileged": bool,  # whether the critic saw the simulator's state in training
    "decisions": int,
    "settings": dict,
    "command": str,
    "commit": (str, type(None)),
    "versions": dict,
    "trained_with": dict,  # versions and commit of the training
    "hardware": dict,
}


def trials_of(adaptations: Sequence[TaskAdaptation], decisions: int) -> Trials:
    """Gather what `adapt` returned, with beliefs kept, of episodes of at most so many decisions."""
    trials = 1 + max(entry.trial for entry in adaptations)
    first = adaptations[::trials]
    widths = np.zeros((len(first), decisions * len(first[0].returns) + 1))
    counts = np.zeros_like(widths)
    for number, entry in enumerate(adaptations):
        seen = number // trials, slice(len(entry.step_width))
        widths[seen] += entry.step_width
        counts[seen] += 1

    def shaped(values: Any) -> Array:
        array = np.asarray(values, dtype=np.float64)
        return array.reshape(len(first), trials, *array.shape[1:])

    return Trials(
        [entry.task.index for entry in first],
        np.array([entry.task.params for entry in first], dtype=np.float64),
        shaped([entry.returns for entry in adaptations]),
        shaped([entry.belief_mean for entry in adaptations]),
        np.divide(widths, counts, out=np.full_like(widths, np.nan), where=counts > 0),
    )


def evaluation_path(path: Path, split: str = "test", given: bool = False) -> Path:
    """Where the evaluation of a run directory is kept: in it. That of a single checkpoint: beside it.

    `given` is whether the agent was given context.
    """
    name = evaluation_name(split, given)
    if (checkpoint := followed(path)) is not None:  # `last` and `.` have no name to add to
        return checkpoint.with_name(f"{checkpoint.name}.{name}")
    return path / name


def evaluation_at(path: Path, split: str = "test", given: bool = False) -> Path:
    """The file that a path given by a person means: it, or that of a run directory or checkpoint.

    An exported agent has one within, unless there is a later one beside it.
    """
    path = located(path)
    if not (path.is_dir() or followed(path)):
        return path
    file = evaluation_path(path, split, given)
    name = evaluation_name(split, given)
    within = is_exported(path) and name in read_manifest(path)["files"]
    return path / name if within and not file.exists() else file


def evaluation_name(split: str = "test", given: bool = False) -> str:
    """What it is called in its directory; choosing and judging have a file each, and so has each protocol."""
    more = "-validation" * (split == "validation") + "-given" * given
    return f"{NAME.removesuffix('.json')}{more}.json"


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write it as JSON, whole or not at all. Raises MetaslacError if the disk refuses."""
    try:
        write_atomically(path, to_bytes(evaluation))
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None


def to_bytes(evaluation: Evaluation) -> bytes:
    """It as it is written: JSON."""
    training = evaluation.training
    values = {
        "format": FORMAT,
        **evaluation.about,
        "held_out": _to_json(evaluation.held_out),
        "training": None if training is None else _to_json(training),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in values.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def check_nothing_is_lost(path: Path, about: Mapping[str, Any], training: bool) -> None:
    """Raise MetaslacError if there is an evaluation at `path` that a new one would not replace like for like.

    Args:
        path: of the file that the new one is for.
        about: what the new one will say, or a part of it; of its command and machine nothing is asked.
        training: whether the new one has training tasks.
    """
    if not path.exists():
        return
    try:
        found = read_evaluation(path)
    except MetaslacError as error:
        raise MetaslacError(f"{error}; --overwrite replaces it") from None
    different = [
        _difference(name, found.about[name], about[name])
        for name in ABOUT
        if name in about and name not in INCIDENTAL and found.about[name] != about[name]
    ]
    different += ["training tasks (played, not asked for)"] * (found.training is not None and not training)
    if different:
        shown = f"{listed(different)} (there, asked for)"
        raise MetaslacError(f"{path} holds another evaluation: {shown}; --overwrite replaces it")


def _difference(name: str, one: Any, other: Any) -> str:
    if isinstance(one, dict):
        return name
    return f"{name} ({str(one)[:MOST_SHOWN]}, {str(other)[:MOST_SHOWN]})"


def read_evaluation(path: Path, split: str = "test", given: bool = False) -> Evaluation:
    """The evaluation in a file, or that of a run directory on the tasks of a split, with context or without.

    Raises MetaslacError if it is not as written.
    """
    file = evaluation_at(path, split, given)
    try:
        values = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise MetaslacError(
            f"{path} has no {evaluation_path(path, split, given).name}: metaslac evaluate --checkpoint "
            f"{shlex.quote(str(path))}{' --split validation' * (split == 'validation')}"
            f"{' --context ...' * given} makes it"
        ) from None
    except OSError as error:
        raise MetaslacError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise MetaslacError(f"{file} is not the JSON of an evaluation") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise MetaslacError(f"{file} is not an evaluation of this version")
    values = {**OLDER, **values}
    for name, kind in ABOUT.items():
        if (
            name not in values
            or not isinstance(values[name], kind)
            or (isinstance(values[name], bool) and kind is not bool)
        ):
            raise MetaslacError(f"{file} is no evaluation of this version: its {name} is missing or wrong")
    about = {name: value for name, value in values.items() if name not in ("format", "held_out", "training")}
    try:
        held_out = _from_json(values["held_out"], about)
        training = None if values["training"] is None else _from_json(values["training"], about)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MetaslacError(
            f"{file} is not an evaluation of this version: {' '.join(str(error).split())}"
        ) from None
    return Evaluation(about, held_out, training)


def _to_json(trials: Trials) -> dict[str, Any]:
    return {
        "tasks": [int(task) for task in trials.tasks],
        "params": trials.params.tolist(),
        "returns": _plain(trials.returns),
        "belief_mean": _plain(trials.belief_mean, BELIEF_DIGITS),
        "belief_width": _plain(trials.belief_width, WIDTH_DIGITS),
    }


def _plain(values: Array, digits: int | None = None) -> Any:
    """Nested lists, of so many significant digits; null for what is not a number, which JSON cannot say."""
    if values.ndim:
        return [_plain(part, digits) for part in values]
    value = float(values)
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")


def _from_json(values: Mapping[str, Any], about: Mapping[str, Any]) -> Trials:
    """Raises KeyError, TypeError or ValueError for what has not the shapes that `about` says."""
    tasks, episodes = values["tasks"], about["episodes"]
    if not all(type(task) is int for task in tasks):
        raise ValueError("its tasks are not whole numbers")
    if len(set(tasks)) != len(tasks) or not tasks or episodes < 1:
        raise ValueError("it has no tasks or no episodes, or a task twice")
    if not all(isinstance(name, str) for name in about["param_names"]):
        raise ValueError("its param_names are not words")
    each = (len(tasks), about["trials"])
    shapes = {
        "params": (len(tasks), len(about["param_names"])),
        "returns": (*each, episodes),
        "belief_mean": (*each, episodes + 1, about["settings"]["task"]["size"]),
        "belief_width": (len(tasks), episodes * about["decisions"] + 1),
    }
    arrays = {name: np.array(values[name], dtype=np.float64) for name in shapes}  # null is not a number
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"its {name} has shape {arrays[name].shape}, not {shape}")
    for name in ("params", "belief_mean"):
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"its {name} are not all numbers")
    return Trials(tasks, **arrays)
