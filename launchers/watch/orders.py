"""What a person asks for on the page: orders as they come in JSON, checked, and what is wished after them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metaslac.errors import MetaslacError

if TYPE_CHECKING:
    from metaslac.envs.pixels.camera import Camera
    from metaslac.launchers.watch.tasks import Params, TaskChoice

SLOWEST, FASTEST = 0.5, 30.0  # decisions a second
FARTHEST = 3.0  # of an m by hand from zero, in each dimension
LARGEST = 1e6  # of any number


@dataclass(frozen=True)
class Wishes:
    """What is wished now."""

    params: Params  # of the task
    pace: float  # decisions a second
    redraw: bool = False  # whether m is drawn anew at every decision, from the next episode on
    hand: tuple[float, ...] | None = None  # the m (M,) to act on, whatever the belief
    paused: bool = False
    trial: int = 0  # how many new ones have been asked for


def follow(order: Any, wishes: Wishes, choice: TaskChoice, camera: Camera | None, task_size: int) -> Wishes:
    """What is wished after an order, an object of one entry.

    "click": a place [x, y] in the picture, from 0 to 1; "params": numbers (P,); "task": "next";
    "forget": true; "redraw" and "paused": a truth value; "hand": numbers (M,) or null; "pace": a number.
    A task that is chosen begins a new trial, even the same one.

    Args:
        camera: of the picture that was clicked; None if there is none yet.
        task_size: M.

    Raises MetaslacError for what is no such order.
    """
    if not isinstance(order, dict) or len(order) != 1:
        raise MetaslacError("an order is an object of one entry")
    ((name, value),) = order.items()
    if name == "click":
        place = _numbers(name, value, 2, 0.0, 1.0)
        if camera is None:
            raise MetaslacError("there is no picture yet")
        return _on(wishes, choice.clicked(camera, place))
    if name == "params":
        size = len(choice.family.param_names)
        return _on(wishes, choice.nearest(_numbers(name, value, size, -LARGEST, LARGEST)))
    if name == "task" and value == "next":
        return _on(wishes, choice.after(wishes.params))
    if name == "forget" and value is True:
        return _on(wishes, wishes.params)
    if name == "redraw" and isinstance(value, bool):
        return dataclasses.replace(wishes, redraw=value)
    if name == "paused" and isinstance(value, bool):
        return dataclasses.replace(wishes, paused=value)
    if name == "hand":
        hand = None if value is None else _numbers(name, value, task_size, -FARTHEST, FARTHEST)
        return dataclasses.replace(wishes, hand=hand)
    if name == "pace":
        (pace,) = _numbers(name, [value], 1, SLOWEST, FASTEST)
        return dataclasses.replace(wishes, pace=pace)
    raise MetaslacError("there is no such order")


def _on(wishes: Wishes, params: Params) -> Wishes:
    return dataclasses.replace(wishes, params=params, trial=wishes.trial + 1)


def _numbers(name: str, value: Any, size: int, low: float, high: float) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else []
    sound = all(
        isinstance(number, int | float) and not isinstance(number, bool) and low <= number <= high
        for number in numbers
    )
    if len(numbers) != size or not sound or not isinstance(value, list):
        raise MetaslacError(f"{name} takes {size} number{'s' * (size != 1)} from {low:g} to {high:g}")
    return tuple(float(number) for number in numbers)
