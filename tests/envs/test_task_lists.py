"""Task lists are frozen: what differs at another call or in another process is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.task_lists import check_frozen

MODULE = """
import numpy as np
from metaslac.envs.families.point_robot import PointRobot

DRAWN = np.random.uniform(-1, 1, (4, 2)).tolist()

class Frozen(PointRobot):
    name = "frozen"

    def task_params(self):
        goals = np.random.default_rng(0).uniform(-1, 1, (4, 2)).tolist()
        return goals[:3], goals[3:]

class AtImport(PointRobot):
    name = "at_import"

    def task_params(self):
        return DRAWN[:3], DRAWN[3:]

class AtConstruction(PointRobot):
    name = "at_construction"

    def __init__(self, *options):
        super().__init__(*options)
        self.goals = np.random.uniform(-1, 1, (4, 2)).tolist()

    def task_params(self):
        return self.goals[:3], self.goals[3:]

class Validated(Frozen):
    name = "validated"

    def validation_params(self):
        return DRAWN

class FromASet(PointRobot):
    name = "from_a_set"

    def task_params(self):
        goals = [[len(word) / 100, 0.5] for word in {"a" * n for n in range(1, 50)}]
        return goals[:40], goals[40:]
"""

HOW = "let it draw from a generator of its own with a fixed seed, np.random.default_rng(0)"
SHARED = np.random.default_rng(0)  # the same in every process, and other numbers at every call


def drawn(rng: np.random.Generator | None = None) -> list[list[float]]:
    return (rng or np.random.default_rng()).uniform(-1, 1, (2, 2)).tolist()


class Unseeded(PointRobot):
    name = "unseeded"

    def task_params(self) -> tuple[list[list[float]], list[list[float]]]:
        return drawn(), [[0.0, 0.0]]


class Sharing(PointRobot):
    name = "sharing"

    def task_params(self) -> tuple[list[list[float]], list[list[float]]]:
        return [[0.0, 0.0]], drawn(SHARED)


class Unvalidated(PointRobot):
    name = "unvalidated"

    def task_params(self) -> tuple[list[list[float]], list[list[float]]]:
        return [[0.0, 0.0]], [[1.0, 0.0]]

    def validation_params(self) -> list[list[float]]:
        return drawn()


class Odd(PointRobot):
    """A task that is no number."""

    name = "odd"

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def task_params(self) -> tuple[list[list[float]], list[list[float]]]:
        return [[0.0, 0.0]], [[self.value, 0.0]]


@pytest.mark.parametrize(
    ("family", "hook"),
    [(Unseeded, "task_params"), (Sharing, "task_params"), (Unvalidated, "validation_params")],
)
def test_lists_that_differ_at_every_call_are_refused(family: type[PointRobot], hook: str) -> None:
    with pytest.raises(envs.FamilyError) as caught:
        _ = family().tasks
    assert str(caught.value).startswith(f"{family.name}: {hook}() gives other tasks at every call; {HOW}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_a_task_that_networks_cannot_be_told_is_refused(value: float) -> None:
    with pytest.raises(envs.FamilyError, match="every task's values must be finite"):
        _ = Odd(value).tasks
    assert Odd(1e38).tasks[1].params == (1e38, 0.0)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with the families above, which this process has imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    name = f"drawing_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


@pytest.mark.parametrize("name", ["AtImport", "AtConstruction", "Validated", "FromASet"])
def test_lists_that_differ_in_every_process_are_refused(module: str, name: str) -> None:
    family = envs.make_family(f"{module}:{name}", image_size=32)
    with pytest.raises(envs.FamilyError) as caught:
        check_frozen(family, f"{module}:{name}")
    assert str(caught.value).startswith(f"{family.name}: its tasks are others in every process; {HOW}")


def test_frozen_lists_are_not(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{module}:Frozen"
    check_frozen(envs.make_family(name, image_size=32, action_repeat=2), name)
    (tmp_path / f"{module}.py").write_text("print('what it says when it is imported')\n" + MODULE)
    check_frozen(envs.make_family(name, image_size=64), name)
    (tmp_path / f"{module}.py").unlink()  # as a family in a notebook
    check_frozen(envs.make_family(name, image_size=128), name)


def test_a_process_of_its_own_tells_the_hashes(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "metaslac.envs.task_lists", f'{{"name": "{module}:Frozen"}}']
    path = f"{tmp_path}:{Path(envs.__file__).resolve().parents[1]}"
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    family = envs.make_family(f"{module}:Frozen")
    assert f'["{family.task_hash}", "{family.validation_hash}"]' == done.stdout.strip()
