"""Whose returns the rows of a run have: the validation tasks', and nobody looks at the held-out ones."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import CPU, FakeFamily, FakeVectorEnv, meta_train, tiny_config
from runs import at, rows, train

from metaslac.errors import MetaslacError
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.log.columns import evaluation_columns, return_columns, split_in


class Watched(FakeFamily):
    """Remembers which tasks are played."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"validation": True, **options})
        self.played: set[int] = set()

    def make_vector_env(self, num_envs: int, threads: int = 0, tolerant: bool = False) -> FakeVectorEnv:
        family, played = self, self.played

        class Env(FakeVectorEnv):
            def reset(self, *, seed: list[int], options: dict[str, Any]) -> Any:
                played.update(options["task"])
                return super().reset(seed=seed, options=options)

        return Env(family, num_envs, raise_on_divergence=not tolerant)


class Poisoned(FakeFamily):
    """Its held-out tasks cannot be played."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"validation": True, **options})

    def length(self, task: int) -> int:
        assert task not in (4, 5), "a held-out task is played"
        return super().length(task)


def columns(run_dir: Path) -> list[str]:
    with (run_dir / "progress.csv").open() as file:
        return next(csv.reader(file))


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "is evaluated on" in line]


def test_training_plays_training_and_validation_tasks_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = Watched()
    meta_train(tiny_config(), family, tmp_path, CPU, quiet=True)
    assert family.played == {0, 1, 2, 3, 6, 7, 8}
    assert set(evaluation_columns("validation", 2, True)) <= set(columns(tmp_path))
    assert not [name for name in columns(tmp_path) if name.startswith("test/")]
    assert not [row for row in rows(tmp_path) if row["validation/return_2"] == "nan"]
    assert [row["AverageReturn"] for row in rows(tmp_path)] == [
        row["validation/return_2"] for row in rows(tmp_path)
    ]
    assert warnings(capsys) == []
    manifest = load_checkpoint(tmp_path).manifest
    assert (manifest["train_tasks"], manifest["test_tasks"], manifest["validation_tasks"]) == (4, 2, 3)
    assert train(tmp_path / "other", kind=Poisoned)


def test_there_are_worlds_for_each_trial_on_validation_tasks(tmp_path: Path) -> None:
    made: list[int] = []

    class Counted(Watched):
        def make_vector_env(self, num_envs: int, *others: Any, **options: Any) -> FakeVectorEnv:
            made.append(num_envs)
            return super().make_vector_env(num_envs, *others, **options)

    config = tiny_config()
    config = replace(config, runtime=replace(config.runtime, worlds=100))
    meta_train(config, Counted(), tmp_path, CPU, quiet=True)
    assert made == [config.train.tasks_per_visit, 3 * config.evaluation.trials]


def test_a_family_without_is_evaluated_on_its_held_out_tasks_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = Watched(validation=False)
    meta_train(tiny_config(), family, tmp_path, CPU, quiet=True)
    assert family.played == {0, 1, 2, 3, 4, 5}
    assert split_in(columns(tmp_path)) == "test"
    told = "this run is evaluated on the held-out tasks of fake: there are no validation tasks"
    assert warnings(capsys) == [told]


def stopped_early(run_dir: Path, done: int, **family: Any) -> None:
    """A run of six updates that is stopped once it has made so many."""
    config = tiny_config()
    short = replace(config, train=replace(config.train, updates=done, lr_decay=0.0))
    assert train(run_dir, config=short, **family)


def go_on(run_dir: Path, family: FakeFamily) -> None:
    config = tiny_config()
    config = replace(config, train=replace(config.train, lr_decay=0.0))
    meta_train(config, family, run_dir, CPU, quiet=True, checkpoint=load_checkpoint(run_dir))


def test_a_run_that_was_begun_on_held_out_tasks_goes_on_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_early(tmp_path, 3, validation=False)
    before = rows(tmp_path)
    capsys.readouterr()
    family = Watched(uneven=True, terminates=True)
    go_on(tmp_path, family)
    assert family.played & {4, 5, 6, 7, 8} == {4, 5}
    assert rows(tmp_path)[: len(before)] == before and len(rows(tmp_path)) > len(before)
    assert rows(tmp_path)[-1]["test/return_2"] and split_in(columns(tmp_path)) == "test"
    assert warnings(capsys) == ["this run is evaluated on the held-out tasks of fake: it was begun so"]


def test_before_its_first_row_a_run_may_still_turn_to_validation_tasks(tmp_path: Path) -> None:
    assert not train(tmp_path, at(10), validation=False)
    assert not (tmp_path / "progress.csv").read_text()
    go_on(tmp_path, Poisoned(uneven=True, terminates=True))
    assert split_in(columns(tmp_path)) == "validation"


def test_a_run_whose_validation_tasks_are_gone_is_refused(tmp_path: Path) -> None:
    stopped_early(tmp_path, 3, validation=True)
    with pytest.raises(MetaslacError, match="rows of validation tasks, which fake no longer has") as caught:
        go_on(tmp_path, FakeFamily(uneven=True, terminates=True))
    assert "\n" not in str(caught.value)


def test_columns_say_whose_returns_they_have() -> None:
    assert split_in(["update", "time/seconds"]) is None
    for split in ("validation", "test"):
        names = evaluation_columns(split, 2, True)  # type: ignore[arg-type]
        assert split_in(["update", *names]) == split
        assert return_columns(names, split) == [  # type: ignore[arg-type]
            f"{split}/return_1",
            f"{split}/return_2",
        ]
