"""Makes the tables of the docs from the raw returns and beliefs beside this file: those of a family.

    python results/table.py point_robot
    python results/table.py cheetah_vel/pearl

Each file is the evaluation.json of a run: results/<family>/<inference>-s<seed>.json; its progress.csv is
beside it. In place of a family, `factors` or `features` makes the table of results/factors.json or of the
two results/features-*.json, `ablation` that of a run with PEARL's factors beside one with ours, `drawing`
and `reacher_drawing` those of m drawn once an episode and at every decision, `redrawn` that of cheetah_vel,
`contexts` that of contexts in which a transition that was drawn again counts again, or once, `beliefs` that
of what was tried to keep beliefs of such runs from running away, and `offline`
that of what was learned from data sets, results/point_robot/offline/DATA/ALGORITHM/infer-s<seed>.json, with
what others showed the same agents in given-OTHERS/ there. `overview` makes the README's.
"""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metaslac.evidence.evaluation import difference, gap_closed, gap_in_words, summarise
from metaslac.evidence.evaluation_file import Evaluation, read_evaluation
from metaslac.evidence.probe import best_read, probe_scores
from metaslac.training.log.columns import return_columns, split_in

RESULTS = Path(__file__).parent
INFERENCES = ("infer", "oracle", "blind")
PARAMETERS_SHOWN = 4
MOMENTS_SHOWN = 8
OVERVIEW = "point_robot", "reacher_goal", "cheetah_vel", "cheetah_dir", "walker_rand_params"
CHEETAH_BODY = ["height", "pitch"]
CHEETAH_JOINTS = [f"{leg} {joint}" for leg in ("back", "front") for joint in ("thigh", "shin", "foot")]

Runs = Mapping[str, Sequence[Evaluation]]


def runs_of(family: str) -> Runs:
    """The evaluations of a family by inference, seeds in order; those there are."""
    files = {name: sorted((RESULTS / family).glob(f"{name}-s*.json")) for name in INFERENCES}
    return {name: [read_evaluation(file) for file in found] for name, found in files.items() if found}


def tables(family: str) -> str:
    """All tables of a family that its evaluations allow, with a line about where they come from.

    `family` is a folder here: cheetah_vel, or cheetah_vel/pearl for another preset's runs.
    """
    runs = runs_of(family)
    parts = [returns_table(runs)]
    if runs.keys() >= {"infer", "blind"}:
        parts.append(comparison_table(runs))
    if "infer" in runs and all(run.training is not None for run in runs["infer"]):
        parts.append(probe_table(runs["infer"]))
    return "\n\n".join([*parts, learning_table(runs, family), provenance(runs, family)])


def returns_table(runs: Runs) -> str:
    """Mean, IQM and its 95 % interval of each episode index, over all seeds, and each seed's last mean."""
    rows = []
    for inference, evaluations in runs.items():
        returns = returns_of(evaluations)
        seeds = ", ".join(f"{mean:.1f}" for mean in returns[..., -1].mean((1, 2)))
        for row in summarise(returns):
            cells = [inference, str(len(evaluations)), str(row.episode), f"{row.mean:.1f}", f"{row.iqm:.1f}"]
            last = row.episode == returns.shape[-1]
            rows.append([*cells, f"{row.low:.1f} to {row.high:.1f}", seeds if last else ""])
    header = ["m", "seeds", "episode", "mean", "IQM", "95 % interval", "last episode of each seed"]
    return markdown(header, rows)


def comparison_table(runs: Runs) -> str:
    """What infer is above blind in each episode and, with a better oracle, how much of the gap it closes."""
    infer, blind = returns_of(runs["infer"]), returns_of(runs["blind"])
    header = ["episode", "above blind", "95 % interval"]
    rows = [
        [str(row.episode), f"{row.value:+.1f}", f"{row.low:+.1f} to {row.high:+.1f}"]
        for row in difference(infer, blind)
    ]
    closed = gap_closed(infer, blind, returns_of(runs["oracle"])) if "oracle" in runs else []
    if any(np.isfinite(gap.value) for gap in closed):
        header += ["gap closed", "95 % interval"]
        rows = [[*cells, *gap_in_words(gap)] for cells, gap in zip(rows, closed, strict=True)]
    return markdown(header, rows)


