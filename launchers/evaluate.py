"""`metaslac evaluate`: statistics of adaptation over all held-out tasks and several trials.

The statistics are in `metaslac/evaluation.py`; single trials to look at are `metaslac adapt`, several runs
together `metaslac report`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from launchers.family import family_option, same_family_option
from launchers.outputs import check_writable, table
from launchers.trained import Command, Trained, checkpoint_option, device_options, load_trained, play
from metaslac.errors import MetaslacError

if TYPE_CHECKING:
    from envs import Task
    from metaslac.evaluation_file import Evaluation, Trials

PARAMETERS_SHOWN = 4
TASKS_SHOWN = 40
CONTROLS = ("blind", "oracle")


def control_options(command: Command) -> Command:
    """--blind and --oracle: runs of the two controls to compare with."""
    for name in reversed(CONTROLS):
        option = click.option(
            f"--{name}",
            type=click.Path(path_type=Path),
            show_default="none",
            help=f"An evaluated run with task.inference={name}, to compare with.",
        )
        command = option(command)
    return command


@click.command(short_help="Statistics of adaptation over all held-out tasks.")
@checkpoint_option
@same_family_option
@click.option(
    "--episodes", type=click.IntRange(min=1), default=3, show_default=True, help="Episodes in each trial."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Independent trials on each task.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the trials.")
@click.option(
    "--training-tasks/--no-training-tasks",
    default=True,
    show_default=True,
    help="Whether to evaluate on the training tasks too; the probe of beliefs needs it.",
)
@control_options
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="evaluation.json of the run",
    help="Where to write every return and belief.",
)
@device_options
def evaluate(
    checkpoint: Path,
    family: str | None,
    episodes: int,
    trials: int,
    seed: int,
    training_tasks: bool,
    blind: Path | None,
    oracle: Path | None,
    json_path: Path | None,
    device: str,
    threads: int,
) -> None:
    """Evaluate adaptation on every held-out task of the agent's family, and on its training tasks.

    Shows mean, interquartile mean (IQM) and its 95 % bootstrap interval of the return of each episode, what a
    linear probe reads from the belief about the true parameters of held-out tasks (R^2; 1 is everything, 0
    nothing), and, beside the controls, how much of the gap between them is closed.

    Every return and belief is written to evaluation.json in the run directory; `metaslac report` makes a page
    of such files.
    """
    from metaslac.evaluation_file import Evaluation, evaluation_path, write_evaluation

    out = json_path or evaluation_path(checkpoint)
    controls = {name: path for name, path in zip(CONTROLS, (blind, oracle), strict=True) if path is not None}
    if json_path is not None or checkpoint.is_dir():  # of anything else, loading says what it is not
        check_writable(out)
    trained = load_trained(checkpoint, family, device, threads)
    others = {name: _control(path, name, out) for name, path in controls.items()}
    about = _about(trained, checkpoint, episodes, trials, seed, training_tasks)
    for name, other in others.items():
        _check_comparable(about, trained, f"--{name} {controls[name]}", other)
    held_out = _play(trained, trained.family.test_tasks, about)
    training = _play(trained, trained.family.train_tasks, about) if training_tasks else None
    evaluation = Evaluation(about, held_out, training)
    write_evaluation(out, evaluation)
    show(evaluation, others)
    click.echo(f"every return and belief: {out}")


def show(evaluation: Evaluation, controls: dict[str, Evaluation]) -> None:
    """Print the tables of an evaluation, beside those of controls."""
    about = evaluation.about
    click.echo(
        f"{about['family']}: {len(evaluation.held_out.tasks)} held-out tasks, {about['trials']} trials each"
    )
    click.echo(returns_table(evaluation.held_out, evaluation.training))
    if len(controls) == len(CONTROLS):
        click.echo("\n" + gap_table(evaluation, controls))
    elif "blind" in controls:
        click.echo("\n" + difference_table(evaluation, controls["blind"]))
    elif controls:
        click.echo("\nno gap closed: that needs --blind too")
    if evaluation.training is not None and about["inference"] == "infer" and about["param_names"]:
        click.echo("\n" + probe_table(evaluation))
    click.echo("\n" + tasks_table(about["param_names"], evaluation.held_out))


def returns_table(held_out: Trials, training: Trials | None) -> str:
    """Mean, IQM and interval of each episode, with the training tasks' mean beside them."""
    from metaslac.evaluation import summarise

    header = ["episode", "mean", "IQM", "95 % interval of the IQM"]
    rows = [
        [str(row.episode), f"{row.mean:.2f}", f"{row.iqm:.2f}", f"{row.low:.2f} to {row.high:.2f}"]
        for row in summarise(held_out.returns)
    ]
    if training is not None:
        header.append("mean on training tasks")
        means = training.returns.mean((0, 1))
        rows = [[*row, f"{mean:.2f}"] for row, mean in zip(rows, means, strict=True)]
    return table(header, rows)


