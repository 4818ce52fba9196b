"""The numbers of a report, ready to be read: runs, returns, what became of the gap, settings.

The statistics are metaslac/evidence/evaluation.py's.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaslac.config.offline import RECORDED, resolve_offline
from metaslac.config.presets import resolve
from metaslac.config.text import to_dict
from metaslac.evidence.evaluation import (
    Comparison,
    EpisodeSummary,
    difference,
    gap_closed,
    gap_in_words,
    summarise,
)
from metaslac.launchers.api.family import family_option
from metaslac.launchers.report.gather import KINDS, Run, returns_of
from metaslac.launchers.report.words import UNDEFINED, UNKNOWN, duration, interval, number

WHERE = ("family.name", "train.seed", "task.inference")  # settings that have flags of their own
IN_WORDS = {"infer": "inferring the task", "blind": "never knowing it", "oracle": "told it"}
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RunRow:
    """A run in words."""

    name: str
    label: str
    seed: int
    updates: str
    env_steps: str
    wall_time: str
    trained: str  # commit
    commit: str  # of the evaluation
    hardware: str
    broken: int  # held-out episodes without a return
    training: str  # the command
    evaluation: str  # the command


@dataclass(frozen=True)
class SummaryRow:
    """Returns of one kind in one episode."""

    label: str
    episode: int
    mean: str
    iqm: str
    interval: str
    seeds: Sequence[str]  # the mean of each run


@dataclass(frozen=True)
class GapRow:
    """What inference gains in one episode, each with its interval."""

    episode: int
    gap: str
    difference: str


@dataclass(frozen=True)
class Gains:
    """What inference gains, per episode; empty where a control for it is missing."""

    gaps: Sequence[Comparison]
    differences: Sequence[Comparison]
    note: str  # what is missing

    @property
    def rows(self) -> list[GapRow]:
        """As text."""
        gaps = [_gap(row) for row in self.gaps] or [UNDEFINED] * len(self.differences)
        pairs = zip(gaps, self.differences, strict=True)
        return [GapRow(gained.episode, gap, _difference(gained)) for gap, gained in pairs]


@dataclass(frozen=True)
class Setting:
    """A setting in every run."""

    name: str
    values: Sequence[str]
    differs: bool


def run_rows(runs: Sequence[Run]) -> list[RunRow]:
    """What was trained, and how to do it again."""
    return [
        RunRow(
            run.name,
            run.label,
            run.seed,
            f"{run.about['update']:,}",
            f"{run.about['env_steps']:,}",
            duration(_seconds(run)),
            str(run.about["trained_with"].get("commit") or UNKNOWN),
            run.about["commit"] or UNKNOWN,
            ", ".join(f"{name} {value}" for name, value in run.about["hardware"].items()),
            int(np.isnan(run.evaluation.held_out.returns).sum()),
            training_command(run.about["settings"], str(run.directory)),
            run.about["command"],
        )
        for run in runs
    ]


def shared(rows: Sequence[RunRow], entry: str) -> dict[str, list[str]]:
    """What an entry of the rows says -> the names of the runs that say it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(str(getattr(row, entry)), []).append(row.name)
    return found


def summaries(groups: Mapping[str, Sequence[Run]]) -> dict[str, list[EpisodeSummary]]:
    """Statistics of each kind, one per episode."""
    return {kind: summarise(returns_of(runs)) for kind, runs in groups.items()}


def summary_rows(
    groups: Mapping[str, Sequence[Run]], statistics: Mapping[str, Sequence[EpisodeSummary]]
) -> list[SummaryRow]:
    """The same as text."""
    means = {kind: returns_of(runs).mean((1, 2)) for kind, runs in groups.items()}  # (runs, E)
    return [
        SummaryRow(
            kind,
            row.episode,
            number(row.mean),
            number(row.iqm),
            interval(row.low, row.high),
            [number(run[row.episode - 1]) for run in means[kind]],
        )
        for kind, rows in statistics.items()
        for row in rows
    ]


