"""`metaslac report`: runs of one family, one page.

What is on it is made by the other files here; the evaluations it needs are `metaslac evaluate`'s.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metaslac.config.sections import caveat
from metaslac.errors import MetaslacError
from metaslac.launchers import completion
from metaslac.launchers.api.family import family_option
from metaslac.launchers.api.given_context import GivenContext, check_context
from metaslac.launchers.api.process import torch_threads
from metaslac.launchers.api.trained import load_trained
from metaslac.launchers.options import UserPath, context_options, device_options, same_family_option
from metaslac.launchers.outputs import check_writable, make_room, scratch_space
from metaslac.storage.files import utf8, write_atomically
from metaslac.training.log.columns import CALLED, Split

if TYPE_CHECKING:
    from metaslac.envs import Family, Reference, Task
    from metaslac.launchers.report.gather import Run

TASKS = 4  # in films
SAMPLES = 6  # of m, for exploration
MOMENTS = 12  # frames of a reconstruction


@click.command(short_help="One HTML page of what runs of a family came to.")
@click.argument(
    "directories",
    nargs=-1,
    required=True,
    metavar="DIR...",
    type=UserPath(),
    shell_complete=completion.runs,
)
@click.option("--out", required=True, type=UserPath(dir_okay=False), help="The .html file to write.")
@click.option("--title", show_default="metaslac: FAMILY", help="Heading of the page.")
@context_options
@same_family_option
@device_options
def report(
    directories: Sequence[Path],
    out: Path,
    title: str | None,
    context: Path | None,
    context_episodes: int | None,
    family: str | None,
    device: str,
    threads: int,
) -> None:
    """Put runs of one family on one HTML page that needs no other file and no network.

    DIR... are run directories, of agents that infer the task and of controls, any number of seeds each; files
    among them are passed over. All must have been evaluated alike with `metaslac evaluate`, with that
    --context if one is given. Films and pictures are of the first that infers.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise MetaslacError(f"--out {out}: the name must end in .html")
    check_writable(out)

    from metaslac.launchers.media.video import why_no_films
    from metaslac.launchers.report.gather import read_runs
    from metaslac.launchers.report.page import render

    check_context(context, context_episodes)
    files, directories = _parted(directories)
    runs = read_runs(directories, given=context is not None)
    if files:
        click.echo(f"passed over, as no directories: {', '.join(map(str, files))}", err=True)
    if why := why_no_films():
        click.echo(f"pictures in place of films: {why}", err=True)
    with scratch_space(out), torch_threads(threads) as number:
        values = contents(runs, family, device, number, context, context_episodes or 1)
    page = utf8(render({"title": title or f"metaslac: {runs[0].about['family']}", **values}))
    make_room(out)
    try:
        write_atomically(out, page)
    except OSError as error:
        raise MetaslacError(f"cannot write {out}: {error.strerror or error}") from None
    click.echo(f"{out}: {len(runs)} run{'s' * (len(runs) > 1)}, {len(page) / 1e6:.1f} MB")


