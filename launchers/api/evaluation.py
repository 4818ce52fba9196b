"""Evaluation of a trained agent: trials on tasks that it was not and was trained on, kept in a file.

The statistics over them are in metaslac/evidence/; what is shown of them is the commands' business.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import family_option, tasks_of
from metaslac.launchers.api.given_context import GivenContext, check_context
from metaslac.launchers.api.trained import Trained, load_trained, play
from metaslac.launchers.outputs import check_writable, make_room
from metaslac.storage.files import user_path
from metaslac.storage.named import is_kept_by_others
from metaslac.training.log.columns import CALLED

if TYPE_CHECKING:
    from metaslac.envs import Task
    from metaslac.evidence.evaluation_file import Evaluation, Trials

CONTROLS = ("blind", "oracle")


class Evaluated(NamedTuple):
    """What came of a call of evaluate."""

    evaluation: Evaluation
    controls: Mapping[str, Evaluation]  # those that were given, by name
    path: Path  # of the file


def evaluate(
    checkpoint: str | Path,
    *,
    episodes: int = 3,
    trials: int = 5,
    seed: int = 0,
    split: str = "test",
    training_tasks: bool = True,
    blind: str | Path | None = None,
    oracle: str | Path | None = None,
    out: str | Path | None = None,
    family: str | None = None,
    device: str = "auto",
    threads: int = 0,
    redraw_every: int | None = None,
    mean_below: float | None = None,
    overwrite: bool = False,
    context: str | Path | None = None,
    context_episodes: int | None = None,
) -> Evaluated:
    """Evaluate adaptation on every task of a split of an agent's family; what `metaslac evaluate` does.

    Every return and belief is written to a file, with all that tells where it comes from.

    Args:
        checkpoint: a checkpoint directory, or a run directory for its last one; or an exported agent, by
            directory or name.
        episodes: in each trial.
        trials: independent ones on each task.
        seed: of the trials, which are others than those of `adapt` and of the training with that seed.
        split: "test" for the held-out tasks, to judge on; "validation" for those to choose settings on.
        training_tasks: whether to evaluate on the training tasks too, of a run on a data set those that are
            in it; the probe of beliefs needs it.
        blind, oracle: evaluated runs of the two controls, read and checked to be comparable.
        out: the file; None is evaluation.json of the run, evaluation-validation.json on validation tasks. Of
            a checkpoint or exported agent it is beside it; agents by name need one.
        family: only ever the checkpoint's own; needed where that is module:attribute, to allow the import.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; 0 takes as many as this process may use.
        redraw_every: decisions after which m is drawn anew from the belief, 0 once an episode; None is the
            checkpoint's `evaluation.redraw_every`.
        mean_below: likewise of `evaluation.mean_below`.
        context: a data set of the split's tasks, whose episodes the agent is given before a trial: it then
            explores nothing, and acts on what those tell from its first episode on. Training tasks are left
            out.
        context_episodes: of the task's, so many in each trial, from trial to trial the next ones; None is 1.
        overwrite: whether another evaluation that is in the file may be lost. The same one may be: of the
            same checkpoint and design, by the same version.

    Raises:
        MetaslacError or metaslac.envs.FamilyError: a checkpoint that is damaged or of another family, a
            split that the family does not have, a control that was evaluated differently (other tasks are
            that too), a file that cannot be written, or one that holds another evaluation.
    """
    from metaslac.evidence.evaluation_file import (
        Evaluation,
        check_nothing_is_lost,
        write_evaluation,
    )

    if split not in CALLED:
        raise MetaslacError(f"split must be one of {', '.join(CALLED)}, got {split!r}")
    check_context(context, context_episodes)
    checkpoint, given_context = user_path(checkpoint), context is not None
    path = _default_path(checkpoint, split, given_context) if out is None else user_path(out)
    given = {name: user_path(where) for name, where in zip(CONTROLS, (blind, oracle), strict=True) if where}
    if out is not None:
        check_writable(path)
    trained = load_trained(checkpoint, family, device, threads, redraw_every, mean_below)
    tasks = tasks_of(trained.family, split)
    shown = (
        None if context is None else GivenContext(user_path(context), context_episodes or 1, trained, split)
    )
    training_tasks = training_tasks and shown is None
    about = _about(trained, checkpoint, split, episodes, trials, seed, training_tasks, shown)
    controls = {name: _control(where, name, about, path) for name, where in given.items()}
    for name, control in controls.items():
        _check_comparable(about, tasks, f"--{name} {given[name]}", control)
    if not overwrite:
        check_nothing_is_lost(path, about, training_tasks)
    held_out = _play(trained, tasks, about, shown)
    training = _play(trained, trained.train_tasks, about, None) if training_tasks else None
    evaluation = Evaluation(about, held_out, training)
    make_room(path)
    write_evaluation(path, evaluation)
    return Evaluated(evaluation, controls, path)


def _default_path(checkpoint: Path, split: str, given: bool) -> Path:
    """Where the evaluation of a user's own goes. Raises MetaslacError where nothing can be written there."""
    from metaslac.evidence.evaluation_file import evaluation_path

    if is_kept_by_others(checkpoint):
        raise MetaslacError(
            f"--json FILE says where the evaluation of {checkpoint} goes: it has no place of its own"
        )
    path = evaluation_path(checkpoint, split, given)
    if path.parent.is_dir():  # of anything else, loading says what it is not
        try:
            check_writable(path)
        except MetaslacError as error:
            raise MetaslacError(f"{error}; --json FILE says where else") from None
    return path


