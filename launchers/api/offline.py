"""Training on a data set, from settings to a run directory: all that can be wrong is found before.

The loop is in metaslac/training/offline.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaslac.config.offline import RECORDED, check_recorded, resolve_offline
from metaslac.config.presets import fit_to_tasks
from metaslac.config.sections import Config
from metaslac.config.text import Changes, values_of, with_values
from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import configured_family
from metaslac.launchers.api.process import choose_device, draw_on, refuse_ranks
from metaslac.launchers.api.running import Outcome, Stop, Tell, Work, carry_out
from metaslac.launchers.api.training import changed, file_name
from metaslac.storage.files import user_path

if TYPE_CHECKING:
    from metaslac.envs.family import Family
    from metaslac.replay.data_set import DataSet


def offline_train(
    data_set: str | Path | None = None,
    algorithm: str | None = None,
    preset: str | None = None,
    run_dir: str | Path | None = None,
    *,
    resume: str | Path | None = None,
    family: str | None = None,
    settings: Changes = (),
    quiet: bool = False,
    stop: Stop | AbstractContextManager[Stop] = lambda: False,
    tell: Tell = print,
) -> Outcome:
    """Train an agent on a data set of training tasks; what `metaslac offline-train` does.

    Nothing is played but to evaluate on validation tasks now and then. All else is as of `meta_train`: the
    same files, the same ways to stop and to go on, and `adapt` and `evaluate` follow.

    Args:
        data_set: a directory that `metaslac dataset` made. None only where `resume` knows it.
        algorithm: "lompo", "no-penalty", "actor-critic", "model-free" or "cloning"; None is "lompo".
        preset: "quick", "default" or "lompo"; None is "quick".
        run_dir: None is runs/FAMILY-ALGORITHM-PRESET-INFERENCE-sSEED.
        resume: a run directory to go on with, with its settings, in place of algorithm, preset and run_dir.
        family: only ever the data set's own; needed where that is module:attribute, to allow the import.
        settings, quiet, stop, tell: as of `meta_train`.

    Raises:
        As `meta_train`; MetaslacError for a data set that is damaged or of another task list too.
    """
    refuse_ranks("metaslac offline-train")
    if resume is not None:
        if (algorithm, preset, run_dir) != (None, None, None):
            raise MetaslacError("resume goes with none of algorithm, preset and run_dir: the run has them")
        run_dir = user_path(resume)
        config = changed(run_dir, settings, family is not None)
        if not config.offline:
            raise MetaslacError(f"{run_dir} holds a run of {config.command}, which has no data set")
        if data_set is None and not Path(config.runtime.data_set).is_dir():
            raise MetaslacError(
                f"{config.runtime.data_set}, which {run_dir} learns from, is not there; if it was moved, say "
                "where to: --dataset DIR"
            )
        data = _opened(user_path(data_set or config.runtime.data_set), family)
        config = with_values(config, {"runtime.data_set": str(data.path.resolve())})
    else:
        if data_set is None:
            raise MetaslacError("a data set is needed; `metaslac dataset record` makes one")
        data = _opened(user_path(data_set), family)
        algorithm, preset = algorithm or "lompo", preset or "quick"
        recorded = {**recorded_with(data), "runtime.data_set": str(data.path.resolve())}
        config = resolve_offline(algorithm, preset, recorded, settings)
        run_dir = user_path(run_dir or _default_run_dir(config, algorithm, preset))
    _check_same(run_dir, data)
    return _train(config, data, run_dir, values_of(settings).keys(), quiet, stop, tell, resume is not None)


def _train(
    config: Config,
    data: DataSet,
    run_dir: Path,
    asked: Collection[str],
    quiet: bool,
    stop: Stop | AbstractContextManager[Stop],
    tell: Tell,
    resuming: bool,
) -> Outcome:
    device = choose_device(config.runtime.device)
    draw_on(device)

    from metaslac.config.limits import check_tasks
    from metaslac.learning.memory import memory_need
    from metaslac.replay.recorded import recorded_bytes
    from metaslac.training import offline

    family = configured_family(config.family)
    check_data(data, family, config)
    if config.privileged and not data.about.state_size:
        raise MetaslacError(
            f"actor_critic.critic_input=state needs states, and {data.path} has none: record it with --states"
        )
    config, note = fit_to_tasks(config, len(data.tasks), asked, str(data.path))
    check_tasks(config, len(data.tasks), str(data.path))
    features = config.model.feature_size if config.train.freeze_encoder else 0
    need = memory_need(config, family, device, recorded_bytes(data, device, features))
    work = Work(config, family, need, partial(offline.offline_train, config, family, data), note)
    return carry_out(work, run_dir, device, quiet, stop, tell, resuming, "")


def check_data(data: DataSet, family: Family, config: Config, split: str = "train") -> None:
    """Raise MetaslacError for a data set that is not of a split of the family as a run sees it."""
    about = data.about
    if about.task_hash != family.task_hash:
        raise MetaslacError(f"{data.path} was recorded on another task list of {family.name}")
    check_recorded(config, recorded_with(data), f"{data.path} is of others")
    if about.split != split:
        raise MetaslacError(f"{data.path} is of {about.split} tasks, not of {split} ones")
    tasks = {task.index: tuple(task.params) for task in family.tasks}
    if any(tasks.get(task.index) != task.params for task in data.tasks):
        raise MetaslacError(f"{data.path} has tasks that {family.name} has not")
    if (about.action_size, about.episode_steps) != (family.action_size, family.episode_steps):
        raise MetaslacError(f"{data.path} has other actions or episodes than {family.name}")


def _check_same(run_dir: Path, data: DataSet) -> None:
    """Raise MetaslacError for a run that has begun on another data set."""
    from metaslac.storage.last import last_in
    from metaslac.storage.manifest import read_manifest
    from metaslac.training.run_directory import CHECKPOINTS

    last = last_in(run_dir / CHECKPOINTS)
    if last is not None and read_manifest(last).get("data_set") not in (None, data.checksum):
        raise MetaslacError(f"{run_dir} was trained on another data set than {data.path}")


def _opened(path: Path, family: str | None) -> DataSet:
    from metaslac.envs.registry import names_a_module
    from metaslac.replay.data_set import open_data_set

    data = open_data_set(path)
    name = data.about.family
    if family not in (None, name):
        raise MetaslacError(f"--family {family}: {path} was recorded on {name}")
    if family is None and names_a_module(name):
        raise MetaslacError(
            f"{path} was recorded on {name}, which is code to import and not part of metaslac: if you trust "
            f"it, add --family {shlex.quote(name)}"
        )
    return data


def recorded_with(data: DataSet) -> Mapping[str, Any]:
    """The settings that a data set decides."""
    return {name: getattr(data.about, entry) for name, entry in RECORDED.items()}


def _default_run_dir(config: Config, algorithm: str, preset: str) -> Path:
    """runs/<family>-<algorithm>-<preset>-<inference>-s<seed>."""
    family = file_name(config.family.name)
    return Path("runs") / f"{family}-{algorithm}-{preset}-{config.task.inference}-s{config.train.seed}"
