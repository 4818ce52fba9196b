"""Tasks, their weights and their visits, dealt to ranks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import tiny_config
from helpers.ranked import fork_ranks

from metaslac.config.limits import check_ranks
from metaslac.config.text import with_values
from metaslac.errors import MetaslacError
from metaslac.ranks.environment import attempt, local_ranks, started_by_torchrun
from metaslac.ranks.ranks import Ranks, ToldElsewhere
from metaslac.ranks.sharding import Shard


class Silent(Ranks):
    """One of several, which says nothing."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize(("tasks", "size", "total"), [(100, 3, 8), (7, 3, 7), (4, 4, 4), (10, 1, 3)])
def test_every_task_is_somebodys_and_counts_alike(tasks: int, size: int, total: int) -> None:
    shards = [Shard(Silent(rank, size), tasks) for rank in range(size)]
    assert sorted(task for shard in shards for task in shard.indices) == list(range(tasks))
    assert all(shard.indices[shard.number(task)] == task for shard in shards for task in shard.indices)
    shares = [shard.share(total) for shard in shards]
    assert np.cumsum([0, *(share.size for share in shares)])[:-1].tolist() == [s.first for s in shares]
    assert sum(share.size for share in shares) == total
    # Drawn `size` of a rank's tasks, each counts with a probability and a weight: 1 / tasks on average.
    for shard, share in zip(shards, shares, strict=True):
        own = len(shard.indices)
        assert 1 <= share.size <= own
        assert shard.weight * (1 / share.size) * (share.size / own) == pytest.approx(1 / tasks)


def test_the_slots_of_visits_are_dealt_in_turn() -> None:
    shards = [Shard(Silent(rank, 3), 100) for rank in range(3)]
    counts = [shards[0].visited(8, number) for number in range(30)]
    assert all(sum(each) == 8 and max(each) - min(each) <= 1 for each in counts)
    assert np.sum(counts, 0).tolist() == [80, 80, 80]
    assert all(max(each) <= shards[0].most_visited(8) for each in counts)
    few = [Shard(Silent(rank, 3), 4) for rank in range(3)]
    assert all(few[0].visited(4, number)[2] == 1 for number in range(9))  # it has no more


def test_shares_are_cuts_of_what_one_rank_would_draw() -> None:
    def draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    def drawn(rank: int, size: int) -> torch.Tensor:
        generator, share = torch.Generator().manual_seed(3), Shard(Silent(rank, size), 5).share(5)
        return share.cut(lambda *shape: draw(generator, *shape), 7, 2 * share.size, 3, axis=1)

    parts = [drawn(rank, 3) for rank in range(3)]
    assert [part.shape[1] for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat(parts, 1), drawn(0, 1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train.tasks_per_update": 2}, "3 ranks are too many: train.tasks_per_update is 2"),
        ({"train.tasks_per_visit": 2}, "3 ranks are too many: train.tasks_per_visit is 2"),
        ({"task.prior_beliefs": 9}, "task.prior_beliefs is of one process"),
        ({"actor_critic.cloning_weight": 0.1}, "actor_critic.cloning_weight is of one process"),
    ],
)
def test_what_ranks_cannot_do_is_refused(settings: dict[str, float], words: str) -> None:
    fits = {"train.tasks_per_update": 3, "train.tasks_per_visit": 3}
    check_ranks(with_values(tiny_config(), fits), 3, 3)
    with pytest.raises(MetaslacError, match=words):
        check_ranks(with_values(tiny_config(), {**fits, **settings}), 3, 3)
    with pytest.raises(MetaslacError, match="3 ranks are too many: training tasks are 2"):
        check_ranks(with_values(tiny_config(), fits), 2, 3)


def test_ranks_are_as_torchrun_says() -> None:
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert started_by_torchrun(told) == 1 and local_ranks(told) == (0, 1)  # nowhere to meet
    told |= {"MASTER_ADDR": "a", "MASTER_PORT": "1", "TORCHELASTIC_RESTART_COUNT": "2"}
    assert started_by_torchrun(told) == 8 and local_ranks(told) == (1, 4)
    assert attempt(told) == "0" and attempt({**told, "LOCAL_WORLD_SIZE": "8"}) == "2"


def speak(ranks: Ranks, folder: Path) -> None:
    assert ranks.gather(b"ab" * ranks.rank) == [b"", b"ab", b"abab"]
    assert ranks.tell({"rank": ranks.rank, "third": 1 / 3}) == [
        {"rank": rank, "third": 1 / 3} for rank in range(3)
    ]
    assert ranks.of_first([ranks.rank]) == [0]
    assert not ranks.agree(False) and ranks.agree(ranks.rank == 2)
    assert ranks.sum_(torch.tensor([ranks.rank, 1.0])).tolist() == [3.0, 3.0]
    try:
        with ranks.together():
            if ranks.rank:
                raise MetaslacError(f"of {ranks.rank}")
    except ToldElsewhere as told:
        assert str(told) == "rank 1: of 1" and ranks.rank != 1
    except MetaslacError as error:
        assert str(error) == "of 1" and ranks.rank == 1
    else:
        raise AssertionError
    with ranks.together():
        (folder / str(ranks.rank)).touch()


def test_what_ranks_say_to_each_other(tmp_path: Path) -> None:
    assert fork_ranks(3, speak, tmp_path) == [0] * 3
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
