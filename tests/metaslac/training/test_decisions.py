"""Runs that are counted in decisions: random ones at the start, those that are kept, updates for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import CPU, FakeFamily, tiny_config
from runs import assert_equal, at, train, train_counted

from metaslac.config.limits import check_family
from metaslac.config.sections import Config
from metaslac.config.text import with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError
from metaslac.learning.learner import Learner
from metaslac.learning.memory import memory_need
from metaslac.training.collection import Collector, Played
from metaslac.training.trainer import MetaTrainer


def counted(**settings: Any) -> Config:
    """Two tasks a visit, episodes of 3 to 6 decisions."""
    config = with_values(
        tiny_config(),
        {
            "train.updates": 25,
            "train.initial_decisions": 7,
            "train.updates_per_decision": 0.5,
            "replay.decisions_per_task": 24,
            "checkpoint.every": 7,
            "checkpoint.keep": 99,
            "evaluation.every": 20,
            **settings,
        },
    )
    validate(config)
    return config


class Watch:
    """Updates made before every visit, and decisions of its episodes; those of the environment, not ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.visits: list[tuple[int, int]] = []
        self.updates = 0
        keep, update = Collector.keep, Learner.update

        def kept(collector: Collector, visit: Sequence[Played]) -> int:
            self.visits.append((self.updates, sum(len(played.episode.actions) for played in visit)))
            return keep(collector, visit)

        def updated(learner: Learner, batch: Any) -> Any:
            self.updates += 1
            return update(learner, batch)

        monkeypatch.setattr(Collector, "keep", kept)
        monkeypatch.setattr(Learner, "update", updated)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("per_decision", "updates"), [(1.0, 60), (0.5, 30), (0.01, 8)])
def test_updates_after_a_visit_go_by_its_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_decision: float, updates: int, ahead: bool
) -> None:
    watch = Watch(monkeypatch)
    counts = {"train.updates_per_decision": per_decision, "train.updates": updates}
    config = counted(**counts, **{"train.collect_ahead": ahead})
    assert train(tmp_path, config=config)
    assert watch.updates == updates
    begun = [before for before, _ in watch.visits]
    made = [after - before for before, after in zip(begun, begun[1:], strict=False)]
    decisions = [count for _, count in watch.visits[: len(made)]]
    assert begun[0] == 0 and len(set(decisions)) > 1  # episodes that end early are of many lengths
    assert made == [max(1, round(per_decision * count)) for count in decisions]


def test_lost_decisions_are_not_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of a lost episode, and one update follows a visit of which nothing is kept."""
    watch, play = Watch(monkeypatch), Collector.play

    def lost(*of: Any) -> list[Played]:
        return [entry._replace(episode=entry.episode._replace(lost=True)) for entry in play(*of)]

    monkeypatch.setattr(Collector, "play", lost)
    assert train(tmp_path, config=counted(**{"train.updates": 5, "train.updates_per_decision": 1.0}))
    assert [updates for updates, _ in watch.visits] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [False, True])
def test_going_on_is_exact(tmp_path: Path, ahead: bool) -> None:
    config = counted(**{"train.updates": 10, "train.collect_ahead": ahead})
    if not ahead:
        asked = train_counted(tmp_path / "whole", config)
        stops = [asked * part // 5 for part in range(5)]
    else:  # how often it asks while it waits for a visit is a matter of timing
        assert train(tmp_path / "whole", config=config)
        stops = [3, 15, 20]
    for stop in stops:
        assert not train(tmp_path / str(stop), at(stop), config)
        assert train(tmp_path / str(stop), config=config)
        assert_equal(tmp_path / "whole", tmp_path / str(stop))


@pytest.mark.parametrize("kind", ["slac", "critics"])
def test_going_on_is_exact_where_critics_leave_the_model_alone_or_train_the_encoder(
    tmp_path: Path, kind: str
) -> None:
    from_critics = {
        "model.elbo_weight": 0.0,
        "actor_critic.critic_input": "features",
        "train.encoder_from_critic": True,
        "train.random_shift": 2,
        "train.pretrain_updates": 0,
    }
    config = counted(
        **{"train.updates": 6, "train.predict_with_critics": False, "evaluation.sample_actions": True},
        **(from_critics if kind == "critics" else {}),
    )
    asked = train_counted(tmp_path / "whole", config)
    for stop in (asked // 3, asked - 2):
        assert not train(tmp_path / str(stop), at(stop), config)
        assert train(tmp_path / str(stop), config=config)
        assert_equal(tmp_path / "whole", tmp_path / str(stop))


@pytest.mark.parametrize(
    ("asked", "episodes"), [(0, [2, 3, 3, 4]), (1, [1, 1, 1, 1]), (7, [2, 2, 2, 3]), (13, [3, 3, 4, 5])]
)
def test_random_decisions_are_made_in_whole_episodes(asked: int, episodes: list[int]) -> None:
    """Of tasks whose episodes have 6, 5, 4 and 3 decisions, when 12 or so many are asked for of each."""
    config = counted(**{"train.initial_decisions": asked, "train.initial_episodes": 2})
    trainer = MetaTrainer(config, FakeFamily(uneven=True), CPU)
    trainer.collector.collect_random(trainer.family.make_vector_env(3))
    assert trainer.replay.added == episodes


@pytest.mark.parametrize(("decisions", "kept"), [(0, 4), (12, 2), (13, 3), (18, 3), (19, 4)])
def test_the_replay_keeps_as_many_full_episodes_as_hold_the_decisions(decisions: int, kept: int) -> None:
    config = counted(**{"replay.decisions_per_task": decisions})
    family = FakeFamily()
    trainer = MetaTrainer(config, family, CPU)
    trainer.collector.collect_random(family.make_vector_env(4))
    env = family.make_vector_env(config.train.tasks_per_visit)
    for _ in range(12):
        trainer.collector.visit(env, trainer.agent)
    assert trainer.replay.lengths.sum(1).tolist() == [6 * kept] * 4
    stores = [value for value in vars(trainer.replay).values() if isinstance(value, torch.Tensor)]
    assert memory_need(config, family, CPU).replay == sum(store.nbytes for store in stores)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"replay.decisions_per_task": 6}, "keeps 1 full episodes of each task, and there are 2 random"),
        ({"replay.decisions_per_task": 11, "train.posterior_episodes": 2}, "decisions_per_task is too small"),
        ({"replay.decisions_per_task": 0, "train.initial_decisions": 25}, "episodes_per_task is too small"),
        ({"train.initial_decisions": 25}, "keeps 4 full episodes of each task, and there are 5 random"),
    ],
)
def test_a_replay_without_room_for_what_is_played_is_refused(settings: dict[str, Any], named: str) -> None:
    check_family(counted(), FakeFamily())
    with pytest.raises(MetaslacError) as error:
        check_family(counted(**settings), FakeFamily())
    assert named in str(error.value) and "\n" not in str(error.value)


def test_evaluations_may_sample_actions() -> None:
    """Another policy than the greedy one, the same at every evaluation."""
    family, returns = FakeFamily(validation=True), []
    for sampled in (False, True, True):
        config = with_values(tiny_config(), {"evaluation.sample_actions": sampled})
        trainer = MetaTrainer(config, family, CPU)
        played = trainer.evaluate(family.make_vector_env(2))
        returns.append([entry.returns for entry in played])
    assert returns[0] != returns[1] == returns[2]
