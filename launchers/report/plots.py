"""Charts as SVG, each small enough to be read on a phone; colours, marks and lines tell groups of runs apart.

What is drawn in which order is decided in figures.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from metaslac.evidence.evaluation import Comparison, EpisodeSummary

# Okabe and Ito's colours, which the colour-blind tell apart.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MOST_SERIES = len(SERIES)
GREY = "#767676"
MOST_TICKS = 6

SIZE = (4.4, 3.1)  # inches, 96 pixels each on a page
STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9.5,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "metaslac",  # the same numbers make the same file
}

Array = NDArray[np.float64]


class Look(NamedTuple):
    """How one group of runs is drawn; the page has its colour under that name."""

    name: str
    colour: str
    mark: str
    line: str


KINDS = {
    "infer": Look("infer", "#0072B2", "o", "-"),
    "blind": Look("blind", "#D55E00", "s", "--"),
    "oracle": Look("oracle", "#009E73", "^", "-."),
}
METHODS = [
    Look(f"series{number}", colour, mark, line)
    for number, (colour, mark, line) in enumerate(zip(SERIES, "os^Dv*", ("-", "--", "-.") * 2, strict=True))
]


def looks(labels: Collection[str]) -> dict[str, Look]:
    """How each of the groups is drawn that are on a page: kinds alike on all, others by their place."""
    if set(labels) <= KINDS.keys():
        return {label: KINDS[label] for label in labels}
    return dict(zip(labels, cycle(METHODS), strict=False))


class Curve(NamedTuple):
    """A line over several runs, with the lowest and the highest of them; every run's own line too."""

    x: Array  # (K,)
    mean: Array  # (K,)
    low: Array  # (K,)
    high: Array  # (K,)
    each: Sequence[tuple[Array, Array]]  # x and y of each run


class Points(NamedTuple):
    """Dots of one group."""

    x: Array
    y: Array


def curves(
    lines: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    limits: tuple[float, float],
    references: Mapping[str, float],
) -> bytes:
    """One curve for each group, its band and its runs; dashed lines at references."""

    def draw(axes: Axes) -> None:
        for label, (_, colour, mark, line) in looks(lines).items():
            curve = lines[label]
            if not curve.each:
                continue
            for x, y in curve.each:
                axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.45)
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(curve.x, curve.mean, line, color=colour, marker=mark, markersize=3.5, label=label)
        axes.set(xlabel=x_label, ylabel=y_label, ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _reference_lines(axes, references)
        _legend(axes)

    return _svg(draw)


def adaptation(
    summaries: Mapping[str, Sequence[EpisodeSummary]],
    means: Mapping[str, Array],
    references: Mapping[str, float],
) -> bytes:
    """IQM of each episode with its interval, a cross at the mean; `means` (runs, E) are those of each run.

    Dashed lines are at references.
    """

    def draw(axes: Axes) -> None:
        for number, (label, (_, colour, mark, line)) in enumerate(looks(summaries).items()):
            rows = summaries[label]
            x = np.array([row.episode for row in rows]) + 0.12 * (number - (len(summaries) - 1) / 2)
            middle = np.array([row.iqm for row in rows])
            ends = np.abs(np.array([[row.low, row.high] for row in rows]).T - middle)
            axes.errorbar(
                x, middle, ends, fmt=mark + line, color=colour, capsize=3.5, markersize=6, label=label
            )
            axes.plot(x, [row.mean for row in rows], "x", color="black", markersize=5, zorder=5)
            for run in means[label]:
                axes.plot(x + 0.045, run, ".", color=colour, markersize=5, alpha=0.6)
        axes.set(xlabel="episode", ylabel="return")
        _episodes(axes, max(map(len, summaries.values())))
        _reference_lines(axes, references)
        _legend(axes)

    return _svg(draw)


def gain(rows: Sequence[Comparison], label: str, ends: Sequence[float]) -> bytes:
    """A value per episode with its interval, lines at the values that mean something."""

    def draw(axes: Axes) -> None:
        for end in ends:
            axes.axhline(end, color=GREY, linewidth=1)
        value, low, high = (np.array(part) for part in zip(*[_numbers(row) for row in rows], strict=True))
        x = [row.episode for row in rows]
        axes.errorbar(
            x, value, np.abs([value - low, high - value]), fmt="o-", color=KINDS["infer"].colour, capsize=4
        )
        axes.set(xlabel="episode", ylabel=label)
        _episodes(axes, len(rows))

    return _svg(draw)


def _numbers(row: Comparison) -> tuple[float, float, float]:
    return row.value, row.low, row.high


def scatter(groups: Mapping[str, Points], x_label: str, y_label: str) -> bytes:
    """Dots of each group."""

    def draw(axes: Axes) -> None:
        for label, (_, colour, mark, _) in looks(groups).items():
            x, y = groups[label]
            axes.scatter(x, y, s=22, c=colour, marker=mark, alpha=0.75, linewidths=0, label=label)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS))
        _legend(axes)

    return _svg(draw)


