"""What may be given to reset and step of many worlds: each argument checked, or refused in one line."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metaslac.envs.arrays import Array, Ids
from metaslac.envs.errors import FamilyError
from metaslac.envs.family import Family, Task

Seed = int | np.random.SeedSequence | np.random.Generator | None

ACTION_TOLERANCE = 1e-6
_SEED_OBJECTS = (np.random.SeedSequence, np.random.Generator, type(None))


def checked_actions(actions: Any, shape: tuple[int, ...] | None, named: Callable[[int], str]) -> Array:
    """Actions (N, A) clipped to [-1, 1]; `named` says for an error what a world is."""
    given = numbers(actions)
    if given.shape != shape:
        raise FamilyError(f"actions must have shape {shape}, got {given.shape}")
    # Written so that NaN is caught as well.
    bad = ~(np.abs(given) <= 1.0 + ACTION_TOLERANCE)
    if bad.any():
        world, entry = np.argwhere(bad)[0]
        value, where = given[world, entry], named(int(world))
        raise FamilyError(f"actions must be finite and in [-1, 1], got {value} in {where}")
    clipped: Array = np.clip(given, -1.0, 1.0)
    return clipped


def marked(mask: Any, num_envs: int) -> Ids:
    """The worlds that a reset_mask marks; all without one."""
    if mask is None:
        return np.arange(num_envs)
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (num_envs,) or not mask.any():
        raise FamilyError(f"reset_mask must be a bool array ({num_envs},) with some entry true")
    return np.flatnonzero(mask)


def chosen_tasks(indices: Any, family: Family, num_envs: int) -> list[Task | None]:
    """The task of each world: one index for all or one for each; None where none was chosen."""
    if indices is None:
        return [None] * num_envs
    if np.ndim(indices) == 0:
        return [family.task(indices)] * num_envs
    if len(indices) != num_envs:
        raise FamilyError(
            f"task must be one index, or one for each of the {num_envs} worlds, got {len(indices)}"
        )
    return [family.task(index) for index in indices]


def seeds_of(seed: Seed | Sequence[Seed], worlds: Ids, num_envs: int) -> list[Seed]:
    """The seed of each of these worlds, from one number for all or a seed for each of `num_envs`."""
    if seed is None:
        return [None] * len(worlds)
    if isinstance(seed, int | np.integer):
        seed = [int(seed) + world for world in range(num_envs)]
    if not isinstance(seed, Sequence | np.ndarray) or len(seed) != num_envs:
        raise FamilyError(f"seed must be one number or a seed for each of the {num_envs} worlds")
    seeds = [seed[world] for world in worlds]
    for one in seeds:
        number = isinstance(one, int | np.integer)
        if not (one >= 0 if number else isinstance(one, _SEED_OBJECTS)):
            raise FamilyError(f"a seed must be a whole number from 0, got {one!r}")
    return seeds


def numbers(actions: Any) -> Array:
    """Anything like an array of numbers as float64."""
    try:
        return np.asarray(actions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FamilyError("actions must be an array of numbers") from error
