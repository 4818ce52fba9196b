"""The README against the files behind it."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import untrained_checkpoint

import envs

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("family", ["point_robot", "cheetah_vel"])
def test_its_tables_are_those_of_the_raw_returns(family: str) -> None:
    spec = importlib.util.spec_from_file_location("table", ROOT / "results/table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.table(family)
    assert table.count("\n") > 3 and table in (ROOT / "README.md").read_text()


def test_its_picture_and_links_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("docs/adaptation.png", "docs/walker_rand_params.png", "Makefile"):
        assert f"]({name})" in text and (ROOT / name).is_file()


def test_its_family_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(
        r"```python\n(import numpy as np\nfrom envs import TaskFamily.*?)```",
        (ROOT / "README.md").read_text(),
        re.DOTALL,
    )
    (tmp_path / "gravity_of_readme.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    family = envs.make_family("gravity_of_readme:CheetahGravity", image_size=32)
    env = family.make_vector_env(2)
    gravity = [task.params[0] for task in family.tasks]
    heavy, light = int(np.argmax(gravity)), int(np.argmin(gravity))
    frames, _ = env.reset(seed=[0, 0], options={"tasks": [heavy, light]})
    np.testing.assert_array_equal(frames[0], frames[1])
    for _ in range(10):
        frames, *_ = env.step(np.zeros((2, 6)))
    assert not np.array_equal(frames[0], frames[1])
    env.close()


def test_its_loop_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(
        r"```python\n(import gymnasium, metaslac\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    (run_dir,) = re.findall(r'metaslac.load\("(.*?)"\)', code)
    untrained_checkpoint(Path(run_dir) / "checkpoints/1", envs.make_family("point_robot", image_size=32))
    names: dict[str, Any] = {}
    exec(code, names)
    names["env"].close()
    widths = [sum(map(float, line.strip("[]").split())) for line in capsys.readouterr().out.splitlines()]
    assert len(widths) == 3 and 2 > widths[0] > widths[1] > widths[2] > 0