def gap_table(evaluation: Evaluation, controls: dict[str, Evaluation]) -> str:
    """Gap closed of each episode, with the controls' means."""
    from metaslac.evaluation import gap_closed

    blind, oracle = (controls[name].held_out.returns for name in CONTROLS)
    rows = [
        (
            str(row.episode),
            f"{blind[..., row.episode - 1].mean():.2f}",
            f"{oracle[..., row.episode - 1].mean():.2f}",
            f"{row.value:.2f}",
            f"{row.low:.2f} to {row.high:.2f}",
        )
        for row in gap_closed(evaluation.held_out.returns, blind, oracle)
    ]
    return table(("episode", "blind", "oracle", "gap closed", "95 % interval"), rows)


def difference_table(evaluation: Evaluation, blind: Evaluation) -> str:
    """What each episode's mean is above a blind agent's."""
    from metaslac.evaluation import difference

    rows = [
        (str(row.episode), f"{row.value:+.2f}", f"{row.low:+.2f} to {row.high:+.2f}")
        for row in difference(evaluation.held_out.returns, blind.held_out.returns)
    ]
    return table(("episode", "above blind", "95 % interval"), rows)


def probe_table(evaluation: Evaluation) -> str:
    """R^2 of the linear probe, before any context and after each episode; of many parameters the best."""
    from metaslac.probe import best_read, probe_scores

    names = evaluation.about["param_names"]
    scores = probe_scores(evaluation)
    shown = best_read(scores, PARAMETERS_SHOWN)
    more = [f"mean R^2 of all {len(names)}"] * (len(names) > len(shown))
    header = ["belief after", *(f"R^2 {names[p]}" for p in shown), *more]
    rows = []
    for after, row in enumerate(scores):
        values = [*row[shown], *[np.nanmean(row)] * len(more)]
        rows.append([f"episode {after}" if after else "no context", *(f"{value:.3f}" for value in values)])
    return table(header, rows)


def tasks_table(names: Sequence[str], trials: Trials) -> str:
    """The mean return of every episode on each of the first tasks."""
    shown = names[:PARAMETERS_SHOWN]
    more = ["..."] * (len(names) > len(shown))
    header = ["task", *shown, *more, *(f"return {e + 1}" for e in range(trials.returns.shape[-1]))]
    rows = [
        [
            str(task),
            *(f"{value:.3f}" for value in params[: len(shown)]),
            *more,
            *(f"{value:.2f}" for value in returns.mean(0)),
        ]
        for task, params, returns in zip(trials.tasks, trials.params, trials.returns, strict=True)
    ]
    left = len(rows) - TASKS_SHOWN
    return table(header, rows[:TASKS_SHOWN]) + (f"\nand {left} more" if left > 0 else "")


def _about(
    trained: Trained, checkpoint: Path, episodes: int, trials: int, seed: int, training_tasks: bool
) -> dict[str, Any]:
    from metaslac.provenance import hardware, source_commit
    from metaslac.settings import to_dict
    from metaslac.version import library_versions

    config, manifest = trained.config, trained.manifest
    command = f"metaslac evaluate --checkpoint {shlex.quote(str(checkpoint))} --episodes {episodes} --trials "
    command += f"{trials} --seed {seed}" + " --no-training-tasks" * (not training_tasks)
    command += family_option(trained.family.name)
    return {
        "family": trained.family.name,
        "task_hash": trained.family.task_hash,
        "param_names": list(trained.family.param_names),
        "inference": config.task.inference,
        "train_seed": config.train.seed,
        "update": manifest["update"],
        "env_steps": manifest["env_steps"],
        "episodes": episodes,
        "trials": trials,
        "seed": seed,
        "exploration_episodes": config.evaluation.exploration_episodes,
        "decisions": trained.family.episode_steps,
        "settings": to_dict(config),
        "command": command,
        "commit": source_commit(),
        "versions": library_versions(),
        "trained_with": {**manifest["versions"], "commit": manifest.get("commit")},
        "hardware": hardware(trained.agent.device),
    }


def _play(trained: Trained, tasks: Sequence[Task], about: dict[str, Any]) -> Trials:
    from metaslac.evaluation_file import trials_of

    played = play(
        trained,
        tasks,
        episodes=about["episodes"],
        trials=about["trials"],
        seed=about["seed"],
        keep_beliefs=True,
    )
    return trials_of(played, about["decisions"])


def _control(path: Path, name: str, out: Path) -> Evaluation:
    from metaslac.evaluation_file import evaluation_path, read_evaluation

    evaluation = read_evaluation(path)
    if out.exists() and out.samefile(evaluation_path(path) if path.is_dir() else path):
        raise MetaslacError(f"--{name} {path}: the evaluation would be written over it")
    if evaluation.about["inference"] != name:
        raise MetaslacError(f"--{name} {path}: its task.inference is {evaluation.about['inference']}")
    return evaluation


def _check_comparable(about: dict[str, Any], trained: Trained, named: str, other: Evaluation) -> None:
    from metaslac.evaluation_file import DESIGN

    for entry in DESIGN:
        if other.about[entry] != about[entry]:
            raise MetaslacError(
                f"{named} was evaluated with another {entry}: {other.about[entry]}, not {about[entry]}"
            )
    if list(other.held_out.tasks) != [task.index for task in trained.family.test_tasks]:
        raise MetaslacError(f"{named} was evaluated on other tasks")