def probe_table(evaluations: Sequence[Evaluation]) -> str:
    """R^2 of the linear probe on held-out tasks, the least of the seeds'; of many parameters the best."""
    names = evaluations[0].about["param_names"]
    least = np.min([probe_scores(evaluation) for evaluation in evaluations], axis=0)
    shown = best_read(least, PARAMETERS_SHOWN)
    rows = [
        [
            "no context" if after == 0 else f"episode {after}",
            *(f"{value:.3f}" for value in scores[shown]),
        ]
        for after, scores in enumerate(least)
    ]
    return markdown(["belief after", *(f"R^2 of {names[p]}" for p in shown)], rows)


def learning_table(runs: Runs, folder: str) -> str:
    """Returns of the last episode on what the runs were evaluated on while training, means over seeds."""
    curves = {name: [learning_curve(run, folder) for run in found] for name, found in runs.items()}
    updates = list(next(iter(curves.values()))[0])
    shown = updates[:: -math.ceil(len(updates) / MOMENTS_SHOWN)][::-1]
    rows = [
        [name, *(f"{np.mean([curve[update] for curve in found]):.1f}" for update in shown)]
        for name, found in curves.items()
    ]
    return markdown(["while training", *(f"{update:,}" for update in shown)], rows)


def learning_curve(evaluation: Evaluation, folder: str) -> dict[int, float]:
    """The return of the last episode, by update, of a run's progress.csv."""
    rows = progress_of(evaluation, folder)
    column = return_columns(rows[0], split_in(rows[0]) or "test")[-1]
    values = {int(row["update"]): float(row[column] or "nan") for row in rows}
    return {update: value for update, value in values.items() if not math.isnan(value)}


