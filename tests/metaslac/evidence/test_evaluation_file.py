"""evaluation.json: what is written is read again, what was tampered with is refused in a line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fakes import evaluation

from metaslac.acting.adaptation import TaskAdaptation
from metaslac.errors import MetaslacError
from metaslac.evidence.evaluation_file import (
    Trials,
    check_nothing_is_lost,
    evaluation_path,
    read_evaluation,
    trials_of,
    write_evaluation,
)


class Target(NamedTuple):
    """A task."""

    index: int
    params: tuple[float, ...]


def assert_same(one: Trials | None, other: Trials | None) -> None:
    assert one is not None and other is not None
    assert list(one.tasks) == list(other.tasks)
    for name in ("params", "returns", "belief_mean", "belief_width"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = evaluation()
    write_evaluation(tmp_path / "evaluation.json", written)
    for path in (tmp_path, tmp_path / "evaluation.json"):
        read = read_evaluation(path)
        assert read.about == written.about
        assert_same(read.held_out, written.held_out)
        assert_same(read.training, written.training)
    write_evaluation(tmp_path / "other.json", replace(written, training=None))
    assert read_evaluation(tmp_path / "other.json").training is None


def test_an_older_one_says_what_was_done_before_there_was_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    younger = {"split", "redraw_every", "mean_below", "sample_actions", "observation", "privileged", "stream"}
    younger |= {"context"}
    write_evaluation(path, evaluation())
    values = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in values.items() if name not in younger}))
    assert read_evaluation(path).about == evaluation().about


def test_a_lost_episode_stays_not_a_number(tmp_path: Path) -> None:
    written = evaluation()
    written.held_out.returns[1, 2, 0] = np.nan
    write_evaluation(tmp_path / "e.json", written)
    assert "NaN" not in (tmp_path / "e.json").read_text()  # which is no JSON
    assert np.argwhere(np.isnan(read_evaluation(tmp_path / "e.json").held_out.returns)).tolist() == [
        [1, 2, 0]
    ]


def test_of_a_run_it_is_inside_and_of_a_checkpoint_beside(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / "0010").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "0010" / "manifest.json").write_text("{}")
    assert evaluation_path(tmp_path / "run") == tmp_path / "run" / "evaluation.json"
    beside = tmp_path / "run" / "checkpoints" / "0010.evaluation.json"
    assert evaluation_path(tmp_path / "run" / "checkpoints" / "0010") == beside
    other = tmp_path / "run" / "evaluation-validation.json"
    assert evaluation_path(tmp_path / "run", "validation") == other
    write_evaluation(other, evaluation(split="validation"))
    assert read_evaluation(tmp_path / "run", "validation").about["split"] == "validation"


def test_a_missing_one_says_what_makes_it(tmp_path: Path) -> None:
    for split, words in (("test", ""), ("validation", " --split validation")):
        with pytest.raises(MetaslacError, match=f"metaslac evaluate --checkpoint {tmp_path}{words} makes it"):
            read_evaluation(tmp_path, split)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"family": None},
        {"train_seed": True},
        {"episodes": 3},
        {"settings": {}},
        {"split": None},
        {"redraw_every": "1"},
        {"mean_below": None},
        {"held_out": None},
        {"training": {"tasks": [1]}},
        {"param_names": ["goal_x"]},
        {"param_names": [1, 2]},
        {"update": 10**400, "held_out": {"tasks": [0], "params": [[10**400, 0]]}},
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "evaluation.json"
    write_evaluation(path, evaluation())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(MetaslacError, match="evaluation of this version") as caught:
        read_evaluation(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null"])
def test_what_is_no_evaluation_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "evaluation.json"
    path.write_bytes(content)
    with pytest.raises(MetaslacError):
        read_evaluation(path)


def adaptation(task: int, trial: int, steps: int) -> TaskAdaptation:
    """A trial of two episodes, of so many steps in all, with a belief that is half as wide after each."""
    stds = np.array([[1.0, 3.0]], np.float32) * 0.5 ** np.arange(steps + 1, dtype=np.float32)[:, None]
    return TaskAdaptation(
        Target(task, (float(task),)),
        trial,
        [10.0 * task + trial, 0.5],
        np.full((3, 2), task, np.float32),
        stds[[0, 1, -1]],
        [],
        stds,
        stds,
    )


def test_trials_are_gathered_task_by_task() -> None:
    played = [adaptation(task, trial, steps=2 + trial) for task in (7, 9) for trial in range(2)]
    gathered = trials_of(played, decisions=2)
    assert list(gathered.tasks) == [7, 9] and gathered.params.tolist() == [[7.0], [9.0]]
    assert gathered.returns[..., 0].tolist() == [[70.0, 71.0], [90.0, 91.0]]
    assert gathered.belief_mean.shape == (2, 2, 3, 2) and gathered.belief_mean[1, 0, 0, 0] == 9
    # 1 and 3 are 2 wide on average; only one of the two trials has three transitions, and none has four
    np.testing.assert_allclose(gathered.belief_width, [[2.0, 1.0, 0.5, 0.25, np.nan]] * 2)


def loss(path: Path, training: bool = True, **about: Any) -> str:
    """The line with which an evaluation of the same agent, but for `about`, is not put there."""
    with pytest.raises(MetaslacError) as caught:
        check_nothing_is_lost(path, {**evaluation().about, **about}, training)
    assert str(caught.value).endswith("; --overwrite replaces it") and "\n" not in str(caught.value)
    return str(caught.value)


def test_an_evaluation_is_replaced_by_its_like_only(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    check_nothing_is_lost(path, evaluation().about, training=False)  # there is none
    write_evaluation(path, evaluation())
    check_nothing_is_lost(path, {**evaluation().about, "command": "another", "hardware": {}}, training=True)
    assert f"{path} holds another evaluation: trials (3, 2) (there, asked for)" in loss(path, trials=2)
    assert "update (10, 20), commit (None, ab)" in loss(path, update=20, commit="ab")
    settings = {**evaluation().about["settings"], "task": {}}
    assert "evaluation: settings (there" in loss(path, settings=settings)
    assert "train_seed (0, 1)" in loss(path, train_seed=1)
    assert "training tasks (played, not asked for)" in loss(path, training=False)
    write_evaluation(path, replace(evaluation(), training=None))
    check_nothing_is_lost(path, evaluation().about, training=True)
    path.write_text("a letter")
    assert f"{path} is not the JSON of an evaluation" in loss(path)
