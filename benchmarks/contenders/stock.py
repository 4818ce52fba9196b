"""One stock environment, measured whenever a line with a number of seconds comes in: a helper of envs.py.

It is a process of its own, for this project's package sets Mesa's thread count in the one that imports it.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[], None]


def gymnasium_step(name: str, size: int) -> Step:
    """A step of a gymnasium environment and its picture, as its documentation has it."""
    import gymnasium

    env: gymnasium.Env[Any, Any] = gymnasium.make(name, render_mode="rgb_array", width=size, height=size)
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(rng.uniform(low, high))
        env.render()
        if terminated or truncated:
            env.reset()
            env.render()  # a reset has a picture, too

    return step


def dm_control_step(name: str, size: int) -> Step:
    """A step of a task of dm_control's suite, '<domain>-<task>', and its picture from camera 0."""
    from dm_control import suite

    domain, _, task = name.partition("-")
    env = suite.load(domain, task, task_kwargs={"random": 0})
    env.reset()
    spec = env.action_spec()
    low, high = (np.clip(bound, -1.0, 1.0) for bound in (spec.minimum, spec.maximum))
    rng = np.random.default_rng(0)

    def step() -> None:
        ended = env.step(rng.uniform(low, high)).last()
        env.physics.render(size, size, camera_id=0)
        if ended:
            env.reset()
            env.physics.render(size, size, camera_id=0)

    return step


def main() -> None:
    """Serve rounds: a line of seconds in, a line of JSON out."""
    library, name, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    step = {"gymnasium": gymnasium_step, "dm_control": dm_control_step}[library](name, size)
    step()
    for line in sys.stdin:
        steps, cpu, start = 0, time.process_time(), time.perf_counter()
        while not steps or time.perf_counter() - start < float(line):
            step()
            steps += 1
        wall = time.perf_counter() - start
        cpu = time.process_time() - cpu
        print(json.dumps({"count": steps, "wall_seconds": wall, "cpu_seconds": cpu}), flush=True)


if __name__ == "__main__":
    main()