def headline(statistics: Mapping[str, Sequence[EpisodeSummary]], gained: Gains) -> str:
    """What the runs came to, in a sentence: mean returns, of those that infer from the first episode on."""
    parts = []
    for label, rows in statistics.items():
        came = f"{number(rows[-1].mean)} in episode {rows[-1].episode}"
        if label == "infer" and len(rows) > 1:
            came = f"from {number(rows[0].mean)} in episode 1 to {came}"
        parts.append(f"{IN_WORDS.get(label, f'{label}:')} {came}")
    closed = gained.gaps[-1].value if gained.gaps else math.nan
    share = f" Inference closes {number(closed)} of the gap." if math.isfinite(closed) else ""
    return f"Mean held-out return: {'; '.join(parts)}.{share}"


def gains(groups: Mapping[str, Sequence[Run]]) -> Gains:
    """Gap closed and difference to blind, as far as there are the runs for them."""
    if not groups.keys() <= set(KINDS):
        return Gains([], [], "")  # of several methods; each has a gap of its own
    missing = [kind for kind in KINDS if kind not in groups]
    note = (
        f"There is no {' and no '.join(missing)} run here; the gap closed needs all three." if missing else ""
    )
    if "infer" in missing or "blind" in missing:
        return Gains([], [], note)
    infer, blind = returns_of(groups["infer"]), returns_of(groups["blind"])
    gaps = gap_closed(infer, blind, returns_of(groups["oracle"])) if "oracle" in groups else []
    return Gains(gaps, difference(infer, blind), note)


def settings_table(runs: Sequence[Run]) -> list[Setting]:
    """Every setting, those in which the runs differ first."""
    flat = [flattened(run.about["settings"]) for run in runs]
    names = list(dict.fromkeys(name for values in flat for name in values))
    rows = [[str(values.get(name, "")) for values in flat] for name in names]
    table = [Setting(name, row, len(set(row)) > 1) for name, row in zip(names, rows, strict=True)]
    return sorted(table, key=lambda setting: not setting.differs)


def training_command(settings: Settings, run_dir: str) -> str:
    """The command that trains with these settings: whatever is not a default, in full."""
    values = flattened(settings)
    if data := values.get("runtime.data_set"):
        base = resolve_offline("actor-critic", "default", {name: values[name] for name in RECORDED}, [])
        words = [f"metaslac offline-train --dataset {shlex.quote(str(data))}"]
        words.append(f"--algorithm actor-critic --preset default{family_option(str(values['family.name']))}")
    else:
        base = resolve("default", [])
        words = [f"metaslac meta-train --family {shlex.quote(str(values['family.name']))}"]
    defaults = flattened(to_dict(base))
    words.append(f"--task-inference {values['task.inference']} --seed {values['train.seed']}")
    words.append(f"--run-dir {shlex.quote(run_dir)}")
    words += [
        f"--set {shlex.quote(f'{name}={value}')}"
        for name, value in values.items()
        if name not in WHERE and not name.startswith("runtime.") and str(value) != str(defaults.get(name))
    ]
    return " ".join(words)


def flattened(settings: Settings) -> dict[str, Any]:
    """section.field -> value, as a person writes it."""
    return {
        f"{section}.{name}": str(value).lower() if isinstance(value, bool) else value
        for section, entries in settings.items()
        for name, value in entries.items()
    }


def _gap(row: Comparison) -> str:
    value, between = gap_in_words(row, number)
    return f"{value} ({between})" if between and value != UNDEFINED else value


def _difference(row: Comparison) -> str:
    value = number(row.value)
    return value if value == UNDEFINED else f"{value} ({interval(row.low, row.high)})"


def _seconds(run: Run) -> float:
    """Of training, up to the update that was evaluated."""
    until = run.progress["update"] <= run.about["update"]
    return float(run.progress["time/seconds"][until].max()) if until.any() else math.nan
