"""The trackers of a run: which there are, opened and gone on with, and left out once they fail.

What each of them does is in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from metaslac.config.runtime import TRACKERS, trackers_in
from metaslac.errors import MetaslacError
from metaslac.storage.files import write_atomically
from metaslac.training.log.trackers.tracker import About, Picture, Tracker, TrackerFault

PACKAGES = dict(zip(TRACKERS, ("tensorboardX", "wandb", "mlflow"), strict=True))
IDS = "trackers.json"  # in the run directory: tracker -> what it knows the run by

Warn = Callable[[str], None]


def check_installed(names: Iterable[str]) -> None:
    """Raise MetaslacError, in one line, for the first tracker whose package is not installed."""
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            raise MetaslacError(
                f"tracking with {name} needs a package that is not installed: pip install 'metaslac[{name}]'"
            )


class Trackers:
    """Tells all of them the same. One that fails is warned of once and told nothing more.

    Args:
        warn: is told.
        opened: name -> tracker.
    """

    def __init__(self, warn: Warn, opened: Mapping[str, Tracker] | None = None) -> None:
        self._warn = warn
        self._opened = dict(opened or {})

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._opened)

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        """As of Tracker."""
        self._each(lambda tracker: tracker.scalars(values, update))

    def picture(self, name: str, picture: Picture, update: int) -> None:
        """As of Tracker."""
        self._each(lambda tracker: tracker.picture(name, picture, update))

    def result(self, values: Mapping[str, float]) -> None:
        """As of Tracker."""
        self._each(lambda tracker: tracker.result(values))

    def close(self, finished: bool) -> None:
        """As of Tracker."""
        self._each(lambda tracker: tracker.close(finished))

    def _each(self, told: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._opened.items()):
            try:
                told(tracker)
            except TrackerFault as fault:
                del self._opened[name]
                self._warn(f"{_left_out(name, fault)}; the run goes on without")


def open_trackers(config_track: str, about: About, going_on: bool, warn: Warn) -> Trackers:
    """The trackers named in runtime.track, each on the run that it had before if there is one.

    Raises:
        MetaslacError: one cannot be opened, or the file of their ids is damaged or cannot be written. A run
            that is `going_on` is warned instead of a tracker, and goes on without it.
    """
    names = trackers_in(config_track)
    check_installed(names)
    if not names:
        return Trackers(warn)
    path = about.directory / IDS
    ids, opened = _read(path), {}
    for name in names:
        try:
            opened[name] = _open(name, about, ids.get(name, ""))
        except (TrackerFault, ImportError) as fault:  # the latter of a package that is damaged
            if not going_on:
                Trackers(warn, opened).close(finished=False)
                raise MetaslacError(_left_out(name, fault)) from None
            warn(f"{_left_out(name, fault)}; the run goes on without")
    _write(path, {**ids, **{name: tracker.id for name, tracker in opened.items() if tracker.id}})
    return Trackers(warn, opened)


def _open(name: str, about: About, begun: str) -> Tracker:
    if name == "wandb":
        from metaslac.training.log.trackers.of_wandb import WandB

        return WandB(about, begun)
    if name == "mlflow":
        from metaslac.training.log.trackers.of_mlflow import MLflow

        return MLflow(about, begun)
    from metaslac.training.log.trackers.of_tensorboard import TensorBoard

    return TensorBoard(about, begun)


def _left_out(name: str, fault: Exception) -> str:
    return f"cannot track with {name}: {fault}"


def _read(path: Path) -> dict[str, str]:
    try:
        ids = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MetaslacError(f"cannot read {path}: {error}; without it, trackers begin a new run") from None
    if not isinstance(ids, dict) or not all(isinstance(value, str) for value in ids.values()):
        raise MetaslacError(f"{path} has no ids of trackers; without it, they begin a new run")
    return ids


def _write(path: Path, ids: Mapping[str, str]) -> None:
    try:
        write_atomically(path, (json.dumps(ids, indent=2) + "\n").encode())
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None
