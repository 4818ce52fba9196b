"""The model card of an exported agent: what it is, how it was judged, and what it is bad at, in figures.

It is made from configuration, manifest and evaluations alone. Who writes it is launchers/api/exporting.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metaslac.config.sections import Config, caveat
from metaslac.evidence.evaluation import summarise
from metaslac.evidence.evaluation_file import Evaluation
from metaslac.evidence.probe import best_read, probe_scores

WORST_SHOWN = 3  # tasks
PARAMETERS_SHOWN = 4
CALLED = {"test": "held-out", "validation": "validation"}

FRONT_MATTER = """---
license: mit
library_name: metaslac
pipeline_tag: reinforcement-learning
tags: [meta-reinforcement-learning, reinforcement-learning, {family}]
---
"""

USE = """## Use

With this directory as `agent`:

```sh
metaslac adapt --checkpoint agent --episodes 3 --video adapt.mp4{family_option}
metaslac evaluate --checkpoint agent --json again.json{family_option}
metaslac inspect agent --verify
```

```python
import metaslac

agent = metaslac.load("agent")  # frames {shape}, actions ({action_size},) in [-1, 1]
```

It acts, infers its task and adapts. Critics, optimisers and replay are not here: no training goes on from it.
"""


def card(
    config: Config, facts: Mapping[str, Any], evaluations: Sequence[Evaluation], shape: Sequence[int]
) -> str:
    """The text, Markdown.

    Args:
        config: of the training.
        facts: what the agent's manifest says of it.
        evaluations: that it was judged by, those to show first in front.
        shape: of a frame that it observes.
    """
    family = config.family.name
    use = USE.format(
        family_option=f" --family {family}" * (":" in family and not family.startswith("dmc:")),
        shape=tuple(shape),
        action_size=facts["action_size"],
    )
    parts = [
        FRONT_MATTER.format(family=family.replace(":", "-")),
        f"# {family}: an agent that adapts to its task\n",
        _about(config, facts, shape),
        *map(_judged, evaluations),
        *["## Returns\n\nIt was exported without an evaluation.\n"] * (not evaluations),
        use,
        _provenance(config, facts, evaluations),
    ]
    return "\n".join(parts)


def _about(config: Config, facts: Mapping[str, Any], shape: Sequence[int]) -> str:
    names = facts["param_names"]
    hidden = ", ".join(names[:PARAMETERS_SHOWN]) + f", ... ({len(names)})" * (len(names) > PARAMETERS_SHOWN)
    words = caveat(config.family.observation, config.privileged)
    seen = "pixels" if config.family.observation == "pixels" else "the simulator's state"
    tasks = f"{_counted(facts['train_tasks'], 'task')} to train on and {facts['test_tasks']} held out"
    counts = _counted(facts["update"], "update"), _counted(facts["env_steps"], "environment step")
    budget = f"{counts[0]}, {counts[1]}, seed {config.train.seed}"
    rows = {
        "family": f"`{config.family.name}`, {tasks}",
        "hidden": hidden or "nothing",
        "observation": f"{seen}, {'x'.join(map(str, shape))}; action repeat {config.family.action_repeat}",
        "method": _method(config),
        "budget": budget,
        **({"caveat": words} if words else {}),
    }
    return "| | |\n| --- | --- |\n" + "".join(f"| {name} | {text} |\n" for name, text in rows.items())


def _method(config: Config) -> str:
    task, model, actor_critic = config.task, config.model, config.actor_critic
    inference = {
        "infer": f"the task inferred as a Gaussian over {task.size} numbers, "
        + (f"factors of rank {task.factor_rank}" if task.factor_rank else "diagonal factors"),
        "oracle": "told the task's true parameters",
        "blind": "told nothing of the task",
    }[task.inference]
    latents = f"latent model `{model.kind}`, " if model.elbo_weight else ""
    sees = (
        f"actor on {actor_critic.actor_input}, critics on {actor_critic.critic_input.replace('_', ' and ')}"
    )
    return f"{inference}; {latents}{sees}; {'from a data set' if config.offline else 'soft actor-critic'}"


def _judged(evaluation: Evaluation) -> str:
    about, held_out = evaluation.about, evaluation.held_out
    called = CALLED[about["split"]]
    given = f", given {about['context']}" if about["context"] else ""
    rows = [
        [str(row.episode), f"{row.mean:.2f}", f"{row.iqm:.2f}", f"{row.low:.2f} to {row.high:.2f}"]
        for row in summarise(held_out.returns)
    ]
    header = ["episode", "mean", "IQM", "95 % interval of the IQM"]
    if evaluation.training is not None:
        header.append("mean on training tasks")
        for row, mean in zip(rows, evaluation.training.returns.mean((0, 1)), strict=True):
            row.append(f"{mean:.2f}")
    drawn = f", m drawn anew every {about['redraw_every']} decisions" * (about["redraw_every"] > 0)
    drawn += f", its mean below a width of {about['mean_below']:g}" * (about["mean_below"] > 0)
    of_each = f"{_counted(about['trials'], 'trial')} of {_counted(about['episodes'], 'episode')} on each"
    return (
        f"## Returns on {called} tasks{given}\n\n1 training seed, {_counted(len(held_out.tasks), 'task')}, "
        f"{of_each}{drawn}.\n\n{_table(header, rows)}\nWhat it is not good at, and how much of the "
        f"task its belief tells:\n\n{_weaknesses(evaluation)}"
    )


def _weaknesses(evaluation: Evaluation) -> str:
    """Figures alone: the worst tasks, how often adapting did not help, and what the belief does not tell."""
    about, returns = evaluation.about, evaluation.held_out.returns
    last = returns[..., -1]
    lines = [f"lowest return of a last episode: {np.nanmin(last):.2f}"] if np.isfinite(last).any() else []
    means = last.mean(1)
    for number in np.argsort(means, kind="stable")[:WORST_SHOWN]:
        params = evaluation.held_out.params[number]
        named = zip(about["param_names"][:PARAMETERS_SHOWN], params, strict=False)
        where = ", ".join(f"{name} {value:.2f}" for name, value in named)
        task = f"task {evaluation.held_out.tasks[number]}" + f" ({where})" * bool(where)
        lines.append(f"{task}: {means[number]:.2f} in the last episode, mean of its trials")
    if about["episodes"] > 1:
        worse = int((last < returns[..., 0]).sum())
        lines.append(f"last episode below the first in {worse} of {last.size} trials")
    if broken := int(np.isnan(returns).sum()):
        lines.append(f"{broken} of {returns.size} episodes did not come to their end")
    if evaluation.training is not None and about["inference"] == "infer" and about["param_names"]:
        scores = probe_scores(evaluation)
        for p in best_read(scores, PARAMETERS_SHOWN):
            if math.isfinite(scores[-1, p]):
                read = f"R^2 {scores[-1, p]:.3f} after the last episode"
                lines.append(f"{about['param_names'][p]}, read from the belief by a linear probe: {read}")
    return "".join(f"- {line}\n" for line in lines)


def _provenance(config: Config, facts: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> str:
    trained = facts["trained_with"]
    versions = ", ".join(f"{name} {version}" for name, version in trained.items() if name != "commit")
    lines = [f"trained at commit {trained.get('commit') or 'unknown'} with {versions}, by `{config.command}`"]
    for evaluation in evaluations:
        about = evaluation.about
        lines.append(f"judged at commit {about['commit'] or 'unknown'} by `{about['command']}`")
    lines.append(f"task list {facts['task_hash']}")
    listed = "".join(f"- {line}\n" for line in lines)
    return (
        f"## Provenance\n\n{listed}\nEvery return and belief is in the `evaluation*.json` here, every "
        "setting in `config.yaml`, and the checksum of each file in `manifest.json`.\n\nLicence: MIT.\n"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
