"""The charts of a report, made of its runs: learning, adaptation, returns by task, belief.

How they are drawn is plots.py's; pictures of what the agent saw are made in recordings.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metaslac.evidence.evaluation import EpisodeSummary
from metaslac.evidence.evaluation_file import Trials
from metaslac.evidence.probe import best_read, flat_params, probe_predictions, probe_scores
from metaslac.launchers.media.data_uris import data_uri
from metaslac.launchers.media.video import spread
from metaslac.launchers.report import plots
from metaslac.launchers.report.gather import Run, by_label, returns_of
from metaslac.launchers.report.tables import Gains
from metaslac.launchers.report.words import number
from metaslac.training.log.columns import CALLED

MOST_EPISODES = 4  # with a panel of their own
MOST_PARAMS = 4  # with a scatter of their own
FLOOR = -1.0  # of R^2 on the chart; the table has the numbers
SVG = "image/svg+xml"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chart:
    """A picture on the page."""

    source: str  # a data URI
    title: str
    words: str  # the picture, for those who cannot see it


@dataclass(frozen=True)
class Part:
    """Charts that belong together, and what is to be said of them."""

    charts: Sequence[Chart] = ()
    note: str = ""


@dataclass(frozen=True)
class Learning:
    """Returns over training."""

    tasks: str = ""  # what those that the returns are of are called
    parts: Mapping[str, Part] = field(default_factory=dict)  # name of the x axis -> a chart for each episode
    has_references: bool = False  # whether some of the charts show what is known of those tasks


@dataclass(frozen=True)
class ProbeRow:
    """R^2 of one parameter before the first episode and after each: mean, lowest and highest of the runs."""

    name: str
    scores: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Belief:
    """What the belief comes to know."""

    width: Part = field(default_factory=Part)
    scores: Part = field(default_factory=Part)
    table: Sequence[ProbeRow] = ()
    predictions: Part = field(default_factory=Part)
    missing: str = ""  # why there is nothing
    runs: int = 0  # of one group, that infer


References = Mapping[str, float]  # name -> return


def learning(runs: Sequence[Run], references: Mapping[str, References]) -> Learning:
    """Returns of each episode over training; those of validation and held-out tasks in separate charts.

    `references` are those of the tasks that are called so.
    """
    episodes = spread(range(1, runs[0].about["episodes"] + 1), MOST_EPISODES)
    columns = {f"{split}/return_{e}": (called, e) for split, called in CALLED.items() for e in episodes}
    groups = by_label(runs)
    kept = [c for c in columns if any(np.isfinite(run.progress.get(c, np.empty(0))).any() for run in runs)]
    if not kept:
        return Learning()
    tasks = list(dict.fromkeys(columns[column][0] for column in kept))
    seen = np.concatenate([run.progress[c] for run in runs for c in kept if c in run.progress])
    lines_at = [value for called in tasks for value in references.get(called, {}).values()]
    limits = _padded(np.append(seen[np.isfinite(seen)], lines_at))
    longest = max(run.progress["time/seconds"].max() for run in runs)
    unit, seconds = ("hours", 3600.0) if longest > 2 * 3600 else ("minutes", 60.0)
    axes = {
        "env steps": ("env_steps", 1.0),
        "updates": ("update", 1.0),
        f"wall time, {unit}": ("time/seconds", seconds),
    }
    if not any(run.progress["env_steps"].any() for run in runs):
        del axes["env steps"]  # of data sets nothing is played
    parts = {}
    for label, (x, scale) in axes.items():
        charts = []
        for column in kept:
            lines = {kind: _curve(group, x, scale, column) for kind, group in groups.items()}
            called, episode = columns[column]
            svg = plots.curves(lines, label, f"{called} return", limits, references.get(called, {}))
            ends = "; ".join(
                f"{kind} ends at {number(curve.mean[-1])}" for kind, curve in lines.items() if len(curve.mean)
            )
            title = f"Episode {episode}" + f", {called} tasks" * (len(tasks) > 1)
            words = f"{called.capitalize()} return of episode {episode} over {label}. {ends}."
            charts.append(Chart(data_uri(SVG, svg), title, words))
        parts[label] = Part(charts)
    return Learning(" and ".join(tasks), parts, bool(lines_at))


def adaptation(
    groups: Mapping[str, Sequence[Run]],
    rows: Mapping[str, Sequence[EpisodeSummary]],
    gains: Gains,
    references: References,
) -> Part:
    """Return over episodes, with references to read it by, and what of it is owed to inference."""
    means = {kind: returns_of(group).mean((1, 2)) for kind, group in groups.items()}
    words = ". ".join(
        f"{kind}: " + ", ".join(f"{number(row.iqm)} in episode {row.episode}" for row in summary)
        for kind, summary in rows.items()
    )
    words += "".join(f". Dashed, {name}: {number(value)}" for name, value in references.items())
    svg = plots.adaptation(rows, means, references)
    charts = [Chart(data_uri(SVG, svg), "Return of each episode", f"Interquartile mean return. {words}.")]
    for title, values, ends in (
        ("Gap closed", gains.gaps, (0.0, 1.0)),
        ("infer − blind", gains.differences, (0.0,)),
    ):
        values = [row for row in values if math.isfinite(row.low + row.value + row.high)]
        if values:
            words = ", ".join(f"{number(row.value)} in episode {row.episode}" for row in values)
            svg = plots.gain(values, title, ends)
            charts.append(Chart(data_uri(SVG, svg), title, f"{title}: {words}."))
    return Part(charts)


def by_task(runs: Sequence[Run]) -> tuple[Part, Part]:
    """Last-episode return of held-out tasks against each parameter; if they have two, a map for each kind."""
    names, params = list(runs[0].about["param_names"]), runs[0].evaluation.held_out.params
    groups = by_label(runs)
    last = {kind: returns_of(group)[..., -1].mean((0, 2)) for kind, group in groups.items()}
    varied = [p for p in range(len(names)) if np.ptp(params[:, p]) > 0]
    if not varied:
        return Part(note="Held-out tasks do not differ in any parameter."), Part()
    chosen, note = varied[:MOST_PARAMS], ""
    if len(varied) > MOST_PARAMS:
        first = next(iter(last.values()))
        chosen = sorted(varied, key=lambda p: -abs(_correlation(params[:, p], first)))[:MOST_PARAMS]
        note = (
            f"Of {len(varied)} parameters, the {MOST_PARAMS} that go most with the return of "
            f"{next(iter(last))}: among so many, some do by chance."
        )
    charts = [
        Chart(
            data_uri(
                SVG,
                plots.scatter(
                    {kind: plots.Points(params[:, p], values) for kind, values in last.items()},
                    names[p],
                    "last-episode return",
                ),
            ),
            names[p],
            f"Last-episode return of each held-out task against {names[p]}. "
            + "; ".join(
                f"{kind}: correlation {number(_correlation(params[:, p], values))}"
                for kind, values in last.items()
            )
            + ".",
        )
        for p in chosen
    ]
    maps = []
    if len(names) == 2 and len(varied) == 2:
        limits = _ends(np.concatenate(list(last.values())))
        maps = [
            Chart(
                data_uri(
                    SVG,
                    plots.coloured_map(
                        plots.Points(*params.T), values, limits, (*names, "last-episode return")
                    ),
                ),
                f"Map of the tasks: {kind}",
                f"Held-out tasks at {names[0]} and {names[1]}, coloured by the last return of {kind}: "
                f"{number(_ends(values)[0])} to {number(_ends(values)[1])}.",
            )
            for kind, values in last.items()
        ]
    return Part(charts, note), Part(maps)


def belief(runs: Sequence[Run]) -> Belief:
    """Width of the belief, and what a linear probe reads from its mean; of runs that infer."""
    infer = next((group for group in by_label(runs).values() if group[0].kind == "infer"), [])
    if not infer:
        return Belief(missing="No run here infers its task: there is no belief.")
    width = _width(infer)
    if any(run.evaluation.training is None for run in infer):
        return Belief(width, missing="No probe: an evaluation has no training tasks to fit it on.")
    names, params = list(infer[0].about["param_names"]), infer[0].evaluation.held_out.params
    varied = [p for p in range(len(names)) if np.ptp(params[:, p]) > 0]
    if not varied:
        return Belief(width, missing="No probe: held-out tasks do not differ in any parameter.")
    names = [names[p] for p in varied]
    scores = np.stack([probe_scores(run.evaluation)[:, varied] for run in infer])  # (runs, E + 1, P)
    final = scores[:, -1].mean(0)
    best = best_read(scores.mean(0), MOST_PARAMS)
    lowest = float(np.nanmin(scores))
    svg = plots.probe_scores(scores, names, max(FLOOR, min(-0.05, lowest - 0.05)))
    empty, after = np.median(scores[:, 0].mean(0)), np.median(final)
    words = (
        f"R² of a linear probe after each number of episodes; its median over {len(names)} parameters goes "
        f"from {number(empty)} to {number(after)}."
    )
    return Belief(
        width,
        Part(
            [Chart(data_uri(SVG, svg), "What a linear probe reads from the belief", words)],
            f"Below {number(FLOOR, 0)} the chart is cut off." * (lowest < FLOOR),
        ),
        [
            ProbeRow(name, [(values.mean(), values.min(), values.max()) for values in scores[:, :, p].T])
            for p, name in enumerate(names)
        ],
        Part(
            [_prediction(infer[0], varied[p], names[p], scores[0][:, p]) for p in best],
            f"The {len(best)} of {len(names)} parameters that the probe reads best; some by chance."
            * (len(names) > MOST_PARAMS),
        ),
        runs=len(infer),
    )


def _width(runs: Sequence[Run]) -> Part:
    about = runs[0].about
    lines = {"held-out tasks": [_mean_width(run.evaluation.held_out) for run in runs]}
    training = [run.evaluation.training for run in runs]
    if all(trials is not None for trials in training):
        lines["training tasks"] = [_mean_width(trials) for trials in training if trials is not None]
    svg = plots.narrowing(lines, about["decisions"])
    ends = np.mean(lines["held-out tasks"], axis=0)[:: about["decisions"]]
    words = "Belief width on held-out tasks at the start and after each full episode: " + ", ".join(
        number(value, 3) for value in ends
    )
    return Part([Chart(data_uri(SVG, svg), "How the belief narrows", f"{words}.")])


def _mean_width(trials: Trials) -> Array:
    """Over tasks, as far as any of them goes: (E D + 1,)."""
    known = np.isfinite(trials.belief_width)
    total = np.where(known, trials.belief_width, 0).sum(0)
    mean: Array = total / np.where(known.any(0), known.sum(0), np.nan)
    return mean


def _prediction(run: Run, param: int, name: str, scores: Array) -> Chart:
    """What the probe says of one parameter after the last episode; scores (E + 1,) are its R^2."""
    evaluation = run.evaluation
    before, after = (
        probe_predictions(evaluation, episodes)[:, param] for episodes in (0, evaluation.about["episodes"])
    )
    truth = flat_params(evaluation.held_out)[:, param]
    words = (
        f"Prediction of {name} against the truth, one dot for each trial on a held-out task: "
        f"R² {number(scores[-1])}; with an empty context {number(scores[0])}."
    )
    svg = plots.prediction(truth, after, float(before.mean()), name)
    return Chart(data_uri(SVG, svg), f"{name}: R² {number(scores[-1])}", words)


def _curve(runs: Sequence[Run], x: str, scale: float, column: str) -> plots.Curve:
    """Runs over one axis: the mean where all of them were evaluated, after equally many updates."""
    each = []
    for run in runs:
        held_out = run.progress.get(column, np.empty(0))
        there = np.isfinite(held_out)
        if there.any():
            each.append((run.progress["update"][there], run.progress[x][there] / scale, held_out[there]))
    if not each:
        nothing = np.empty(0)
        return plots.Curve(nothing, nothing, nothing, nothing, [])
    shared = sorted(set.intersection(*(set(updates.tolist()) for updates, _, _ in each)))
    at = [np.isin(updates, shared) for updates, _, _ in each]
    xs = np.stack([x[there] for (_, x, _), there in zip(each, at, strict=True)])
    ys = np.stack([y[there] for (_, _, y), there in zip(each, at, strict=True)])
    return plots.Curve(xs.mean(0), ys.mean(0), ys.min(0), ys.max(0), [(x, y) for _, x, y in each])


def _padded(values: Array) -> tuple[float, float]:
    low, high = _ends(values)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _ends(values: Array) -> tuple[float, float]:
    """Lowest and highest of the numbers among them, never the same."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _correlation(one: Array, other: Array) -> float:
    """Pearson's, of where both are numbers; 0 where one does not vary."""
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 2 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return 0.0
    return float(np.corrcoef(one[known], other[known])[0, 1])
