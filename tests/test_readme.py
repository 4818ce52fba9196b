"""The README against the files behind it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import untrained_checkpoint
from scripts import load_script

from metaslac import envs
from metaslac.config.text import differences, from_dict
from metaslac.evidence.evaluation_file import read_evaluation

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "family",
    [
        *("point_robot", "reacher_goal", "cheetah_vel", "walker_rand_params"),
        *("cheetah_vel/pearl", "point_robot/offline"),
    ],
)
def test_its_tables_are_those_of_the_raw_returns(family: str) -> None:
    tables = load_script("results/table.py").tables(family)
    assert tables.count("\n") > 5 and tables in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("study", "rows"),
    [
        ("factors", 3),
        ("ablation", 2),
        ("drawing", 3),
        ("redrawn", 2),
        ("features", 3),
        ("contexts", 2),
        ("offline", 7),
    ],
)
def test_its_tables_of_studies_are_those_of_their_files(study: str, rows: int) -> None:
    table = getattr(load_script("results/table.py"), f"{study}_table")()
    assert table.count("\n") == rows + 1 and table in (ROOT / "README.md").read_text()


def test_the_ablation_differs_in_its_factors_alone() -> None:
    with_diagonal, with_rank = (
        read_evaluation(ROOT / f"results/point_robot/{name}.json").about
        for name in ("diagonal/infer-s0", "infer-s0")
    )
    assert with_diagonal["trained_with"] == with_rank["trained_with"]
    assert differences(from_dict(with_diagonal["settings"]), from_dict(with_rank["settings"])) == [
        "task.factor_rank (0, 2)"
    ]


def test_what_is_compared_of_drawing_is_the_same_agents_or_differs_in_that_alone() -> None:
    folder = ROOT / "results/point_robot/drawing"
    for seed in (0, 1):
        once, anew, trained = (
            read_evaluation(folder / name / f"infer-s{seed}.json").about
            for name in ("once-once", "once-anew", "anew-anew")
        )
        assert (once["redraw_every"], anew["redraw_every"], trained["redraw_every"]) == (0, 1, 1)
        assert (once["settings"], once["trained_with"]) == (anew["settings"], anew["trained_with"])
        assert differences(from_dict(once["settings"]), from_dict(trained["settings"])) == [
            "train.redraw_every (0, 1)",
            "evaluation.redraw_every (0, 1)",
        ]


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/**/*.json")), ids=lambda path: path.stem)
def test_every_result_says_where_it_comes_from(path: Path) -> None:
    about = read_evaluation(path).about
    assert about["task_hash"] == envs.make_family(about["family"]).task_hash
    assert (
        path.relative_to(ROOT / "results").parts[0] == about["family"]
        and path.stem == f"{about['inference']}-s{about['train_seed']}"
    )
    for commit in (about["commit"], about["trained_with"]["commit"]):
        assert re.fullmatch("[0-9a-f]{40}", commit)  # of files as committed
    assert about["command"].startswith("metaslac evaluate ") and about["hardware"]["processor"]


def test_its_picture_and_links_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("docs/adaptation.png", "docs/walker_rand_params.png", "Makefile"):
        assert f"]({name})" in text and (ROOT / name).is_file()


def test_its_family_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(
        r"```python\n(import numpy as np\nfrom metaslac.envs import TaskFamily.*?)```",
        (ROOT / "README.md").read_text(),
        re.DOTALL,
    )
    (tmp_path / "gravity_of_readme.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    family = envs.make_family("gravity_of_readme:CheetahGravity", image_size=32)
    env = envs.make_vector_env(family, 2)
    gravity = [task.params[0] for task in family.tasks]
    heavy, light = int(np.argmax(gravity)), int(np.argmin(gravity))
    frames, _ = env.reset(seed=[0, 0], options={"task": [heavy, light]})
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