def coloured_map(points: Points, values: Array, limits: tuple[float, float], labels: Sequence[str]) -> bytes:
    """Dots coloured by a value; labels of x, y and the colour."""

    def draw(axes: Axes) -> None:
        dots = axes.scatter(
            points.x,
            points.y,
            s=60,
            c=values,
            cmap="cividis",
            vmin=limits[0],
            vmax=limits[1],
            edgecolors="#333333",
            linewidths=0.5,
        )
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.margins(0.1)
        assert axes.figure is not None
        axes.figure.colorbar(dots, ax=axes, label=labels[2])

    return _svg(draw, (4.4, 3.4))


def narrowing(lines: Mapping[str, Sequence[Array]], decisions: int) -> bytes:
    """Belief width over transitions: for each of one or two labels the runs' lines (K,) and their mean.

    A dotted line is where an episode of so many decisions ends.
    """
    last = max(int(np.flatnonzero(np.isfinite(run)).max()) for runs in lines.values() for run in runs)

    def draw(axes: Axes) -> None:
        for end in range(decisions, last + 1, decisions):
            axes.axvline(end, color=GREY, linewidth=0.8, linestyle=":")
        for (label, runs), style, colour in zip(lines.items(), ("-", "--"), SERIES, strict=False):
            for run in runs:
                axes.plot(run, style, color=colour, linewidth=0.7, alpha=0.45)
            axes.plot(np.mean(runs, axis=0), style, color=colour, label=label)
        axes.set(xlabel="transitions seen (dotted: full episodes)", ylabel="belief width", ylim=(0, None))
        _legend(axes)

    return _svg(draw)


def probe_scores(scores: Array, names: Sequence[str], floor: float) -> bytes:
    """R^2 (runs, E + 1, P) of each parameter before the first episode and after each.

    Of many parameters only the median is in colour.
    """
    mean = scores.mean(0)
    episodes = np.arange(len(mean))

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=GREY, linewidth=0.8)
        if len(names) <= MOST_SERIES:
            for number, (name, colour) in enumerate(zip(names, SERIES, strict=False)):
                for run in scores[:, :, number]:
                    axes.plot(episodes, run, color=colour, linewidth=0.7, alpha=0.45)
                axes.plot(episodes, mean[:, number], color=colour, marker="o", markersize=4, label=name)
        else:
            axes.plot(episodes, mean, color=GREY, linewidth=0.7, alpha=0.5)
            median = np.nanmedian(mean, axis=1)
            axes.plot(episodes, median, color=KINDS["infer"].colour, marker="o", label="median of all")
        axes.set(xlabel="episodes seen", ylabel="R² on held-out tasks", ylim=(floor, 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes)

    return _svg(draw)


def prediction(truth: Array, predicted: Array, empty: float, name: str) -> bytes:
    """What the probe says against what is true; the dashed line is what it says of an empty context."""

    def draw(axes: Axes) -> None:
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, color=GREY, linewidth=0.9)
        axes.axhline(empty, color=KINDS["blind"].colour, linewidth=0.9, linestyle="--")
        axes.scatter(truth, predicted, s=16, c=KINDS["infer"].colour, alpha=0.6, linewidths=0)
        axes.set(xlabel=f"true {name}", ylabel="probe's prediction")
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS))

    return _svg(draw)


def _reference_lines(axes: Axes, references: Mapping[str, float]) -> None:
    for name, value in references.items():
        axes.axhline(value, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            name,
            (1, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(3, 0),  # beside the chart, where it covers no mark
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color="#555555",
        )


def _episodes(axes: Axes, number: int) -> None:
    """The x axis of so many episodes."""
    axes.set_xlim(0.6, number + 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes) -> None:
    """Above the chart, where nothing is hidden by it."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handlelength=2.4)


def _svg(draw: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> bytes:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        data = io.BytesIO()
        figure.savefig(data, format="svg", metadata={"Date": None})
    return data.getvalue()
