"""Memory: long use of a render pool, and many pools in turn, leave the process as large as it was before.

Each measurement is a process of its own; the figures are printed (pytest -s shows them).
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED_MB = 50.0

RESIDENT = """
import json, os
import numpy as np
from metaslac import envs
def resident_mb():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
"""
STEPS_AND_RESETS = """
env = envs.make_vector_env(envs.make_family("walker_rand_params", image_size=64), 16, threads=2)
rng = np.random.default_rng(0)
def play(episodes):
    steps = 0
    for _ in range(episodes):
        env.reset()
        for _ in range(32):
            _, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, (16, env.family.action_size)))
            ended = terminated | truncated
            if ended.any():
                env.reset(options={"reset_mask": ended})
            steps += 16
    return steps
play(10)
sizes, steps, episodes = [resident_mb()], 0, 0
for _ in range(20):
    steps, episodes = steps + play(10), episodes + 10
    sizes.append(resident_mb())
assert steps >= 100_000 and episodes >= 200
print(json.dumps(sizes))
"""
POOLS = """
family = envs.make_family("walker_rand_params", image_size=64, observation="state")
def make_pools(count):
    for _ in range(count):
        env = envs.make_vector_env(family, 16, threads=2)
        env.reset(seed=0)
        env.render()
        env.close()
make_pools(10)
sizes = [resident_mb()]
for _ in range(20):
    make_pools(10)
    sizes.append(resident_mb())
print(json.dumps(sizes))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells sizes on Linux only"),
]


@pytest.mark.parametrize("program", [STEPS_AND_RESETS, POOLS], ids=["steps and resets", "pools"])
def test_a_process_that_draws_does_not_grow(program: str) -> None:
    command = [sys.executable, "-c", RESIDENT + program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    print("MB after the warm-up and later:", [round(size) for size in sizes])
    assert max(sizes) - sizes[0] < ALLOWED_MB