def _about(
    trained: Trained,
    checkpoint: Path,
    split: str,
    episodes: int,
    trials: int,
    seed: int,
    training_tasks: bool,
    shown: GivenContext | None,
) -> dict[str, Any]:
    from metaslac.acting.adaptation import EVALUATION_STREAM
    from metaslac.config.text import to_dict
    from metaslac.storage.exported import trained_with
    from metaslac.storage.provenance import hardware, source_commit
    from metaslac.storage.version import library_versions

    config, manifest = trained.config, trained.manifest
    command = f"metaslac evaluate --checkpoint {shlex.quote(str(checkpoint))} --episodes {episodes} --trials "
    command += f"{trials} --seed {seed}" + " --no-training-tasks" * (not training_tasks)
    command += " --split validation" * (split == "validation")
    drawing = trained.drawing
    command += f" --redraw-every {drawing.every}" * (drawing.every > 0)
    command += f" --mean-below {drawing.mean_below:g}" * (drawing.mean_below > 0)
    if shown is not None:
        command += f" --context {shlex.quote(str(shown.path))} --context-episodes {shown.episodes}"
    command += family_option(trained.family.name)
    return {
        "family": trained.family.name,
        "task_hash": trained.family.task_hash,
        "param_names": list(trained.family.param_names),
        "inference": config.task.inference,
        "train_seed": config.train.seed,
        "update": manifest["update"],
        "env_steps": manifest["env_steps"],
        "split": split,
        "episodes": episodes,
        "trials": trials,
        "seed": seed,
        "stream": EVALUATION_STREAM,
        "exploration_episodes": 0 if shown else config.evaluation.exploration_episodes,
        "context": shown.words if shown else "",
        "redraw_every": trained.drawing.every,
        "mean_below": trained.drawing.mean_below,
        "sample_actions": config.evaluation.sample_actions,
        "observation": config.family.observation,
        "privileged": config.privileged,
        "decisions": trained.family.episode_steps,
        "settings": to_dict(config),
        "command": command,
        "commit": source_commit(),
        "versions": library_versions(),
        "trained_with": trained_with(manifest),
        "hardware": hardware(trained.agent.device),
    }


def _play(
    trained: Trained, tasks: Sequence[Task], about: dict[str, Any], shown: GivenContext | None
) -> Trials:
    from metaslac.evidence.evaluation_file import trials_of

    played = play(
        trained,
        tasks,
        episodes=about["episodes"],
        trials=about["trials"],
        seed=about["seed"],
        stream=about["stream"],
        keep_beliefs=True,
        given=shown,
    )
    return trials_of(played, about["decisions"])


def _control(path: Path, name: str, about: dict[str, Any], out: Path) -> Evaluation:
    from metaslac.evidence.evaluation_file import evaluation_at, read_evaluation

    split, given = about["split"], about["context"] != ""
    evaluation = read_evaluation(path, split, given)
    if out.exists() and out.samefile(evaluation_at(path, split, given)):
        raise MetaslacError(f"--{name} {path}: the evaluation would be written over it")
    if evaluation.about["inference"] != name:
        raise MetaslacError(f"--{name} {path}: its task.inference is {evaluation.about['inference']}")
    return evaluation


def _check_comparable(about: dict[str, Any], tasks: Sequence[Task], named: str, other: Evaluation) -> None:
    from metaslac.evidence.evaluation_file import DESIGN

    for entry in DESIGN:
        if other.about[entry] != about[entry]:
            raise MetaslacError(
                f"{named} was evaluated with another {entry}: {other.about[entry]}, not {about[entry]}"
            )
    played = zip(other.held_out.tasks, other.held_out.params.tolist(), strict=True)
    if list(played) != [(task.index, list(task.params)) for task in tasks]:
        raise MetaslacError(f"{named} was evaluated on other tasks")
