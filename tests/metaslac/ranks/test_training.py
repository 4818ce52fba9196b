"""Runs of several ranks: what they play, keep and save is what one rank does, and goes on with any number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import CPU
from helpers.rank_runs import STOPPED, assert_whole, config, run
from helpers.ranked import alone, fork_ranks
from runs import assert_equal, rows
from stacked import StackedFamily, resting

from metaslac.ranks.ranks import Ranks
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.trainer import MetaTrainer


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two ranks."""
    run_dir = tmp_path_factory.mktemp("two")
    assert fork_ranks(2, run, run_dir, config()) == [0, 0]
    return run_dir


def test_what_a_task_plays_does_not_depend_on_the_ranks(tmp_path: Path) -> None:
    """Random episodes of the first checkpoint, byte by byte."""
    alone(run, tmp_path / "1", config())
    assert fork_ranks(3, run, tmp_path / "3", config()) == [0] * 3
    entries = [
        load_checkpoint(tmp_path / size / "checkpoints" / "00000000").manifest["files"] for size in "13"
    ]
    one, three = ({k: v for k, v in entry.items() if k.startswith("replay/")} for entry in entries)
    assert len(one) == 4 and one == three
    for size in "13":
        assert_whole(tmp_path / size)


def test_every_rank_evaluates_its_own_and_the_first_writes(two: Path) -> None:
    assert_whole(two)
    assert load_checkpoint(two).manifest["ranks"] == 2
    assert [row["update"] for row in rows(two)] == ["1", "2", "3", "4", "5", "6"]
    assert all(row["validation/return_2"] != "nan" for row in rows(two))
    assert sorted(path.name for path in two.glob("events*"))


@pytest.mark.parametrize(
    "moment", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(5, marks=pytest.mark.slow), 9]
)
def test_a_rank_that_is_asked_to_stop_stops_all(two: Path, tmp_path: Path, moment: int) -> None:
    assert fork_ranks(2, run, tmp_path, config(), {1: moment}) == [STOPPED] * 2
    assert_whole(tmp_path)
    assert fork_ranks(2, run, tmp_path, config()) == [0, 0]
    assert_equal(two, tmp_path)


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), pytest.param((4, 3), marks=pytest.mark.slow)])
def test_a_run_goes_on_with_other_ranks(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """The replay is the same as before, task by task, and nothing is played twice."""
    before, after = sizes
    shorter = replace(config(), train=replace(config().train, updates=3))
    assert fork_ranks(before, run, tmp_path, shorter) == [0] * before
    saved = load_checkpoint(tmp_path)
    assert fork_ranks(after, run, tmp_path, config()) == [0] * after
    assert_whole(tmp_path)
    last = load_checkpoint(tmp_path)
    assert last.manifest["update"] == 6
    assert [row["update"] for row in rows(tmp_path)] == ["1", "2", "3", "4", "5", "6"]
    played = [json.loads(each.read("training.json"))["collector"] for each in (saved, last)]
    assert played[1]["visits"] == 3 > played[0]["visits"]
    assert sum(played[1]["episodes"]) == sum(played[0]["episodes"]) + 2 * 3
    kept = load_checkpoint(tmp_path / "checkpoints" / "00000004").manifest["files"]
    common = kept.keys() & saved.manifest["files"].keys()
    common = {name for name in common if name.startswith("replay/")}
    assert common and all(kept[name] == saved.manifest["files"][name] for name in common)


def test_visits_ahead_are_gone_on_with_exactly(tmp_path: Path) -> None:
    ahead = config(collect_ahead=True)
    assert fork_ranks(2, run, tmp_path / "whole", ahead) == [0, 0]
    assert fork_ranks(2, run, tmp_path / "stopped", ahead, {0: 6}) == [STOPPED] * 2
    assert fork_ranks(2, run, tmp_path / "stopped", ahead) == [0, 0]
    assert_equal(tmp_path / "whole", tmp_path / "stopped")


def keep(ranks: Ranks, folder: Path) -> None:
    """Collect, and visit once; features of all stored frames and their statistics go into a file."""
    settings = {"train.tasks_per_update": 4, "train.tasks_per_visit": 4, "replay.episodes_per_task": 20}
    of = resting(**settings)
    family = StackedFamily(uneven=True)
    trainer = MetaTrainer(of, family, CPU, ranks)
    env = family.make_vector_env(trainer.shard.most_visited(4), tolerant=True)
    trainer.collector.collect_random(env)
    trainer.kept.begin()
    trainer.collector.visit(env, trainer.agent)
    replay, standards = trainer.replay, trainer.learner.networks.standardised()
    frames = [replay.episode_frames(place, count) for _, place, count in replay.episodes()]
    with torch.no_grad():
        f = torch.cat([trainer.learner.networks.encoder(part) for part in frames])
    found = {"f": f}
    for number, standard in enumerate(standards):
        found |= {f"{number}/{name}": part for name, part in standard.state_dict().items()}
    torch.save(found, folder / f"{ranks.rank}.pt")


def test_inputs_are_standardised_by_what_all_ranks_stored(tmp_path: Path) -> None:
    assert fork_ranks(3, keep, tmp_path) == [0] * 3
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)]
    f = torch.cat([part["f"] for part in found]).double()
    for part in found:
        assert part["0/count"] == len(f)
        torch.testing.assert_close(part["0/mean"], f.mean(0))
        torch.testing.assert_close(part["0/squares"], f.var(0, correction=0) * len(f))
        assert all(torch.equal(part[key], value) for key, value in found[0].items() if key != "f")
