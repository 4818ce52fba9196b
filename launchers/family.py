"""The family a command works on: made from its name, and its code tried before the work starts.

Which families there are is in `envs`; listing and showing them is `families.py`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

import click
import numpy as np

from metaslac.errors import MetaslacError

if TYPE_CHECKING:
    from envs.family import Family

Command = TypeVar("Command", bound=Callable[..., object])


def family_option(name: str) -> str:
    """What a later command on the same family needs as well: --family, if that is the user's own code."""
    from envs.registry import names_a_module

    return f" --family {shlex.quote(name)}" if names_a_module(name) else ""


def same_family_option(command: Command) -> Command:
    """--family, for a command whose checkpoint says which family it is."""
    option = click.option(
        "--family",
        show_default="the checkpoint's",
        help="Only ever the checkpoint's own; needed where that is module:attribute, to allow the import.",
    )
    return option(command)


def open_family(name: str, *, image_size: int, action_repeat: int, observation: str = "pixels") -> Family:
    """The family called `name`, its task lists read.

    A module named in `name` may lie in the current directory. That is searched last, and only once a
    module was asked for, so that files lying about cannot offer families of their own.

    Raises FamilyError, in one line, for whatever is wrong with it.
    """
    from envs import make_family
    from envs.registry import names_a_module

    if names_a_module(name) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with blamed_on(name):
        family = make_family(
            name, image_size=image_size, action_repeat=action_repeat, observation=observation
        )
        family.task_hash  # noqa: B018  for its errors: it reads all there is to a task list
    return family


def try_out(family: Family, name: str) -> None:
    """Play a step of a training and of a held-out task, so that what does not work shows now.

    Raises FamilyError, in one line, for a fault of the family, and where nothing can be rendered.
    """
    tasks = [family.train_tasks[0].index, family.test_tasks[0].index]
    with blamed_on(name), closing(family.make_vector_env(len(tasks))) as env:
        env.reset(seed=0, options={"tasks": tasks})
        env.step(np.zeros((len(tasks), family.action_size)))


@contextmanager
def blamed_on(name: str) -> Iterator[None]:
    """Make any error of another package's family a FamilyError of one line; ours keep their traceback."""
    from envs import FamilyError
    from envs.plugins import blame
    from envs.registry import is_built_in

    try:
        yield
    except (FamilyError, MetaslacError):
        raise
    except Exception as error:
        if is_built_in(name):
            raise
        raise FamilyError(f"family {name!r} does not work: {blame(error)}") from error
