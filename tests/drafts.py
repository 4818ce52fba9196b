"""Command lines of meta-train as their seeds make them: right but for, in most, one thing."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from metaslac.config.imagination import PENALTIES
from metaslac.config.sections import ACTOR_INPUTS, ENSEMBLES, LATENT_KINDS, SEQUENTIAL, Config
from metaslac.config.validation import WITHOUT_PIXELS
from metaslac.launchers.options import SETTINGS

FEW_POINTS = "few_points:FewPoints"

TINY: dict[str, Any] = {
    "family.name": FEW_POINTS,
    "family.image_size": 32,
    "model.base_depth": 2,
    **{"model.z1_size": 2, "model.z2_size": 3, "model.window": 3},
    **dict.fromkeys([f"model.{name}_size" for name in ("feature", "hidden")], 4),
    **dict.fromkeys(["task.hidden_size", "actor_critic.hidden_size"], 4),
    **dict.fromkeys(["replay.context_episodes", "train.tasks_per_visit", "train.tasks_per_update"], 1),
    **{"runtime.device": "cpu", "runtime.threads": 1, "runtime.log_every": 1},
}

# What is no value of a type.
NO_INT = [
    *["", "many", "3.5", "1e3", "0x10", "nan", "1,000", "½", "true", "None", "--", "1 2", "=1"],
    "9" * 5_000,
]
NO_FLOAT = ["", "fast", "1,5", "0x1p3", "--1", "1e", "true", "None", "1.0.0", "∞", "1_", "=1"]
NO_BOOL = ["", "1", "0", "yes", "on", "truee", "None", "true false", "=true"]
NO_CHOICE = ["", "Infer", "infer,oracle", "65", "None", "cpu:0", "\u202ecpu", "=cpu"]
NO_ASSIGNMENT = [
    *["", " ", "\n", "=", "==", "=1", " = ", "{}=1", "\udcff=1", "\u00a0=1"],
    *["train=1", "train.=1", ".updates=1", "train..updates=1", "train.updates.x=1"],
    *["train.updates", "train.updates:1", "train.updates 1", "train.updates=1=2"],
    *["TRAIN.UPDATES=1", "tr\u0430in.updates=1", "--train.updates=1", "train. updates=1"],
]
NO_FAMILY = [
    *["", " ", "None", "点机器人", "x" * 5_000],
    *["point_robt", "POINT_ROBOT", "point-robot", "../point_robot"],
    *["dmc", "dmc:", "dmc:pendulum", "dmc:pendulum-swingdown", "dmc:pendulum-swingup-x"],
    *[":", "few_points:", ":FewPoints", "few_points:Few:Points", "few_points:something"],
    *["few_points:fewPoints", "few_points:Broken", "few_points:\udcff", "few_points:FewPoints.name"],
    *["few_points.FewPoints", "few points:FewPoints", "../few_points:FewPoints"],
    *["no_such_module:Family", "json:JSONDecoder", "envs:TaskFamily", "DMC:pendulum-swingup"],
]
NO_OPTIONS = [
    *[["--updates"], ["--updates="], ["--updates", "many"], ["--updates", "1.5"], ["--updates", "9" * 5_000]],
    *[["--seed", "zero"], ["--seed", "--quiet"], ["--threads", "all"], ["--threads", "½"]],
    *[["--Updates", "1"], ["--update", "1"], ["--sed", "1"], ["-u", "1"], ["--set"]],
    *[["-"], [""], ["more"], ["--", "more"], ["\udcff"], ["--quiet=yes"], ["--no-quiet"]],
    *[["--preset", "fast"], ["--preset", ""], ["--preset", "Quick"], ["--task-inference", "guess"]],
    *[["--device", "tpu"], ["--device", "cuda:0"]],
]
NO_RUN_DIR = [
    *["taken", "taken/run", "taken/", "full", "other", "damaged", "dangling", ".", "x" * 300, "x/" * 3_000],
    *["/dev/null", "/dev/null/run", "taken/two\nlines"],
]
NOTHING_TO_RESUME = [
    *["", "nowhere", "taken", "taken/run", "full", "damaged", "other", "dangling", "x" * 300, "\udcff"]
]

# The replay and random decisions, counted so; and an actor that knows its critics and its spread.
IN_EPISODES = {"replay.decisions_per_task": 0, "train.initial_decisions": 0}
OWN = {"train.cloning": False, "actor_critic.deterministic": False, "actor_critic.cloning_weight": 0.0}

# Settings that do not go together, or not with three tasks in episodes of 20 steps.
NO_COMPANIONS: list[dict[str, Any]] = [
    {"task.context_min": 4, "task.context_max": 3, "task.context_segments": 2, "task.context_length": 3},
    {"task.context_max": 7, "task.context_segments": 2, "task.context_length": 3},
    *[{"train.windows": 3, "train.steps_per_batch": 2}, {"train.windows": 2, "train.steps_per_batch": 10**9}],
    *[{"train.windows": 4, "train.model_windows": 5}, {"task.size": 0, "task.inference": "infer"}],
    {**IN_EPISODES, "replay.episodes_per_task": 1, "train.prior_episodes": 1, "train.posterior_episodes": 1},
    {**IN_EPISODES, "replay.episodes_per_task": 3, "train.initial_episodes": 4},
    {"family.name": FEW_POINTS, "replay.decisions_per_task": 20, "train.initial_decisions": 21},
    {"evaluation.episodes": 1, "evaluation.exploration_episodes": 2},
    {"model.elbo_weight": 0.0, "actor_critic.critic_input": "latent"},
    {"model.elbo_weight": 0.0, "actor_critic.critic_input": "features", "actor_critic.actor_input": "latent"},
    {"family.observation": "state", "model.elbo_weight": 1.0},
    {"train.freeze_encoder": False, "train.refresh_first": 1},
    {"train.freeze_encoder": True, "train.predict_with_critics": False},
    {"train.encoder_from_critic": True, "train.pretrain_updates": 1},
    {"train.encoder_from_critic": True, "actor_critic.critic_input": "state"},
    {"task.inference": "infer", "task.factor_rank": 1, "task.prior_factor": False},
    {"task.inference": "infer", "task.prior_beliefs": 1, "train.tasks_per_update": 2},
    {"model.heads": 2, "model.kind": "vae"},
    {"imagination.share": 0.5, "actor_critic.actor_input": "features"},
    {"train.cloning": True, "actor_critic.deterministic": True},
    *[{"family.name": FEW_POINTS, f"train.tasks_per_{name}": 4} for name in ("visit", "update")],
    *[{"family.name": FEW_POINTS, "family.action_repeat": number} for number in (3, 10**9)],
    {**IN_EPISODES, "family.name": FEW_POINTS, "replay.episodes_per_task": 10**9},
    {**IN_EPISODES, "family.name": "dmc:pendulum-swingup", "replay.episodes_per_task": 10**9},
    {"family.name": FEW_POINTS, "replay.decisions_per_task": 10**9},
    {"runtime.device": "cuda"},  # which the test hides
]

ENTRIES: dict[str, dataclasses.Field[Any]] = {
    f"{section.name}.{entry.name}": entry
    for section in dataclasses.fields(Config)
    for entry in dataclasses.fields(getattr(Config(), section.name))
}
KINDS: dict[str, type] = {name: type(entry.default) for name, entry in ENTRIES.items()}


class Draft:
    """A command line in the making, right to begin with.

    Args:
        rng: decides everything.
        extreme: for any value that a setting may have, which nothing should be trained with.
    """

    def __init__(self, rng: random.Random, extreme: bool) -> None:
        self.rng = rng
        self.settings = {**TINY, **companions(rng)}
        if extreme:
            for name in rng.sample(list(TINY), 8):
                del self.settings[name]
            self.settings |= ends_of_ranges(rng)
            self.settings["family.name"] = rng.choice([FEW_POINTS, "point_robot", "dmc:pendulum-swingup"])
            self.settings["runtime.threads"] = rng.randint(0, 2)
        self.run_dir: str | None = rng.choice(["new", "new/run", "new/\u202e 运行", None])
        self.options = [["--quiet"]] * rng.randint(0, 1) + [["--preset", "quick"]] * rng.randint(0, 1)
        self.texts = {name: spelt(rng, value) for name, value in self.settings.items()}
        self.flags: dict[str, str] = {}
        for flag, name in SETTINGS.items():
            if name in self.texts and rng.random() < 0.4:
                self.flags[flag] = self.texts.pop(name).strip()
        # What comes first and is overridden need not be in its range.
        self.overridden = {
            name: "-1"
            for name in rng.sample(list(self.texts), rng.randint(0, 3))
            if type(self.settings[name]) is int
        }

    def assign(self, name: str, text: str) -> None:
        """Give a setting a text, whatever it has had."""
        self.texts[name] = text
        self.overridden.pop(name, None)

    def arguments(self) -> list[str]:
        """All of it, in random order where the order means nothing."""
        rng = self.rng
        items = [assignment(rng, name, text) for name, text in self.texts.items()]
        rng.shuffle(items)
        items = [assignment(rng, name, text) for name, text in self.overridden.items()] + items
        flags = [[f"--{flag.replace('_', '-')}", text] for flag, text in self.flags.items()]
        run_dir = [["--run-dir", self.run_dir]] if self.run_dir is not None else []
        for item in [*flags, *run_dir, *self.options]:
            items.insert(rng.randint(0, len(items)), item)
        return ["meta-train", *(argument for item in items for argument in item)]


def companions(rng: random.Random) -> dict[str, Any]:
    """Small values of those settings that must fit each other."""
    segments, length, batches = rng.randint(1, 3), rng.randint(1, 4), rng.randint(1, 2)
    most, windows = rng.randint(1, segments * length), batches * rng.randint(1, 2)
    initial, prior, posterior = rng.randint(1, 2), rng.randint(1, 2), rng.randint(0, 2)
    episodes, inference = rng.randint(1, 2), rng.choice(["infer", "oracle", "blind"])
    rank, frames, elbo = rng.choice([0, 1, 3]), rng.randint(1, 3), float(rng.randint(0, 1))
    freeze, inputs = rng.random() < 0.5, ["features", "state", "latent", "latent_features"]
    kept, beliefs = max(initial, prior + posterior) + rng.randint(0, 1), rng.choice([0, 0, 40])
    on_features = {
        **{**WITHOUT_PIXELS, "family.frames": frames, "actor_critic.actor_input": "features"},
        **{"train.refresh_first": 0, "train.predict_with_critics": True, "model.feature_reward_weight": 0.0},
    }
    imagined = {
        **{"model.elbo_weight": 1.0, "model.kind": rng.choice(ENSEMBLES), "model.heads": 2},
        **dict.fromkeys(["actor_critic.critic_input", "actor_critic.actor_input"], "latent"),
        **{"imagination.share": 0.5, "imagination.penalty": rng.choice(PENALTIES), "train.cloning": False},
        **{"train.freeze_encoder": False, "train.refresh_first": 0},
    }
    gradient, kind = rng.choice(["both", "critic", "model"]), rng.choice(LATENT_KINDS)
    told = 1.0 if gradient == "model" and (freeze or not elbo or kind not in SEQUENTIAL) else 0.0
    from_critics = {"task.gradient": rng.choice(["both", "critic"]), "train.encoder_from_critic": True}
    on_states = {"family.observation": "state", "family.frames": 1, "model.feature_reward_weight": 1.0}
    return {
        "family.frames": frames,
        "model.elbo_weight": elbo,
        "model.inverse_weight": 1.0 - elbo,
        "model.last_action_weight": rng.random() if frames > 1 else 0.0,
        **{"model.contrast_weight": 0.0, "model.feature_reward_weight": told, "task.gradient": gradient},
        "actor_critic.critic_input": rng.choice(inputs if elbo else inputs[:2]),
        "train.predict_with_critics": freeze or rng.random() < 0.5,
        "train.freeze_encoder": freeze,
        "train.refresh_first": rng.randint(0, 1) if freeze else 0,
        **{"task.context_segments": segments, "task.context_length": length, "task.context_max": most},
        "task.context_min": rng.randint(1, most),
        "task.inference": inference,
        "task.factor_rank": rank,
        "task.prior_factor": rng.random() < 0.5 or (inference == "infer" and rank > 0),
        "task.size": rng.randint(1 if inference == "infer" else 0, 3),
        **{"train.steps_per_batch": batches, "train.extra_steps": rng.randint(0, 2)},
        "train.windows": windows,
        "train.model_windows": rng.randint(1, windows),
        **{"train.prior_episodes": prior, "train.posterior_episodes": posterior},
        **{"task.prior_beliefs": beliefs, "task.reward_std": float(rng.choice([0, beliefs]))},
        "train.initial_episodes": initial,
        "train.initial_decisions": rng.choice([0, rng.randint(1, 20 * kept)]),
        "replay.episodes_per_task": kept,
        "replay.decisions_per_task": rng.choice([0, 1_000 * kept]),  # for any family's episodes
        "evaluation.episodes": episodes,
        "evaluation.exploration_episodes": rng.randint(0, episodes),
        "train.seed": rng.randint(0, 2**32 - 1),
        "train.updates": rng.randint(1, 2),
        "train.pretrain_updates": rng.randint(0, 1),
        "actor_critic.actor_input": rng.choice(ACTOR_INPUTS if elbo else ["features"]),
        **{"family.observation": "pixels", "train.encoder_from_critic": False},
        **{"model.kind": kind, "model.heads": 1, "train.random_shift": rng.randint(0, 2)},
        **{"imagination.share": 0.0, "imagination.penalty": "none"},
        **rng.choice([{**OWN, "train.cloning": True}, {**OWN, "actor_critic.deterministic": True}, OWN]),
        **rng.choice([{}, {}, {}, imagined, {**on_features, **from_critics}, {**on_features, **on_states}]),
    }


def ends_of_ranges(rng: random.Random) -> dict[str, Any]:
    """Some settings that need not fit others, at the ends of what they may be."""
    held = {"family.name", "family.action_repeat", "runtime.device", "runtime.threads", "runtime.data_set"}
    held |= {"train.tasks_per_visit", "train.tasks_per_update", "runtime.track"}
    held |= companions(rng).keys() - {"train.updates", "train.seed"}
    names = sorted(ENTRIES.keys() - held)
    return {name: rng.choice(allowed(name)) for name in rng.sample(names, rng.randint(1, 12))}


def allowed(name: str) -> list[Any]:
    """The ends of what a setting may be, if nothing else limits it."""
    limits, kind = ENTRIES[name].metadata, KINDS[name]
    if limits["choices"]:
        return list(limits["choices"])
    if kind is bool:
        return [True, False]
    if kind is int:
        return [limits["low"], limits["low"] + 1, limits["high"]]
    least = limits["low"] if limits["above"] is None else 5e-324
    return [float(least), 0.1, float(limits["high"] or sys.float_info.max)]


def refused(name: str) -> list[str]:
    """Texts that are no value a setting may have, whatever else is set."""
    limits, kind = ENTRIES[name].metadata, KINDS[name]
    if limits["choices"]:
        return [*NO_CHOICE, *(["31", "0", "-64", "10" * 100] if kind is int else [])]
    if kind is bool:
        return NO_BOOL
    if kind is int:
        beyond = [limits["low"] - 1, limits["high"] + 1, -(10**30), 10**30, 10**4_000]
        return [*NO_INT, *map(str, beyond)]
    texts = [*NO_FLOAT, "nan", "-nan", "inf", "-inf", "Infinity", "1e999", "9" * 5_000]
    texts += ["-1e-300", "-1"] if 0 in (limits["above"], limits["low"]) else [str(limits["low"] - 1)]
    texts += ["0", "-0.0", "1e-400"] * (limits["above"] is not None)
    return texts + ["1.0000000000000002"] * (limits["high"] == 1)


def spelt(rng: random.Random, value: Any) -> str:
    """A text for a value."""
    if isinstance(value, bool):
        text = rng.choice([str.lower, str.upper, str.title])(str(value))
    elif isinstance(value, int):
        text = rng.choice(["{}", "+{}", "00{}", "{:_}"]).format(value)
    elif isinstance(value, float):
        text = rng.choice(["{!r}", "{:+}", "{:.17e}", "{:.17E}"]).format(value)
    else:
        text = value
    return rng.choice(["{}", "{}", " {}", "{}\n", "\t{} ", "\u00a0{}"]).format(text)


def assignment(rng: random.Random, name: str, text: str) -> list[str]:
    """The arguments that assign it."""
    whole = f"{rng.choice(['', '', ' '])}{name}{rng.choice(['', '', ' '])}={text}"
    return rng.choice([["--set", whole], [f"--set={whole}"]])


def spoil_value(draft: Draft) -> None:
    name = draft.rng.choice(sorted(ENTRIES.keys() - {"family.name", "runtime.data_set", "runtime.track"}))
    draft.assign(name, draft.rng.choice(refused(name)))


def spoil_name(draft: Draft) -> None:
    """As a slip of the fingers does."""
    rng = draft.rng
    name = rng.choice(list(draft.texts))
    at = rng.randrange(len(name) - 1)
    wrong = rng.choice(
        [
            name[:at] + name[at + 1 :],
            name[:at] + name[at] + name[at:],
            name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            name[:at] + rng.choice("abc._- é\udcff") + name[at + 1 :],
            name.replace(".", rng.choice("_:/ ")),
            name.title(),
        ]
    )
    if wrong.strip() not in ENTRIES:
        draft.texts[wrong] = draft.texts.pop(name)
    else:
        spoil_name(draft)


def spoil_assignment(text: str, draft: Draft) -> None:
    draft.options.append(["--set", text])


def spoil_options(option: list[str], draft: Draft) -> None:
    draft.options = [option]
    draft.flags.clear()  # the last of two would count


def spoil_run_dir(run_dir: str, draft: Draft) -> None:
    draft.run_dir = run_dir


def spoil_resume(run_dir: str, draft: Draft) -> None:
    draft.run_dir = draft.rng.choice([None, None, "new"])
    draft.options.append(["--resume", run_dir])


def spoil_companions(settings: dict[str, Any], draft: Draft) -> None:
    for name, value in settings.items():
        draft.assign(name, str(value))


Spoil = Callable[[Draft], None]

# Everything wrong that is written down above, in mixed order.
LISTED: list[Spoil] = [
    *[partial(spoil_assignment, text) for text in NO_ASSIGNMENT],
    *[partial(spoil_companions, {"family.name": name}) for name in NO_FAMILY],
    *[partial(spoil_options, option) for option in NO_OPTIONS],
    *[partial(spoil_run_dir, run_dir) for run_dir in NO_RUN_DIR],
    *[partial(spoil_resume, run_dir) for run_dir in NOTHING_TO_RESUME],
    *[partial(spoil_companions, settings) for settings in NO_COMPANIONS],
]

random.Random(0).shuffle(LISTED)


def plan(seed: int) -> tuple[Spoil | None, bool]:
    """What is wrong with the command line of a seed, and whether it is to be trained with."""
    turn, kind = divmod(seed, 8)
    if kind < 3:
        return LISTED[(3 * turn + kind) % len(LISTED)], False
    if kind < 6:
        return (spoil_name if seed % 3 else spoil_value), False
    return None, kind == 7 and turn % 2 == 1
