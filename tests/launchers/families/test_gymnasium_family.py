"""The families of gymnasium's environments on the command line, those of docs/gymnasium_family.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from helpers.documents import python_block
from reports import ONE_THREAD, here, refusal
from runs import TINY

import metaslac
from metaslac import envs
from metaslac.evidence.evaluation_file import read_evaluation
from metaslac.replay.data_set import open_data_set

CODE = python_block("import gymnasium\nimport numpy as np\nfrom metaslac.envs import GymnasiumFamily")
SLIDERS = "sliders_of_docs:Sliders"
TRAIN = ["meta-train", "--preset", "quick", *ONE_THREAD, *TINY]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to work in, with the page's code in a file; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sliders_of_docs.py").write_text(CODE)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_one_is_shown_trained_on_adapted_to_evaluated_and_recorded(place: Path) -> None:
    here("families", "--show", SLIDERS, "--out", "sheet.png", "--image-size", "32")
    assert Path("sheet.png").stat().st_size > 1000
    here(*TRAIN, "--family", SLIDERS, "--updates", "4", "--run-dir", "run")
    rows = Path("run/progress.csv").read_text().splitlines()
    counted = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert int(counted["env_steps"]) >= 40 * 20 and int(counted["diverged_episodes"]) == 0
    given = "--checkpoint", "run", "--family", SLIDERS, *ONE_THREAD
    here("adapt", *given, "--episodes", "2", "--task", "45", "--json", "adapt.json")
    (task,) = json.loads(Path("adapt.json").read_text())["tasks"]
    assert len(task["returns"]) == 2 and all(-40 < value < 0 for value in task["returns"])
    here("evaluate", *given, "--episodes", "2", "--trials", "1")
    held_out = read_evaluation(Path("run")).held_out
    assert held_out.returns.shape == (10, 1, 2) and (held_out.returns < 0).all()
    here("dataset", "record", *given, "--episodes", "1", "--states", "--out", "data")
    recorded = open_data_set(Path("data"))
    assert recorded.about.family == SLIDERS and recorded.about.state_size == 1
    agent = metaslac.load("run", device="cpu")
    with pytest.raises(envs.FamilyError, match="sliders: unknown task 50"):
        envs.TaskEnv(SLIDERS, 32).reset(options={"task": 50})
    assert agent.family == SLIDERS


def test_pendulums_of_the_page_swing_as_their_gravity_has_it(place: Path) -> None:
    family = envs.make_family("sliders_of_docs:Swings", observation="state")
    assert [len(part) for part in (family.train_tasks, family.test_tasks, family.validation_tasks)] == [
        20,
        5,
        5,
    ]
    env = envs.make_vector_env(family, 2)
    gravity = [task.params[0] for task in family.tasks]
    tasks = [int(np.argmax(gravity)), int(np.argmin(gravity))]
    env.reset(seed=[0, 0], options={"task": tasks})
    theirs = [gymnasium.make("Pendulum-v1", g=gravity[task]) for task in tasks]
    for other in theirs:
        other.reset(seed=int(np.random.default_rng(0).integers(2**31)))
    for _ in range(20):
        _, rewards, *_ = env.step(np.ones((2, 1)))
        np.testing.assert_array_equal(rewards, [other.step(np.float32([2.0]))[1] for other in theirs])
    env.close()


def test_pendulums_of_the_page_are_drawn(place: Path) -> None:
    pytest.importorskip("pygame")
    here("families", "--show", "sliders_of_docs:Swings", "--out", "swings.png", "--tasks", "2")
    assert Path("swings.png").stat().st_size > 1000


FAULTS = {
    "chance from elsewhere": (
        ("self.x = self.np_random.uniform", "self.x = np.random.default_rng().uniform"),
        "sliders: task 0 starts in another way when it is started again from the same seed",
    ),
    "whole actions": (("Box(-0.2, 0.2, (1,))", "Discrete(3)"), "sliders: actions must be continuous"),
    "no pictures": (
        ("return picture", "return None"),
        "sliders: a picture must be uint8 (H, W, 3), not None",
    ),
    "no reward": (("- self.goal), False", "- self.goal) / 0, False"), "ZeroDivisionError: float division"),
    "a reward that is none": (("-abs(float(", "np.nan * abs(float("), "the reward is nan"),
    "no such package": (
        ("import gymnasium\n", "import gymnasium\nimport no_such\n"),
        "No module named 'no_such'",
    ),
    "an error at one task": (
        ('self.goal = options["goal"]', 'self.goal = 1 / (options["goal"] < 0.8)'),
        "cannot be started: ZeroDivisionError: division by zero (",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_fail_is_refused_before_a_run_is_there(place: Path, fault: str) -> None:
    change, said = FAULTS[fault]
    assert CODE.count(change[0]) == 1
    (place / "faulty.py").write_text(CODE.replace(*change))
    line = refusal(*TRAIN, "--family", "faulty:Sliders", "--updates", "4", "--run-dir", "run")
    assert line.startswith("metaslac: ") and said in line
    assert not Path("run").exists()


def test_what_is_left_of_an_episode_is_refused(place: Path) -> None:
    left = CODE.replace(
        "super().reset(seed=seed)\n", "super().reset(seed=seed if not hasattr(self, 'x') else 1)\n"
    )
    (place / "faulty.py").write_text(left)
    line = refusal(*TRAIN, "--family", "faulty:Sliders", "--updates", "4", "--run-dir", "run")
    assert "nothing may be left of the last" in line


def test_meta_world_of_the_page_plays_tasks_that_start_alike_and_differ_in_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("metaworld")
    (tmp_path / "reach_of_docs.py").write_text(python_block("import metaworld"))
    monkeypatch.syspath_prepend(tmp_path)
    family = envs.make_family("reach_of_docs:Reach", image_size=32)
    assert (len(family.train_tasks), len(family.test_tasks)) == (50, 50)
    env = envs.make_vector_env(family, 2)
    try:
        first, _ = env.reset(seed=[3, 3], options={"task": [0, 60]})
        again, _ = env.reset(seed=[3, 3], options={"task": [0, 60]})
        np.testing.assert_array_equal(first, again)
        rewards = env.step(np.zeros((2, 4)))[1]
        assert np.isfinite(rewards).all() and rewards[0] != rewards[1]
    finally:
        env.close()
