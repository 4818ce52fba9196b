"""What a shell offers when a word is completed: families, trained agents, runs. No simulator, no torch.

Commands, options and choices are click's own; how a word with a colon comes from bash is here too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from metaslac.storage.files import user_path
from metaslac.storage.manifest import CONFIG, MANIFEST
from metaslac.storage.named import ZOO_PREFIX, shipped_names

RUNS = "runs"  # where trainings go unless told otherwise
MOST_OFFERED = 200

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def families(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of families; those of dm_control's suite once a letter of them is there."""
    from metaslac.envs.names import SUITE
    from metaslac.envs.registry import family_names

    return _beginning(incomplete, [*family_names(), *(SUITE if incomplete else ())])


def shipped(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the agents that are shipped."""
    return _beginning(incomplete, shipped_names())


def agents(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Agents that are shipped, and directories of runs, checkpoints and exported agents; or any directory."""
    names = [f"{ZOO_PREFIX}{name}" for name in shipped_names()]
    return _or_any(_beginning(incomplete, [*names, *_trained(incomplete)]))


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Directories of runs; or any directory."""
    return _or_any(_beginning(incomplete, _trained(incomplete, CONFIG)))


def _beginning(incomplete: str, names: list[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)][:MOST_OFFERED]


def _or_any(found: list[CompletionItem]) -> list[CompletionItem]:
    return found or [CompletionItem("", type="dir")]


def _trained(incomplete: str, *kinds: str) -> list[str]:
    """Directories beside what is typed, or in runs/ where nothing is, that hold a file of a kind."""
    folder = os.path.dirname(incomplete) if incomplete else RUNS
    written = f"{folder.rstrip('/')}/" if folder else ""
    return [
        written + name for name in sorted(_with_file(user_path(folder or "."), kinds or (CONFIG, MANIFEST)))
    ]


def _with_file(folder: Path, kinds: tuple[str, ...]) -> Iterator[str]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and any(os.path.isfile(entry / kind) for kind in kinds):
            yield entry.name


class Bash(BashComplete):
    """As click's, but for words with a colon, such as zoo:NAME, which bash hands over in pieces."""

    _there = ""  # what bash has of the word before the piece that it completes

    def get_completion_args(self) -> tuple[list[str], str]:
        """Words before the one that is completed, and that one as far as it is typed."""
        args, incomplete = super().get_completion_args()
        joined: list[str] = []
        for piece in (*args, incomplete):
            if joined and (piece == ":" or joined[-1].endswith(":")):
                joined[-1] += piece
            else:
                joined.append(piece)
        if joined[-1] != incomplete:
            self._there = joined[-1][: joined[-1].rindex(":") + 1]
        return joined[:-1], joined[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """A line for the shell, without what it has already."""
        return f"{item.type},{item.value.removeprefix(self._there)}"


add_completion_class(Bash)
