"""The tables of docs/ against the files behind them."""

import re
from pathlib import Path

import pytest
from helpers.documents import ROOT, everything
from scripts import load_script

from metaslac import envs
from metaslac.config.text import differences, from_dict
from metaslac.evidence.evaluation_file import read_evaluation


@pytest.mark.parametrize(
    "family",
    [
        *("point_robot", "reacher_goal", "cheetah_vel", "walker_rand_params"),
        *("cheetah_vel/pearl", "cheetah_vel/offline", "point_robot/offline", "point_robot/ranks"),
        *("cheetah_vel/long", "cheetah_dir", "cheetah_dir/pearl", "walker_rand_params/pearl"),
        *("ant_dir/pearl", "hopper_rand_params/pearl", "sparse_point_robot/pearl"),
        *("sparse_point_robot/factors", "walker_rand_params/latent"),
        *("walker_rand_params/critic_state", "walker_rand_params/critic_state/long"),
        "reacher_goal/features",
    ],
)
def test_its_tables_are_those_of_the_raw_returns(family: str) -> None:
    tables = load_script("results/table.py").tables(family)
    assert tables.count("\n") > 5 and tables in everything()


@pytest.mark.parametrize(
    ("study", "rows"),
    [
        ("overview", 5),
        ("factors", 3),
        ("ablation", 2),
        ("drawing", 3),
        ("reacher_drawing", 3),
        ("redrawn", 2),
        ("features", 3),
        ("contexts", 2),
        ("beliefs", 4),
        ("offline", 7),
    ],
)
def test_its_tables_of_studies_are_those_of_their_files(study: str, rows: int) -> None:
    table = getattr(load_script("results/table.py"), f"{study}_table")()
    assert table.count("\n") == rows + 1 and table in everything()


def test_the_ablation_differs_in_its_factors_alone() -> None:
    with_diagonal, with_rank = (
        read_evaluation(ROOT / f"results/point_robot/{name}.json").about
        for name in ("diagonal/infer-s0", "infer-s0")
    )
    assert with_diagonal["trained_with"] == with_rank["trained_with"]
    assert differences(from_dict(with_diagonal["settings"]), from_dict(with_rank["settings"])) == [
        "task.factor_rank (0, 2)"
    ]


@pytest.mark.parametrize("family", ["point_robot", "reacher_goal"])
def test_what_is_compared_of_drawing_is_the_same_agents_or_differs_in_that_alone(family: str) -> None:
    folder = ROOT / f"results/{family}/drawing"
    files = sorted((folder / "once-once").glob("*.json"))
    assert files
    for name in (file.name for file in files):
        once, anew, trained = (
            read_evaluation(folder / drawn / name).about for drawn in ("once-once", "once-anew", "anew-anew")
        )
        assert (once["redraw_every"], anew["redraw_every"], trained["redraw_every"]) == (0, 1, 1)
        assert (once["settings"], once["trained_with"]) == (anew["settings"], anew["trained_with"])
        other = differences(from_dict(once["settings"]), from_dict(trained["settings"]))
        assert set(other) <= {"train.redraw_every (0, 1)", "evaluation.redraw_every (0, 1)"}
        assert "train.redraw_every (0, 1)" in other


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
