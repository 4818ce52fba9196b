"""The benchmark of the environments: it runs, its ratios follow from its figures, its plain loop is fair."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import ROOT, load_script

from metaslac import envs

SCRIPT = ROOT / "benchmarks" / "envs.py"


def test_ratios_are_quotients_of_the_figures_stored(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--families", "walker_rand_params,reacher_goal,point_robot"]
    command += ["--threads", "1,2", "--worlds", "4", "--image-size", "32", "--seconds", "0.05"]
    command += ["--rounds", "3", "--json", tmp_path / "figures.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    assert set(report) == {"settings", "versions", "hardware", "python", "back_end", "families"}
    assert report["settings"]["worlds"] == 4
    assert report["hardware"]["cores"] >= 1
    rows = report["families"]
    assert [(row["family"], row["threads"]) for row in rows] == [
        (name, threads)
        for name in ("walker_rand_params", "reacher_goal", "point_robot")
        for threads in (1, 2)
    ]
    for row in rows:
        assert row["renderer"]["back_end"] == report["back_end"]
        assert f"{row['env_steps_per_second']:.0f}" in done.stdout
        rounds = row["rounds"]
        for figure, kind in (
            ("physics_steps_per_second", "physics"),
            ("frames_per_second", "frames"),
            ("env_steps_per_second", "pixels"),
        ):
            assert len(rounds[kind]) == 3
            speeds = [one["count"] / one["wall_seconds"] for one in rounds[kind]]
            assert row[figure] == pytest.approx(statistics.median(speeds))
        costs = [1e6 * one["cpu_seconds"] / one["count"] for one in rounds["pixels"]]
        assert row["cpu_us_per_env_step"] == pytest.approx(statistics.median(costs))
        for other in ("stock", "one_world_loop"):
            if row[other] is None:
                assert row["family"] == "point_robot"
                continue
            for ratio, seconds in (("ratio_wall", "wall_seconds"), ("ratio_cpu", "cpu_seconds")):
                ours, its = (
                    [one["count"] / one[seconds] for one in rounds[kind]] for kind in ("pixels", other)
                )
                quotients = [mine / theirs for mine, theirs in zip(ours, its, strict=True)]
                assert row[other][ratio] == pytest.approx(statistics.median(quotients))
    assert [row["stock"] and row["stock"]["name"] for row in rows[::2]] == [
        "gymnasium Walker2d-v5",
        "dm_control reacher-easy",
        None,
    ]


@pytest.mark.parametrize("name", ["cheetah_vel", "walker_rand_params"])
def test_the_plain_loop_does_what_an_env_does(name: str) -> None:
    family = envs.make_family(name)
    assert isinstance(family, envs.TaskFamily)
    env = envs.make_vector_env(family, 1)
    loop = load_script("benchmarks/contenders/one_world.py").OneWorldLoop(family, 64, seed=0)
    frames, _ = env.reset(seed=[np.random.default_rng(0)], options={"task": [3]})
    loop._rng = np.random.default_rng(0)
    pictures = [(frames[0], loop.reset(family.tasks[3]))]
    rng = np.random.default_rng(1)
    for _ in range(10):
        action = rng.uniform(-1, 1, family.action_size)
        picture, ended = loop.step(action)
        frames, _, terminated, truncated, _ = env.step(action[None])
        pictures.append((frames[0], picture))
        np.testing.assert_array_equal(loop.data.qpos, env.worlds.simulation.qpos[0])
        assert ended == (terminated[0] or truncated[0])
        if ended:
            break
    assert len(pictures) > 3
    # As the capsules of the package are divided a little differently, the pictures are not quite equal.
    ours, its = (np.stack(part).astype(int) for part in zip(*pictures, strict=True))
    assert np.abs(ours - its).mean() < 0.2 < np.abs(ours[0] - ours[-1]).mean()
    loop.close()
    env.close()


def test_the_table_of_the_docs_is_that_of_the_stored_figures() -> None:
    rows = json.loads((ROOT / "results" / "envs.json").read_text())["families"]
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert load_script("benchmarks/envs.py").table(rows) in page