def progress_of(evaluation: Evaluation, folder: str) -> list[dict[str, str]]:
    """The rows of a run's progress.csv."""
    about = evaluation.about
    name = f"{about['inference']}-s{about['train_seed']}.csv"
    with (RESULTS / folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def provenance(runs: Runs, folder: str) -> str:
    """The commits that trained, and how long."""
    evaluations = [evaluation for found in runs.values() for evaluation in found]
    seconds = [float(progress_of(evaluation, folder)[-1]["time/seconds"]) for evaluation in evaluations]
    trained = {str(evaluation.about["trained_with"]["commit"])[:7] for evaluation in evaluations}
    updates = {evaluation.about["update"] for evaluation in evaluations}
    steps = {evaluation.about["env_steps"] for evaluation in evaluations}
    return (
        f"Commit {', '.join(sorted(trained))}; {in_words(updates)} updates, {in_words(steps)} environment "
        f"steps and {in_words({round(value / 60) for value in seconds})} minutes a run."
    )


def overview_table() -> str:
    """What agents that infer come to in the families that have runs, beside the controls' last episodes."""
    rows = []
    for family in OVERVIEW:
        runs = runs_of(family)
        infer = runs["infer"]
        minutes = {round(float(progress_of(run, family)[-1]["time/seconds"]) / 60) for run in infer}
        means = returns_of(infer).mean((0, 1, 2))
        controls = [
            f"{returns_of(runs[name])[..., -1].mean():.1f}" if name in runs else ""
            for name in ("oracle", "blind")
        ]
        name = f"[`{family}`](docs/results/{family}.md)"
        cells = [name, in_words(minutes), str(len(infer)), *(f"{mean:.1f}" for mean in means), *controls]
        rows.append(cells)
    episodes = [f"episode {number}" for number in (1, 2, 3)]
    return markdown(["family, quick preset", "minutes a run", "seeds", *episodes, "told", "blind"], rows)


def factors_table() -> str:
    """What each rank of factors came to, lowest to highest over seeds, from results/factors.json."""
    rows = json.loads((RESULTS / "factors.json").read_text())["rows"]
    cells = []
    for rank in sorted({row["rank"] for row in rows}):
        scores = np.array([row["r_squared"] for row in rows if row["rank"] == rank])
        errors = np.array([row["reward_rmse"] for row in rows if row["rank"] == rank])
        name = f"rank {rank}" if rank else "diagonal, as PEARL's"
        ends = [
            f"{values.min():.2f} to {values.max():.2f}" for values in (scores[:, 0], scores[:, 1], errors)
        ]
        cells.append([name, *ends])
    header = ["factor", "R^2 of goal_x", "R^2 of goal_y", "error of predicted rewards"]
    return markdown(header, cells)


def ablation_table() -> str:
    """Two runs of point_robot that differ in task.factor_rank alone."""
    folder = RESULTS / "point_robot"
    files = {
        "diagonal, as PEARL's": folder / "diagonal" / "infer-s0.json",
        "rank 2": folder / "infer-s0.json",
    }
    rows, header = [], []
    for name, file in files.items():
        evaluation = read_evaluation(file)
        means, scores = evaluation.held_out.returns.mean((0, 1)), probe_scores(evaluation)[-1]
        names = evaluation.about["param_names"]
        header = [*(f"episode {e + 1}" for e in range(len(means))), *(f"R^2 of {param}" for param in names)]
        rows.append([name, *(f"{mean:.1f}" for mean in means), *(f"{score:.2f}" for score in scores)])
    return markdown(["factor", *header], rows)


def drawing_table(family: str = "point_robot") -> str:
    """Mean returns by when m was drawn, in collection and in the evaluation."""
    words = {0: "once an episode", 1: "at every decision"}
    rows, header = [], []
    for folder in sorted((RESULTS / family / "drawing").iterdir(), reverse=True):
        runs = [read_evaluation(file) for file in sorted(folder.glob("infer-s*.json"))]
        collected = words[runs[0].about["settings"]["train"].get("redraw_every", 0)]
        played = words[runs[0].about["redraw_every"]]
        returns = returns_of(runs)  # (seeds, tasks, trials, episodes)
        header = [f"episode {e + 1}" for e in range(returns.shape[-1])]
        first = ", ".join(f"{mean:.1f}" for mean in returns[..., 0].mean((1, 2)))
        means = [f"{mean:.1f}" for mean in returns.mean((0, 1, 2))]
        rows.append([collected, played, str(len(runs)), *means, first])
    return markdown(
        ["m drawn in collection", "in evaluation", "seeds", *header, "episode 1 of each seed"], rows
    )


def reacher_drawing_table() -> str:
    """The same of reacher_goal."""
    return drawing_table("reacher_goal")


def redrawn_table() -> str:
    """Mean returns of the same agents of cheetah_vel with m drawn once an episode and at every decision."""
    rows, header = [], []
    folder = RESULTS / "cheetah_vel"
    for words, where in (("once an episode", folder), ("at every decision", folder / "redraw")):
        returns = returns_of([read_evaluation(file) for file in sorted(where.glob("infer-s*.json"))])
        header = [f"episode {e + 1}" for e in range(returns.shape[-1])]
        first = ", ".join(f"{mean:.1f}" for mean in returns[..., 0].mean((1, 2)))
        rows.append([words, str(len(returns)), *(f"{mean:.1f}" for mean in returns.mean((0, 1, 2))), first])
    return markdown(["m drawn", "seeds", *header, "episode 1 of each seed"], rows)


def offline_table() -> str:
    """Mean returns on point_robot of what was learned from each data set, by algorithm and protocol."""
    rows: list[list[str]] = []
    header: list[str] = []
    folders = [RESULTS / "point_robot" / "offline" / name for name in ("replay", "good", "random")]
    for folder in folders:
        for algorithm in ("lompo", "no-penalty", "actor-critic", "cloning"):
            own = [read_evaluation(file) for file in sorted((folder / algorithm).glob("infer-s*.json"))]
            if not own:
                continue
            means = returns_of(own).mean((0, 1, 2))
            given = []
            for others in ("random", "good"):
                files = sorted((folder / algorithm / f"given-{others}").glob("infer-s*.json"))
                given.append(returns_of([read_evaluation(file) for file in files]).mean())
            header = [f"episode {e + 1}" for e in range(len(means))]
            rows.append(
                [folder.name, algorithm, str(len(own)), *(f"{mean:.1f}" for mean in [*means, *given])]
            )
    return markdown(["data", "algorithm", "seeds", *header, "given a random one", "given a good one"], rows)


def contexts_table() -> str:
    """The last evaluation of pearl-quick on point_robot, by how often a repeated transition counts."""
    rows = []
    for name, words in (("again", "every time it was drawn"), ("once", "once, segments drawn apart")):
        last = []
        for file in sorted((RESULTS / "point_robot" / "contexts").glob(f"{name}-s*.csv")):
            with file.open(newline="") as opened:
                row = list(csv.DictReader(opened))[-1]
            last.append([float(row[column]) for column in (*return_columns(row, "validation"), "task/kl")])
        *means, kl = np.mean(last, axis=0)
        each = ", ".join(f"{values[-2]:.1f}" for values in last)
        rows.append([words, str(len(last)), *(f"{mean:.1f}" for mean in means), each, f"{kl:.1f}"])
    episodes = [f"episode {e + 1}" for e in range(3)]
    header = ["a transition counts", "seeds", *episodes, "episode 3 of each seed", "nats from the prior"]
    return markdown(header, rows)


def beliefs_table() -> str:
    """Runs of point_robot that count a transition once, by what holds their beliefs where the prior is."""
    held = {
        "none": "the KL of each, 0.1",
        "together": "and the KL of all together, 1",
        "centre": "and half the square of their mean, 1",
    }
    rows, header = [], []
    for name, words in held.items():
        for file in sorted((RESULTS / "point_robot" / "beliefs").glob(f"{name}-s*.csv")):
            with file.open(newline="") as opened:
                progress = list(csv.DictReader(opened))
            last = return_columns(progress[0], "validation")[-1]
            points = [row for row in progress if row[last] != "nan"]
            header = [f"{int(row['update']):,}" for row in points]
            returns = [f"{float(row[last]):.1f}" for row in points]
            rows.append([words, file.stem[-1], *returns, f"{float(points[-1]['task/kl']):.1f}"])
    return markdown(["beliefs are held by", "seed", *header, "nats from the prior"], rows)


def features_table() -> str:
    """What is read of the cheetah's body from features without and with an inverse model, and from pixels."""
    files = [RESULTS / f"features-{name}-inverse-model.json" for name in ("without", "with")]
    without, with_it = (json.loads(file.read_text()) for file in files)
    found = {
        "features, 1,000 updates without inverse model": without["features"],
        "features, 4,000 updates with inverse model": with_it["features"],
        "pixels": with_it["pixels"],
    }
    # Of the first position, along the track, there is nothing in the picture.
    rows = [[name, *(f"{score:.2f}" for score in scores[1:])] for name, scores in found.items()]
    return markdown(["read from", *CHEETAH_BODY, *CHEETAH_JOINTS], rows)


def in_words(numbers: set[int]) -> str:
    """One number, or from the least to the most."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def returns_of(evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Held-out returns (runs, tasks, trials, episodes)."""
    return np.stack([evaluation.held_out.returns for evaluation in evaluations])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    others = {
        "overview": overview_table,
        "factors": factors_table,
        "ablation": ablation_table,
        "drawing": drawing_table,
        "reacher_drawing": reacher_drawing_table,
        "redrawn": redrawn_table,
        "features": features_table,
        "offline": offline_table,
        "contexts": contexts_table,
        "beliefs": beliefs_table,
    }
    print(others[sys.argv[1]]() if sys.argv[1] in others else tables(sys.argv[1]))
