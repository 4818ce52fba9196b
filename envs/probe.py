"""Whether pixels can be drawn here, by whom and how fast: `python -m metaslac.envs.probe` prints it as JSON.

Meant to be run as a process of its own, with a time-out, for a broken OpenGL may hang or crash.
"""

import json
import sys
import time

import numpy as np

from metaslac.envs.errors import RenderingUnavailable
from metaslac.envs.pixels.back_end import BACK_END
from metaslac.envs.registry import make_family
from metaslac.envs.worlds.vector_env import TaskVectorEnv


def probe(image_size: int = 64, num_envs: int = 16, seconds: float = 1.0) -> dict[str, str | float]:
    """Step and draw cheetah_vel for about `seconds`.

    Returns:
        back_end, vendor, renderer, and frames_per_second (environment steps with their pictures).

    Raises:
        RenderingUnavailable: pixels cannot be drawn here.
    """
    family = make_family("cheetah_vel", image_size=image_size)
    env = TaskVectorEnv(family, num_envs)
    try:
        env.reset(seed=0)
        return {**env.renderer, "frames_per_second": round(_steps_per_second(env, seconds), 1)}
    finally:
        env.close()


def main() -> int:
    """Print the result of probe(), or {"back_end", "error"}; the exit status is 1 if there are no pixels."""
    try:
        result = probe()
    except RenderingUnavailable as error:
        print(json.dumps({"back_end": BACK_END, "error": str(error)}))
        return 1
    print(json.dumps(result))
    return 0


def _steps_per_second(env: TaskVectorEnv, seconds: float) -> float:
    still = np.zeros((env.num_envs, env.family.action_size))
    env.step(still)
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        if steps and steps % (env.family.episode_steps - 1) == 0:
            env.reset()
        env.step(still)
        steps += 1
    return steps * env.num_envs / elapsed


if __name__ == "__main__":
    sys.exit(main())
