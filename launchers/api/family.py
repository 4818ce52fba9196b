"""The family that is worked on: made from its name, and its code tried before the work starts.

Which families there are is in `metaslac.envs`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaslac.config.sections import FamilyConfig
from metaslac.errors import MetaslacError

if TYPE_CHECKING:
    from metaslac.envs.family import Family, Task

MOST_WORLDS = 16  # that a family is tried out in


def family_option(name: str) -> str:
    """What a later command on the same family needs as well: --family, if that is the user's own code."""
    from metaslac.envs.registry import names_a_module

    return f" --family {shlex.quote(name)}" if names_a_module(name) else ""


def open_family(
    name: str, *, image_size: int, action_repeat: int, frames: int = 1, observation: str = "pixels"
) -> Family:
    """The family called `name`, its task lists read.

    A module named in `name` may lie in the current directory. That is searched last, and only once a
    module was asked for, so that files lying about cannot offer families of their own.

    Raises FamilyError, in one line, for whatever is wrong with it.
    """
    from metaslac.envs import make_family
    from metaslac.envs.registry import names_a_module

    if names_a_module(name) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with blamed_on(name):
        family = make_family(
            name,
            image_size=image_size,
            action_repeat=action_repeat,
            frames=frames,
            observation=observation,
        )
        family.task_hash  # noqa: B018  for its errors: it reads all there is to the task lists
    return family


def tasks_of(family: Family, split: str) -> tuple[Task, ...]:
    """The tasks of one of SPLITS. Raises MetaslacError where the family has none."""
    tasks = tuple(task for task in family.tasks if task.split == split)
    if not tasks:
        raise MetaslacError(f"--split {split}: {family.name} has no {split} tasks")
    return tasks


def try_out(family: Family, name: str) -> None:
    """Play a step of a task of each split, so that what does not work shows now.

    Of somebody else's family every task is played, its task lists must be the same in a new process, and
    its episodes must begin in the same way again.

    Raises FamilyError, in one line, for a fault of the family, and where nothing can be rendered.
    """
    from metaslac.envs import make_vector_env
    from metaslac.envs.registry import is_built_in
    from metaslac.envs.task_lists import check_frozen

    splits = family.train_tasks, family.test_tasks, family.validation_tasks
    tasks = [split[0].index for split in splits if split]
    if not is_built_in(name):
        check_frozen(family, name)
        tasks = [task.index for task in family.tasks]
    worlds = min(len(tasks), MOST_WORLDS)
    with blamed_on(name), closing(make_vector_env(family, worlds)) as env:
        for start in range(0, len(tasks), worlds):
            chosen = [*tasks[start : start + worlds], *tasks[:worlds]][:worlds]
            first, _ = env.reset(seed=0, options={"task": chosen})
            env.step(np.zeros((worlds, family.action_size)))
            if start == 0 and not is_built_in(name):
                _check_same(family, chosen, first, env.reset(seed=0, options={"task": chosen})[0])


def _check_same(family: Family, tasks: Sequence[int], first: NDArray[Any], again: NDArray[Any]) -> None:
    """Raise FamilyError where an episode began in another way, though task and seed were the same."""
    from metaslac.envs import FamilyError

    for task, one, other in zip(tasks, first, again, strict=True):
        if not np.array_equal(one, other):
            raise FamilyError(
                f"{family.name}: task {task} starts in another way when it is started again from the same "
                "seed; all chance must come from what starts an episode, and nothing may be left of the last"
            )


def configured_family(options: FamilyConfig) -> Family:
    """The family of a run, seen as the run sees it. Raises as open_family does."""
    return open_family(
        options.name,
        image_size=options.image_size,
        action_repeat=options.action_repeat,
        frames=options.frames,
        observation=options.observation,
    )


@contextmanager
def blamed_on(name: str) -> Iterator[None]:
    """Make any error of another package's family a FamilyError of one line; ours keep their traceback."""
    from metaslac.envs import FamilyError
    from metaslac.envs.plugins import blame
    from metaslac.envs.registry import is_built_in

    try:
        yield
    except (FamilyError, MetaslacError):
        raise
    except Exception as error:
        if is_built_in(name):
            raise
        raise FamilyError(f"family {name!r} does not work: {blame(error)}") from error