def _parted(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Plain files, as a shell's runs/* may have among others, and the others; of files alone none are."""
    files = [path for path in paths if path.is_file()]
    others = [path for path in paths if path not in files]
    return (files, others) if others else ([], files)


def contents(
    runs: list[Run],
    family: str | None,
    device: str,
    threads: int,
    context: Path | None = None,
    context_episodes: int = 1,
) -> dict[str, Any]:
    """Everything on the page; `runs` as gather.read_runs sorts them, `context` as of evaluate."""
    shown = runs[0]
    trained = load_trained(shown.directory, family, device, threads)
    given = None if context is None else GivenContext(context, context_episodes, trained, "test")
    if given is not None and given.words != shown.about["context"]:
        raise MetaslacError(
            f"{shown.directory} was given {shown.about['context']}, and {context} is {given.words}"
        )

    from metaslac.acting.inference import Drawing
    from metaslac.launchers.api.reading import read_beliefs
    from metaslac.launchers.media.filming import Filming, ways_of_acting
    from metaslac.launchers.media.video import caption, spread
    from metaslac.launchers.report import figures, films, recordings, tables
    from metaslac.launchers.report.downloads import downloads
    from metaslac.launchers.report.gather import by_label
    from metaslac.launchers.report.plots import looks
    from metaslac.storage.version import library_versions

    about, groups = shown.about, by_label(runs)
    if trained.family.task_hash != about["task_hash"]:
        raise MetaslacError(f"{shown.directory}: checkpoint and evaluation are of different task lists")
    names, seed = trained.family.param_names, about["seed"]
    command = ["metaslac", "report", *(str(run.directory) for run in runs), "--out", "report.html"]
    if given is not None:
        command += ["--context", str(context), "--context-episodes", str(given.episodes)]
    filming = Filming(films.SIDE, TASKS)
    trials = recordings.record(
        trained,
        spread(trained.family.test_tasks, TASKS),
        episodes=about["episodes"],
        exploration=about["exploration_episodes"],
        drawing=Drawing(about["redraw_every"], about["mean_below"]),
        seed=seed,
        stream=about["stream"],
        given=given,
        filming=filming,
    )
    filming.acts = ways_of_acting(about["episodes"], about["exploration_episodes"], about["redraw_every"])
    if given is None:  # probes are of beliefs that began with nothing
        filming.probes = read_beliefs(trained, episodes=about["episodes"], seed=seed)
    sheet = recordings.reconstructed(shown.directory, trained, trials[0], shown=MOMENTS, seed=seed)
    exploration = None
    if shown.kind == "infer" and given is None:
        task = trials[0].task
        samples = recordings.explore(trained, task, SAMPLES, seed)
        known = [entry.episode.pictures for trial in trials for entry in trial.episodes]
        background = recordings.background_of(known)
        exploration = films.exploration(samples, task.index, caption(names, task.params), background)
    statistics = tables.summaries(groups)
    rows = tables.run_rows(runs)
    gains = tables.gains(groups)
    by_task, maps = figures.by_task(runs)
    references = references_by_tasks(trained.family, shown)
    lines = {called: {entry.name: entry.value for entry in found} for called, found in references.items()}
    film_step = films.film_step(about["decisions"] + 1)
    return {
        "about": about,
        "caveat": caveat(about["observation"], about["privileged"]),
        "groups": {label: [run.seed for run in group] for label, group in groups.items()},
        "classes": {label: look.name for label, look in looks(groups).items()},
        "runs": rows,
        "machines": tables.shared(rows, "hardware"),
        "commits": tables.shared(rows, "commit"),
        "shown": shown.name,
        "shown_kind": shown.kind,
        "shown_update": trained.manifest["update"],
        "summary": tables.summary_rows(groups, statistics),
        "gains": gains,
        "headline": tables.headline(statistics, gains),
        "references": references[CALLED["test"]],
        "learning": figures.learning(runs, lines),
        "adaptation": figures.adaptation(groups, statistics, gains, lines[CALLED["test"]]),
        "by_task": by_task,
        "maps": maps,
        "belief": figures.belief(runs),
        "reconstructions": None if sheet is None else films.reconstructions(sheet, trials[0].task, names),
        "m_is": what_m_is(shown.kind, about["episodes"] > about["exploration_episodes"]),
        "explores": given is None,
        "exploration": exploration,
        "films": films.film_rows(trials, filming, shown.kind == "infer", names, film_step),
        "films_read": filming.probes is not None,
        "film_step": film_step,
        "settings": tables.settings_table(runs),
        "versions": library_versions(),
        "downloads": downloads(runs),
        "command": shlex.join(command) + family_option(about["family"]),
    }


def references_by_tasks(family: Family, run: Run) -> dict[str, tuple[Reference, ...]]:
    """What the family knows of the tasks that the returns are of, by what those are called."""
    played = set(run.evaluation.held_out.tasks)
    held_out = [task for task in family.test_tasks if task.index in played]
    split: dict[Split, Sequence[Task]] = {"test": held_out, "validation": family.validation_tasks}
    return {CALLED[name]: family.known_references(tasks) if tasks else () for name, tasks in split.items()}


def what_m_is(kind: str, inferred: bool) -> str:
    """In words, in the last episode of a run."""
    if kind == "infer":
        return "m as it was inferred" if inferred else "m a guess from the prior"
    return "m made of the true parameters" if kind == "oracle" else "m = 0"
