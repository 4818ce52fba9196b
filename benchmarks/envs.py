"""Speed of the families, beside stock environments and a plain one-world loop: `python benchmarks/envs.py`.

Contenders take turns, round by round, so that a busy machine slows them alike; they are in contenders/.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

import numpy as np

from benchmarks.contenders.one_world import Round, loop_for, timed
from metaslac import envs
from metaslac.envs.pixels.back_end import BACK_END
from metaslac.storage.provenance import machine

STOCK = {
    "ant": ("gymnasium", "Ant-v5"),
    "cheetah": ("gymnasium", "HalfCheetah-v5"),
    "hopper": ("gymnasium", "Hopper-v5"),
    "humanoid": ("gymnasium", "Humanoid-v5"),
    "reacher": ("dm_control", "reacher-easy"),
    "walker": ("gymnasium", "Walker2d-v5"),
}
PACKAGES = ("metaslac", "mujoco", "gymnasium", "dm_control", "numpy", "PyOpenGL")

Measure = Callable[[float], Round]  # goes on for about so many seconds


class Ours:
    """A vector env: with pictures, without them, and pictures alone."""

    def __init__(self, name: str, worlds: int, threads: int, size: int) -> None:
        family, states = envs.make_family(name, size), envs.make_family(name, size, observation="state")
        self._pixels = envs.make_vector_env(family, worlds, threads)
        self._states = envs.make_vector_env(states, worlds, threads)
        self._rng = np.random.default_rng(0)
        self.renderer = self._pixels.renderer
        source = self._states.worlds
        self.substeps = round(source.control_seconds / source.scene.source.model.opt.timestep)
        for env in (self._pixels, self._states):
            env.reset(seed=0)
            env.render()

    def pixels(self, seconds: float) -> Round:
        """Environment steps with their pictures, resets included."""
        return timed(lambda: self._step(self._pixels), seconds)

    def physics(self, seconds: float) -> Round:
        """MuJoCo's steps in environments whose observation is the state, resets included."""
        return timed(lambda: self._step(self._states) * self.substeps, seconds)

    def frames(self, seconds: float) -> Round:
        """Pictures of worlds that stand still."""
        return timed(lambda: len(self._states.render()), seconds)

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._pixels.close()
        self._states.close()

    def _step(self, env: envs.TaskVectorEnv) -> int:
        actions = self._rng.uniform(-1, 1, (env.num_envs, env.family.action_size))
        _, _, terminated, truncated, _ = env.step(actions)
        ended = terminated | truncated
        if ended.any():
            env.reset(options={"reset_mask": ended})
        return env.num_envs


