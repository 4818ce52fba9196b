"""Command lines that nobody meant: meta-train runs what can be, and refuses the rest in one line.

Every case is made from its seed: settings that are right, and in most cases one thing that is wrong.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner, Result

import metaslac.meta_train
from launchers.cli import cli
from launchers.meta_train import FLAGS
from metaslac.config import Config
from metaslac.run_directory import start_run_directory
from metaslac.settings import describe, to_dict

MOST_SECONDS = 30  # for one case; most take a tenth of one
RUN = "new/run"

# A family of the user's own: four of point_robot's tasks, so that training takes no time.
MODULE = """
from envs.point_robot import PointRobot

class FewPoints(PointRobot):
    name = "few_points"

    def task_params(self):
        train, test = super().task_params()
        return train[:3], test[:1]

class Broken(FewPoints):
    def model(self):
        raise OSError("no\\nmodel")

something = 1
"""
FAMILIES = {"few_points:FewPoints": 3, "point_robot": 80, "dmc:pendulum-swingup": 1}  # and their tasks

TINY: dict[str, Any] = {
    "family.name": "few_points:FewPoints",
    "family.image_size": 32,
    "model.base_depth": 2,
    "model.feature_size": 4,
    "model.z1_size": 2,
    "model.z2_size": 3,
    "model.hidden_size": 4,
    "model.window": 3,
    "task.size": 2,
    "task.hidden_size": 4,
    "task.context_segments": 2,
    "task.context_length": 3,
    "task.context_min": 1,
    "task.context_max": 4,
    "actor_critic.hidden_size": 4,
    "replay.episodes_per_task": 4,
    "replay.context_episodes": 1,
    "train.updates": 1,
    "train.initial_episodes": 1,
    "train.pretrain_updates": 1,
    "train.tasks_per_visit": 1,
    "train.tasks_per_update": 1,
    "train.model_windows": 1,
    "train.windows": 2,
    "train.steps_per_batch": 1,
    "evaluation.episodes": 1,
    "runtime.device": "cpu",
    "runtime.threads": 1,
    "runtime.log_every": 1,
}

# Texts that are no value of a type; of these, none is a number to Python either.
NO_INT = ["", " ", "many", "3.5", "1e3", "0x10", "nan", "1,000", "½", "true", "None", "--", "1 2", "9" * 5_000]
NO_FLOAT = ["", " ", "fast", "1,5", "0x1p3", "--1", "1e", "true", "None", "1.0.0", "∞", "1_"]
NO_BOOL = ["", "1", "0", "yes", "on", "truee", "None", "true false"]
NO_CHOICE = ["", "Infer", "infer,oracle", "65", "None", "cpu:0", "\u202ecpu"]

NO_FAMILY = [
    *["", " ", "point_robt", "POINT_ROBOT", "point-robot", "../point_robot", "点机器人", "None", "x" * 5_000],
    *["dmc", "dmc:", "dmc:pendulum", "dmc:pendulum-swingdown", "dmc:pendulum-swingup-x", "DMC:pendulum-swingup"],
    *[":", "few_points:", ":FewPoints", "few_points:Few:Points", "few_points:something", "few_points:Fewpoints"],
    *["few_points.FewPoints", "few points:FewPoints", "../few_points:FewPoints", "no_such_module:Family"],
    *["json:JSONDecoder", "envs:TaskFamily", "few_points:Broken", "few_points:\ud800", "few_points:FewPoints.name"],
]
NO_RUN_DIR = [
    *["taken", "taken/run", "taken/", "full", "other", "damaged", "dangling", "x" * 300, "new/" + "x/" * 3_000],
    *["/dev/null", "/dev/null/run", "/proc/run", "."],
]
NO_OPTION = [
    *[["--updates", "many"], ["--updates", "1.5"], ["--updates="], ["--updates"], ["--updates", "9" * 5_000]],
    *[["--seed", "zero"], ["--seed", "--quiet"], ["--threads", "all"], ["--threads", "½"], ["--Updates", "1"]],
    *[["--update", "1"], ["--sed", "1"], ["-u", "1"], ["-"], ["more"], ["--", "--quiet"], ["\ud800"], [""]],
    *[["--preset", "fast"], ["--preset", ""], ["--preset", "Quick"], ["--task-inference", "guess"]],
    *[["--device", "tpu"], ["--device", "cuda:0"], ["--quiet=yes"], ["--no-quiet"], ["--set"], ["--family"]],
    *[["--resume", "nowhere"], ["--resume", "taken"], ["--resume", "full"], ["--resume", "damaged"]],
]
NO_ASSIGNMENT = [
    *["", " ", "=", "==", "=1", " = ", "train.updates", "train.updates:1", "train.updates 1", "train.updates=1=2"],
    *["train=1", "train.=1", ".updates=1", "train..updates=1", "train.updates.x=1", "train.updates==1", "\ud800=1"],
    *["train.updates\n=\n", "\u00a0=1", "TRAIN.UPDATES=1", "tr\u0430in.updates=1", "--train.updates=1", "{}=1"],
]
# Settings that do not go together, or not with a family of three tasks in episodes of 20 steps.
NO_COMPANIONS: list[dict[str, Any]] = [
    {"task.context_min": 5, "task.context_max": 4},
    {"task.context_max": 7, "task.context_segments": 2, "task.context_length": 3},
    {"train.windows": 3, "train.steps_per_batch": 2},
    {"train.windows": 2, "train.steps_per_batch": 10**9},
    {"train.windows": 4, "train.model_windows": 5},
    {"replay.episodes_per_task": 1, "train.prior_episodes": 1, "train.posterior_episodes": 1},
    {"replay.episodes_per_task": 3, "train.initial_episodes": 4},
    {"evaluation.episodes": 1, "evaluation.exploration_episodes": 2},
    {"task.size": 0, "task.inference": "infer"},
    {"family.name": "few_points:FewPoints", "train.tasks_per_visit": 4},
    {"family.name": "few_points:FewPoints", "train.tasks_per_update": 10**9},
    {"family.name": "few_points:FewPoints", "family.action_repeat": 3},
    {"family.name": "few_points:FewPoints", "family.action_repeat": 10**9},
    {"family.name": "few_points:FewPoints", "replay.episodes_per_task": 10**9},
]

# Left as they are where any value in the limits will do: these have more to them than limits.
MORE_THAN_LIMITS = {"family", "runtime.device", "runtime.threads", "replay.episodes_per_task"}


class Case(NamedTuple):
    """A command line, and what is to come of it: these settings, or a refusal where there are none."""

    arguments: list[str]
    settings: dict[str, Any] | None


class Draft:
    """A command line in the making: right to begin with."""

    def __init__(self, rng: random.Random, extreme: bool) -> None:
        self.rng = rng
        self.settings = {**TINY, **related(rng)}
        if extreme:
            self.settings |= anything_in_the_limits(rng)
            family = rng.choice(list(FAMILIES))
            self.settings["family.name"] = family
        self.flags: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        for name, value in self.settings.items():
            flag = next((flag for flag, long in FLAGS.items() if long == name), None)
            if flag and rng.random() < 0.4:
                self.flags[flag] = str(value)
            else:
                self.texts[name] = written(rng, value)
        self.overridden = self.other_values()
        self.run_dir = RUN
        self.options: list[list[str]] = [[], ["--quiet"], ["--preset", "quick"]][: rng.randint(1, 3)]

    def other_values(self) -> dict[str, str]:
        """Values that later ones override: they may be out of their range."""
        names = [name for name in self.texts if type(self.settings[name]) in (int, float)]
        for flag in ("seed", "updates"):
            if FLAGS[flag] in self.texts and self.rng.random() < 0.3:
                self.flags[flag] = "-1"
        return {name: "-1" for name in self.rng.sample(names, self.rng.randint(0, 3))}

    def assign(self, name: str, text: str) -> None:
        """Give a setting a text, whatever it has had."""
        self.texts[name] = text
        self.flags = {flag: value for flag, value in self.flags.items() if FLAGS[flag] != name}

    def arguments(self) -> list[str]:
        """All of it in random order."""
        rng = self.rng
        items = [assigned(rng, name, text) for name, text in self.texts.items()]
        rng.shuffle(items)
        items = [assigned(rng, name, text) for name, text in self.overridden.items()] + items
        others = [[f"--{flag.replace('_', '-')}", value] for flag, value in self.flags.items()]
        for item in [*others, ["--run-dir", self.run_dir], *self.options]:
            items.insert(rng.randint(0, len(items)), item)
        return ["meta-train", *(argument for item in items for argument in item)]


def related(rng: random.Random) -> dict[str, Any]:
    """Small settings that must go together, and do."""
    segments, length = rng.randint(1, 3), rng.randint(1, 4)
    most = rng.randint(1, segments * length)
    batches = rng.randint(1, 2)
    windows = batches * rng.randint(1, 2)
    initial, prior, posterior = rng.randint(1, 2), rng.randint(1, 2), rng.randint(0, 2)
    episodes = rng.randint(1, 2)
    inference = rng.choice(["infer", "oracle", "blind"])
    return {
        "task.context_segments": segments,
        "task.context_length": length,
        "task.context_max": most,
        "task.context_min": rng.randint(1, most),
        "train.steps_per_batch": batches,
        "train.windows": windows,
        "train.model_windows": rng.randint(1, windows),
        "train.initial_episodes": initial,
        "train.prior_episodes": prior,
        "train.posterior_episodes": posterior,
        "replay.episodes_per_task": max(initial, prior + posterior) + rng.randint(0, 1),
        "evaluation.episodes": episodes,
        "evaluation.exploration_episodes": rng.randint(0, episodes),
        "task.inference": inference,
        "task.size": rng.randint(inference == "infer", 3),
        "train.seed": rng.randint(0, 2**32 - 1),
        "train.updates": rng.randint(1, 2),
        "train.pretrain_updates": rng.randint(0, 1),
    }


def anything_in_the_limits(rng: random.Random) -> dict[str, Any]:
    """Some settings at the ends of what they may be."""
    together = related(rng)
    names = [name for name in LIMITS if name not in together and not MORE_THAN_LIMITS & {name, name.split(".")[0]}]
    values: dict[str, Any] = {}
    for name in rng.sample(names, 8):
        limits = LIMITS[name]
        if limits["choices"]:
            values[name] = rng.choice(limits["choices"])
        elif KINDS[name] == "int":
            if not name.startswith("train.tasks_per"):
                values[name] = rng.choice([limits["low"], limits["low"] + 1, limits["high"]])
        elif KINDS[name] == "float":
            low = limits["low"] if limits["low"] is not None else 5e-324
            high = limits["high"] if limits["high"] is not None else sys.float_info.max
            values[name] = float(rng.choice([low, 0.5, high]))
        else:
            values[name] = rng.random() < 0.5
    return values
