"""Options that several commands have."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from metaslac.config.runtime import DEVICES, TRACKERS
from metaslac.errors import MetaslacError, nearest
from metaslac.launchers import completion
from metaslac.storage.files import user_path

# named flag -> the setting it is short for
SETTINGS = {
    "family": "family.name",
    "seed": "train.seed",
    "updates": "train.updates",
    "task_inference": "task.inference",
    "device": "runtime.device",
    "threads": "runtime.threads",
    "track": "runtime.track",
}

Command = TypeVar("Command", bound=Callable[..., object])


class UserPath(click.Path):
    """A path whose `~` is the home directory also where no shell has seen to that, as in --out=~/x."""

    def __init__(self, dir_okay: bool = True) -> None:
        super().__init__(dir_okay=dir_okay, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The Path; MetaslacError for a home directory that is not there."""
        return super().convert(user_path(value), param, ctx)


class NearChoice(click.Choice[str]):
    """A choice that says what was nearly chosen."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        """As of click, and the nearest."""
        message = super().get_invalid_choice_message(value, ctx)
        return f"{message.rstrip('.')}{nearest(str(value), map(str, self.choices))}"


def preset_option(names: Iterable[str], **more: Any) -> Callable[[Command], Command]:
    """--preset, one of these."""
    return click.option("--preset", type=NearChoice(list(names)), **more)


def family_name_option(**more: Any) -> Callable[[Command], Command]:
    """--family, for a command that is told which."""
    return click.option("--family", shell_complete=completion.families, **more)


def checkpoint_option(command: Command) -> Command:
    """--checkpoint, for a command that needs a trained agent."""
    return _checkpoint(required=True)(command)


def checkpoint_or(default: str) -> Callable[[Command], Command]:
    """--checkpoint, for a command that has an agent of its own to start with."""
    return _checkpoint(default=default, show_default=True)


def _checkpoint(**more: Any) -> Callable[[Command], Command]:
    return click.option(
        "--checkpoint",
        type=UserPath(),
        shell_complete=completion.agents,
        help="A checkpoint directory, or a run directory for its last one; or an exported agent: its "
        "directory, zoo:NAME of those shipped, hf:OWNER/NAME[@REVISION] of those on the Hub.",
        **more,
    )


def config_option(command: Command) -> Command:
    """--config: settings from a file."""
    option = click.option(
        "--config",
        type=UserPath(dir_okay=False),
        show_default="none",
        help="A YAML file with settings, some or all, such as the config.yaml of another run. Stronger than "
        "the preset, weaker than flags and --set.",
    )
    return option(command)


def track_option(command: Command) -> Command:
    """--track: where else a training is told of."""
    option = click.option(
        "--track",
        metavar="NAME[,NAME]",
        show_default="nowhere",
        help=f"Tell of the run in {', '.join(TRACKERS)} as well.",
    )
    return option(command)


class TakesParams(click.Command):
    """A command whose --params takes all the numbers after it, negative ones too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of click."""
        return super().parse_args(ctx, _with_numbers_joined(args))


def params_option(command: Command) -> Command:
    """--params, for a TakesParams: the parameters of a task of the user's own, a list of numbers."""
    option = click.option(
        "--params",
        metavar="NUMBER...",
        callback=lambda ctx, param, value: _numbers(value),
        show_default="none",
        help="The parameters of a task of your own, in place of a held-out one: --params 0.5 -0.3.",
    )
    return option(command)


def _with_numbers_joined(args: Sequence[str]) -> list[str]:
    """The same arguments, but for the numbers after --params, which become its one value."""
    joined, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        if word == "--params":
            numbers = list(itertools.takewhile(_is_number, rest))
            rest = rest[len(numbers) :]
            word = f"{word}={' '.join(numbers)}"
        joined.append(word)
    return joined


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    words = text.replace(",", " ").split()
    if not words or not all(map(_is_number, words)):
        raise MetaslacError(f"--params takes numbers, such as 0.5 -0.3, not {text!r}")
    return [float(word) for word in words]


def device_options(command: Command) -> Command:
    """--device and --threads, for a command that computes with a trained agent."""
    device = click.option(
        "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute."
    )
    threads = click.option(
        "--threads",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="CPU threads; 0 takes as many as this process may use.",
    )
    return device(threads(command))


def drawing_options(command: Command) -> Command:
    """--redraw-every and --mean-below: how m is drawn while acting."""
    redraw = click.option(
        "--redraw-every",
        type=click.IntRange(min=0),
        show_default="evaluation.redraw_every of the run",
        help="Decisions after which m is drawn anew from the belief; 0 is once an episode.",
    )
    mean = click.option(
        "--mean-below",
        type=click.FloatRange(min=0),
        show_default="evaluation.mean_below of the run",
        help="Act on the belief's mean where its standard deviation is below that.",
    )
    return redraw(mean(command))


def same_family_option(command: Command) -> Command:
    """--family, for a command whose checkpoint says which family it is."""
    option = family_name_option(
        show_default="the checkpoint's",
        help="Only ever the checkpoint's own; needed where that is module:attribute, to allow the import.",
    )
    return option(command)


def context_options(command: Command) -> Command:
    """--context and --context-episodes: what an agent is given of a task before it acts."""
    data = click.option(
        "--context",
        type=UserPath(),
        show_default="none: the agent explores",
        help="A data set of those tasks, whose episodes the agent is given before each trial, in place of "
        "exploring by itself: its first episode acts on them, later ones on its own before them too. Another "
        "protocol, never compared with that.",
    )
    episodes = click.option(
        "--context-episodes",
        type=click.IntRange(min=1),
        show_default="1 with --context",
        help="Episodes of the task that each trial is given, from trial to trial the next ones.",
    )
    return data(episodes(command))