class Stock:
    """A stock environment in its own process, with default rendering and Mesa's own choice of threads."""

    def __init__(self, library: str, name: str, size: int) -> None:
        ours = ("LP_NUM_THREADS", "PYOPENGL_PLATFORM")
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        script = ROOT / "benchmarks" / "contenders" / "stock.py"
        command = [sys.executable, str(script), library, name, str(size)]
        self.name = f"{library} {name}"
        self._folder = tempfile.TemporaryDirectory()  # MuJoCo leaves a log of its warnings where it runs
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=self._folder.name,
        )

    def pixels(self, seconds: float) -> Round:
        """Environment steps with their pictures, resets included."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended early; run benchmarks/contenders/stock.py to see why")
        answer: Round = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._folder.cleanup()


def stock_for(name: str) -> tuple[str, str] | None:
    """Library and name of the stock environment with a family's model, if there is one."""
    if name.startswith("dmc:"):
        return "dm_control", name.removeprefix("dmc:")
    return STOCK.get(name.split("_")[0])


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of a family, one row for each number of threads."""
    ours = {count: Ours(name, options.worlds, count, options.image_size) for count in options.threads}
    loop = loop_for(envs.make_family(name, options.image_size), options.image_size)
    asked = stock_for(name)
    stock = Stock(*asked, options.image_size) if asked else None
    kinds = ("physics", "frames", "pixels")
    measures: dict[Any, Measure] = {
        (count, kind): getattr(env, kind) for count, env in ours.items() for kind in kinds
    }
    others = {"stock": stock, "one_world_loop": loop}
    measures |= {key: other.pixels for key, other in others.items() if other is not None}
    rounds: dict[Any, list[Round]] = {key: [] for key in measures}
    for number in range(options.rounds):
        # Back and forth, so that a load that comes and goes favours none.
        for key in list(measures)[:: 1 if number % 2 == 0 else -1]:
            rounds[key].append(measures[key](options.seconds))
    rows = [row(name, count, env, rounds, stock) for count, env in ours.items()]
    for contender in (*ours.values(), loop, stock):
        if contender is not None:
            contender.close()
    return rows


def row(
    name: str, threads: int, env: Ours, rounds: dict[Any, list[Round]], stock: Stock | None
) -> dict[str, Any]:
    """The figures of a family at one number of threads."""
    kept = {kind: rounds[threads, kind] for kind in ("physics", "frames", "pixels")}
    kept |= {kind: rounds[kind] for kind in ("stock", "one_world_loop") if kind in rounds}
    return {
        "family": name,
        "threads": threads,
        "substeps": env.substeps,
        "physics_steps_per_second": rate(kept["physics"]),
        "frames_per_second": rate(kept["frames"]),
        "env_steps_per_second": rate(kept["pixels"]),
        "cpu_us_per_env_step": cost(kept["pixels"]),
        "stock": against(kept, "stock", stock.name if stock else ""),
        "one_world_loop": against(kept, "one_world_loop", "mj_step and mjr_render"),
        "renderer": env.renderer,
        "rounds": kept,
    }


def against(kept: dict[str, list[Round]], other: str, name: str) -> dict[str, Any] | None:
    """How many times faster we are than a contender: medians over rounds of what both did in one round."""
    if other not in kept:
        return None
    pairs = list(zip(kept["pixels"], kept[other], strict=True))

    def ratio(seconds: str) -> float:
        return statistics.median(
            (mine["count"] / mine[seconds]) / (its["count"] / its[seconds]) for mine, its in pairs
        )

    return {
        "name": name,
        "env_steps_per_second": rate(kept[other]),
        "cpu_us_per_env_step": cost(kept[other]),
        "ratio_wall": ratio("wall_seconds"),
        "ratio_cpu": ratio("cpu_seconds"),
    }


def rate(rounds: Sequence[Round]) -> float:
    """Median over rounds of what was done in a second."""
    return statistics.median(one["count"] / one["wall_seconds"] for one in rounds)


def cost(rounds: Sequence[Round]) -> float:
    """Median over rounds of the microseconds of CPU that one took, on all threads together."""
    return statistics.median(1e6 * one["cpu_seconds"] / one["count"] for one in rounds)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as text; ratios by wall clock, and by CPU time in brackets."""
    lines = [
        f"{'family':20}{'threads':>8}{'physics/s':>11}{'frames/s':>10}{'env steps/s':>12}{'CPU us':>8}"
        f"{'times stock':>20}{'times one-world loop':>23}"
    ]
    for one in rows:
        ratios = [
            f"{other['ratio_wall']:.2f} ({other['ratio_cpu']:.2f})" if other else "-"
            for other in (one["stock"], one["one_world_loop"])
        ]
        lines.append(
            f"{one['family']:20}{one['threads']:8}{one['physics_steps_per_second']:11.0f}"
            f"{one['frames_per_second']:10.0f}{one['env_steps_per_second']:12.0f}"
            f"{one['cpu_us_per_env_step']:8.0f}{ratios[0]:>20}{ratios[1]:>23}"
        )
    return "\n".join(lines)


def hardware() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and how busy the machine is."""
    return {**machine(), "load_average": os.getloadavg()}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default=",".join(envs.family_names()), help="names, by commas")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, by commas")
    parser.add_argument("--worlds", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args()
    options.families = options.families.split(",")
    options.threads = [int(count) for count in options.threads.split(",")]
    before = hardware()
    rows = []
    for name in options.families:
        rows += measure(name, options)
        print(table(rows[-len(options.threads) :]), flush=True)
    if options.json:
        report = {
            "settings": {key: value for key, value in vars(options).items() if key != "json"},
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "hardware": {**before, "load_average_after": os.getloadavg()},
            "python": platform.python_version(),
            "back_end": BACK_END,
            "families": rows,
        }
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
