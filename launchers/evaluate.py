"""`metaslac evaluate`: statistics of adaptation over all tasks of a split and several trials.

The work is in api/evaluation.py, the statistics in metaslac/evidence/; single trials to look at are `metaslac
adapt`, several runs together `metaslac report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from metaslac.config.schedule import LARGEST_SEED
from metaslac.config.sections import caveat
from metaslac.launchers import completion
from metaslac.launchers.api import evaluation as api
from metaslac.launchers.api.evaluation import CONTROLS
from metaslac.launchers.options import (
    Command,
    UserPath,
    checkpoint_option,
    context_options,
    device_options,
    drawing_options,
    same_family_option,
)
from metaslac.launchers.outputs import table
from metaslac.training.log.columns import CALLED

if TYPE_CHECKING:
    from metaslac.evidence.evaluation_file import Evaluation, Trials

PARAMETERS_SHOWN = 4
TASKS_SHOWN = 40


def control_options(command: Command) -> Command:
    """--blind and --oracle: runs of the two controls to compare with."""
    for name in reversed(CONTROLS):
        option = click.option(
            f"--{name}",
            type=UserPath(),
            shell_complete=completion.runs,
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
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True, help="Seed of the trials."
)
@click.option(
    "--split",
    type=click.Choice(list(CALLED)),
    default="test",
    show_default=True,
    help="Which tasks to evaluate on: the held-out ones (test), or those to choose settings on (validation).",
)
@click.option(
    "--training-tasks/--no-training-tasks",
    default=True,
    show_default=True,
    help="Whether to evaluate on the training tasks too; the probe of beliefs needs it.",
)
@context_options
@control_options
@click.option(
    "--json",
    "json_path",
    type=UserPath(dir_okay=False),
    show_default="evaluation.json of the run, evaluation-validation.json with --split validation, "
    "...-given.json with --context",
    help="Where to write every return and belief; needed for agents by name, such as zoo:NAME.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    show_default="off",
    help="Replace what is there, though it is another evaluation: of fewer trials, or of another checkpoint.",
)
@drawing_options
@device_options
def evaluate(
    checkpoint: Path,
    family: str | None,
    episodes: int,
    trials: int,
    seed: int,
    split: str,
    training_tasks: bool,
    context: Path | None,
    context_episodes: int | None,
    blind: Path | None,
    oracle: Path | None,
    json_path: Path | None,
    overwrite: bool,
    redraw_every: int | None,
    mean_below: float | None,
    device: str,
    threads: int,
) -> None:
    """Evaluate adaptation on every held-out task of the agent's family, and on its training tasks.

    Shows mean, interquartile mean (IQM) and its 95 % bootstrap interval of the return of each episode, what a
    linear probe reads from the belief about the true parameters of held-out tasks (R^2; 1 is everything, 0
    nothing), and, beside the controls, how much of the gap between them is closed.

    Every return and belief is written to evaluation.json in the run directory; `metaslac report` makes a page
    of such files. Another evaluation that is there stays, unless --overwrite is given; --json keeps both.

    To try settings, use --split validation: what held-out tasks chose, they cannot judge.
    """
    evaluated = api.evaluate(
        checkpoint,
        episodes=episodes,
        trials=trials,
        seed=seed,
        split=split,
        training_tasks=training_tasks,
        blind=blind,
        oracle=oracle,
        out=json_path,
        family=family,
        device=device,
        threads=threads,
        redraw_every=redraw_every,
        mean_below=mean_below,
        overwrite=overwrite,
        context=context,
        context_episodes=context_episodes,
    )
    show(evaluated.evaluation, evaluated.controls)
    click.echo(f"every return and belief: {evaluated.path}")


def show(evaluation: Evaluation, controls: Mapping[str, Evaluation]) -> None:
    """Print the tables of an evaluation, beside those of controls."""
    about = evaluation.about
    called, words = CALLED[about["split"]], caveat(about["observation"], about["privileged"])
    click.echo(
        f"{about['family']}: {len(evaluation.held_out.tasks)} {called} tasks, {about['trials']} trials each"
        + f", m drawn anew every {about['redraw_every']} decisions" * (about["redraw_every"] > 0)
        + f", its mean below a width of {about['mean_below']:g}" * (about["mean_below"] > 0)
        + ", actions sampled" * about["sample_actions"]
        + f", given {about['context']}" * (about["context"] != "")
        + f"; {words}" * (words != "")
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
    from metaslac.evidence.evaluation import summarise

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


def gap_table(evaluation: Evaluation, controls: Mapping[str, Evaluation]) -> str:
    """Gap closed of each episode, with the controls' means."""
    from metaslac.evidence.evaluation import gap_closed, gap_in_words

    blind, oracle = (controls[name].held_out.returns for name in CONTROLS)
    rows = [
        (
            str(row.episode),
            f"{blind[..., row.episode - 1].mean():.2f}",
            f"{oracle[..., row.episode - 1].mean():.2f}",
            *gap_in_words(row),
        )
        for row in gap_closed(evaluation.held_out.returns, blind, oracle)
    ]
    return table(("episode", "blind", "oracle", "gap closed", "95 % interval"), rows)


def difference_table(evaluation: Evaluation, blind: Evaluation) -> str:
    """What each episode's mean is above a blind agent's."""
    from metaslac.evidence.evaluation import difference

    rows = [
        (str(row.episode), f"{row.value:+.2f}", f"{row.low:+.2f} to {row.high:+.2f}")
        for row in difference(evaluation.held_out.returns, blind.held_out.returns)
    ]
    return table(("episode", "above blind", "95 % interval"), rows)


def probe_table(evaluation: Evaluation) -> str:
    """R^2 of the linear probe, before any context and after each episode; of many parameters the best."""
    from metaslac.evidence.probe import best_read, probe_scores

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
