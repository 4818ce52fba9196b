"""Meta-training from settings to a run directory: all that can be wrong is found before anything is written.

The loop is in metaslac/training/online.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from metaslac.config.presets import fit_to_tasks, resolve
from metaslac.config.sections import Config
from metaslac.config.text import Changes, apply_settings, settings_in, values_of
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import configured_family
from metaslac.launchers.api.process import choose_device, draw_on, ranks_of_torchrun
from metaslac.launchers.api.running import Outcome, Stop, Tell, Work, carry_out
from metaslac.ranks.ranks import ALONE, Ranks
from metaslac.storage.files import user_path

QUICK_HINT = "; on a CPU --preset quick is there for a first try"


def meta_train(
    family: str | None = None,
    preset: str | None = None,
    run_dir: str | Path | None = None,
    *,
    resume: str | Path | None = None,
    config: str | Path | None = None,
    settings: Changes = (),
    quiet: bool = False,
    stop: Stop | AbstractContextManager[Stop] = lambda: False,
    tell: Tell = print,
) -> Outcome:
    """Meta-train an agent on the training tasks of a family, from pixels; what `metaslac meta-train` does.

    Writes progress.csv, TensorBoard events, config.yaml, variant.json and checkpoints to the run directory.
    Now and then it adapts to the family's validation tasks; held-out ones are left to `metaslac evaluate`.
    The same call again goes on from the last checkpoint.

    Args:
        family: as listed by `metaslac families`, dmc:<domain>-<task>, or module:attribute of your own.
        preset: "default", "quick" or "quick_latent"; "slac", "slac-quick", "sac-pixels" or "sac-state" for
            tasks that differ in nothing, such as those of dm_control's suite; "pearl" or "pearl-quick" on
            states. None is "default".
        run_dir: None is runs/FAMILY-PRESET-INFERENCE-sSEED.
        resume: a run directory to go on with, with its settings, in place of preset and run_dir.
        config: a YAML file with settings, some or all, such as the config.yaml of another run. The preset's
            are weaker; `family` and `settings` are stronger.
        settings: {"train.updates": 100} or ["train.updates=100"]; `metaslac settings` lists them.
        quiet: no progress on the screen.
        stop: asked between any two steps of the work; once it says yes, a checkpoint is written. Or a context
            manager that gives such a function; it is entered when all has been checked.
        tell: is given each line about the run.

    Raises:
        MetaslacError or metaslac.envs.FamilyError: bad input, before anything is written.
        metaslac.errors.TrainingFault: what keeps a training that had begun from going on.
    """
    with ranks_of_torchrun() as ranks:
        with ranks.together():
            changes = {**({"family.name": family} if family else {}), **values_of(settings)}
            resolved, where, hint = _resolved(family, preset, run_dir, resume, config, changes)
        return train(resolved, where, quiet, changes.keys(), stop, tell, resume is not None, hint, ranks)


def _resolved(
    family: str | None,
    preset: str | None,
    run_dir: str | Path | None,
    resume: str | Path | None,
    config: str | Path | None,
    changes: Changes,
) -> tuple[Config, Path, str]:
    """The configuration of a run, its directory, and the hint of `train`; arguments as of meta_train."""
    if resume is not None:
        if preset is not None or run_dir is not None:
            raise MetaslacError("resume goes with neither preset nor run_dir: the run has both")
        if config is not None:
            raise MetaslacError("resume does not go with config: the run has its settings")
        run_dir = user_path(resume)
        return changed(run_dir, changes, family is not None), run_dir, ""
    file = None if config is None else user_path(config)
    changes = {**(settings_in(file) if file else {}), **values_of(changes)}
    resolved = resolve(preset or "default", changes)
    called = preset or (file.stem if file else "default")
    run_dir = user_path(run_dir or default_run_dir(resolved, called))
    return resolved, run_dir, QUICK_HINT if called == "default" else ""


def changed(run_dir: Path, changes: Changes, family_named: bool) -> Config:
    """The configuration of the run in a directory, with changes to it.

    A directory alone has no code imported: a family called module:attribute must be named by the user.
    """
    from metaslac.envs.registry import names_a_module
    from metaslac.training.run_directory import saved_config

    config = apply_settings(saved_config(run_dir), changes)
    validate(config)
    if names_a_module(config.family.name) and not family_named:
        raise MetaslacError(
            f"{run_dir} is a run on {config.family.name}, which is code to import and not part of metaslac: "
            f"if you trust it, add --family {shlex.quote(config.family.name)}"
        )
    return config


def train(
    config: Config,
    run_dir: Path,
    quiet: bool,
    asked: Collection[str] = (),
    stop: Stop | AbstractContextManager[Stop] = lambda: False,
    tell: Tell = print,
    resuming: bool = False,
    hint: str = "",
    ranks: Ranks = ALONE,
) -> Outcome:
    """Check device, family, run directory, memory and renderer in turn, then run; see meta_train.

    `asked` names the settings that are the user's own, and not to be lowered for a family of few tasks.
    `hint` is said where a run on a CPU will take hours. Of several ranks the first one tells.
    """
    if not ranks.first:  # what there is to tell is the same on all
        quiet, tell = True, _nothing
    with ranks.together():
        if config.offline:
            raise MetaslacError(
                f"{run_dir} is of metaslac offline-train, which goes on with "
                f"--resume {shlex.quote(str(run_dir))}"
                if resuming
                else "runtime.data_set is of metaslac offline-train, and nothing to be set"
            )
        device = choose_device(config.runtime.device)
        draw_on(device)

        from metaslac.config.limits import check_family, check_ranks
        from metaslac.learning.memory import memory_need
        from metaslac.training import online

        family = configured_family(config.family)
        config, note = fit_to_tasks(config, len(family.train_tasks), asked)
        check_family(config, family)
        check_ranks(config, len(family.train_tasks), ranks.size)
        need = memory_need(config, family, device, ranks=ranks)
    work = Work(config, family, need, partial(online.meta_train, config, family, ranks=ranks), note, ranks)
    return carry_out(work, run_dir, device, quiet, stop, tell, resuming, hint)


def _nothing(text: str) -> None:
    pass


def default_run_dir(config: Config, preset: str) -> Path:
    """runs/<family>-<preset>-<inference>-s<seed>; of a file of settings, its name is the preset's."""
    family = file_name(config.family.name)
    return Path("runs") / f"{family}-{preset}-{config.task.inference}-s{config.train.seed}"


def file_name(family: str) -> str:
    """A family's name as part of a directory's, with - for whatever is no word."""
    return re.sub(r"[^\w.]+", "-", family)
