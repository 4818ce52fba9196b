"""When m is drawn anew from the belief while acting, and from what; by whom it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CPU, FRAME, FakeFamily, begun, make_agent, observed, tiny_config
from torch import Tensor
from torch.distributions import MultivariateNormal

from metaslac.acting.agent import Agent
from metaslac.acting.inference import ONCE, Drawing
from metaslac.acting.rollout import rng_of, run_trial
from metaslac.acting.single_task import SingleTaskAgent, drawing_of
from metaslac.config.sections import Config
from metaslac.config.text import with_values
from metaslac.errors import MetaslacError
from metaslac.networks.context_encoder import TaskBelief
from metaslac.networks.task_prior import TaskPrior
from metaslac.training.trainer import MetaTrainer


def trace(drawing: Drawing, explore: bool = False, steps: int = 6, slots: int = 2) -> list[dict[str, Any]]:
    """m and the belief that it may come from, at the start of an episode and after each of its steps."""
    agent = make_agent()
    agent.begin_task(slots)
    frames = np.stack([FRAME] * slots)
    seen = []
    agent.begin_episode(frames, [rng_of(7, slot) for slot in range(slots)], explore, drawing)
    for step in range(steps + 1):
        if step:
            agent.observe(np.full((slots, 1), 0.1 * step, np.float32), np.full(slots, -0.2 * step), frames)
        seen.append({"m": agent.m.clone(), "belief": agent._inference._known.belief})
    return seen


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("explore", [False, True])
def test_m_is_drawn_anew_after_so_many_decisions_from_the_belief_of_then(every: int, explore: bool) -> None:
    rngs = [rng_of(7, slot) for slot in range(2)]  # the same numbers as the agent's
    m = None
    for step, seen in enumerate(trace(Drawing(every), explore)):
        if step % every == 0:
            noise = torch.stack([torch.from_numpy(rng.standard_normal(2, dtype=np.float32)) for rng in rngs])
            m = noise if explore and not step else seen["belief"].sample(noise)
        assert torch.equal(seen["m"], m), step


def test_m_stays_for_an_episode_unless_asked_for() -> None:
    first, *later = [seen["m"] for seen in trace(ONCE)]
    assert all(torch.equal(first, m) for m in later)


def test_what_is_drawn_has_the_beliefs_distribution() -> None:
    *_, last = trace(Drawing(6), slots=4000)
    belief = last["belief"]
    precision, shift = belief.precision[0].float(), belief.shift[0].float()
    exact = MultivariateNormal(torch.linalg.solve(precision, shift), precision_matrix=precision)
    assert torch.allclose(last["m"].mean(0), exact.mean, atol=0.05)
    assert torch.allclose(last["m"].T.cov(), exact.covariance_matrix, atol=0.05)


def test_among_beliefs_of_training_tasks_evidence_decides_and_exploring_knows_none() -> None:
    """The posterior of the mixture itself is tested in networks/test_task_prior.py."""
    agent = make_agent(with_values(tiny_config(), {"task.prior_beliefs": 4}))
    prior = agent.networks["task_prior"]
    assert isinstance(prior, TaskPrior)
    prior.take_in(torch.tensor([[1.0, 2.0], [-1.0, 0.0], [3.0, -2.0]]))
    agent.begin_task(2)
    frames = np.stack([FRAME, FRAME])
    for explore in (True, False, True):
        agent.begin_episode(frames, [rng_of(7, slot) for slot in range(2)], explore, Drawing(2))
        rngs = [rng_of(7, slot) for slot in range(2)]
        noise = torch.stack([torch.from_numpy(rng.standard_normal(3, dtype=np.float32)) for rng in rngs])
        belief = agent._inference._known.belief
        evidence = TaskBelief(belief.precision - torch.eye(2), belief.shift)
        nothing = TaskBelief(torch.zeros(2, 2, 2), torch.zeros(2, 2))
        among = prior.hypotheses(2)
        assert torch.allclose(agent.m, prior.draw(among, nothing if explore else evidence, noise))
        for _ in range(3):
            agent.observe(np.full((2, 1), 0.3, np.float32), np.full(2, -0.2), frames)


def test_rewards_observed_or_given_say_which_belief_of_a_training_task_it_is() -> None:
    """Of a network that foretells r = m_1, whatever is seen."""
    settings = {"task.prior_beliefs": 4, "task.reward_std": 0.1}
    agent = make_agent(with_values(tiny_config(), settings))
    prior = agent.networks["task_prior"]
    assert isinstance(prior, TaskPrior) and prior.reward is not None

    def foretells_m(f: Tensor, a: Tensor, r: Tensor, f_next: Tensor, m: Tensor) -> Tensor:
        assert f.shape[:-1] == a.shape[:-1] == f_next.shape[:-1] == m.shape[:-1]
        return -0.5 * ((r - m[..., 0]) / 0.1).square()

    prior.reward.log_likelihood = foretells_m
    prior.take_in(torch.tensor([[1.0, 2.0], [-1.0, 0.0], [3.0, -2.0]]))
    frames, actions = np.stack([FRAME, FRAME]), np.full((2, 1), 0.3, np.float32)
    agent.begin_task(2)
    agent.begin_episode(frames, [rng_of(7, slot) for slot in range(2)], True, Drawing(2))
    assert all(any(torch.equal(m, mean) for mean in prior.means[:3]) for m in agent.m)
    agent.observe(actions, np.array([3.0, -1.0]), frames)
    agent.observe(actions, np.array([3.0, 1.0]), frames, active=np.array([True, False]))
    assert agent.m.tolist() == [[3.0, -2.0], [-1.0, 0.0]]
    other = make_agent(with_values(tiny_config(), settings))
    other.networks.load_state_dict(agent.networks.state_dict())
    reward = other.networks["task_prior"].reward
    reward.log_likelihood = foretells_m
    other.begin_task(2)
    shown = frames[:1].repeat(2, 0), actions[:1], np.array([1.0], np.float32)
    other.take_in([[], [shown]])
    explored = []
    for slot_seed in range(20):
        other.begin_episode(frames, [rng_of(slot_seed, slot) for slot in range(2)])
        explored.append(other.m[0, 0].item())
        assert other.m[1].tolist() == [1.0, 2.0]
    assert set(explored) == {1.0, -1.0, 3.0}


@pytest.mark.parametrize("every", [0, 1])
def test_where_the_belief_is_narrow_its_mean_is_taken(every: int) -> None:
    widths = [float(seen["belief"].gaussian.std.mean(1)[0]) for seen in trace(Drawing(1))]
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0]
    limit = (widths[2] + widths[3]) / 2
    samples, seen = (trace(Drawing(every, low)) for low in (0.0, limit))
    for step, (sample, one) in enumerate(zip(samples, seen, strict=True)):
        narrow = every and step >= 3
        expected = one["belief"].gaussian.mean if narrow else sample["m"]
        assert torch.equal(one["m"], expected), step


@pytest.mark.parametrize("inference", ["oracle", "blind"])
def test_the_controls_have_nothing_to_draw(inference: str) -> None:
    agent = make_agent(tiny_config(inference=inference))
    agent.begin_task(1, np.array([[0.5]]))
    agent.begin_episode(FRAME[None], [rng_of(1)], drawing=Drawing(1, 9.0))
    before = agent.m.clone()
    agent.observe(np.zeros((1, 1), np.float32), np.zeros(1), FRAME[None])
    assert torch.equal(agent.m, before)


def test_slots_do_not_disturb_each_other() -> None:
    family, keys = FakeFamily(uneven=True), [(3, task) for task in range(4)]

    def played(tasks: list[int]) -> dict[int, Any]:
        env = family.make_vector_env(len(tasks))
        slots = [family.tasks[task] for task in tasks]
        chosen = [[keys[task] for task in tasks]] * 2
        trials = run_trial(env, make_agent(), slots, chosen, 1, drawing=Drawing(2))
        return dict(zip(tasks, trials, strict=True))

    together = played([0, 1, 2, 3])
    for task in range(4):
        for one, other in zip(played([task])[task], together[task], strict=True):
            np.testing.assert_allclose(one.episode.actions, other.episode.actions, rtol=1e-5, atol=1e-6)


def asked(config: Config, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Drawing]]:
    """What collection and the evaluation of a training ask an agent for."""
    found: dict[str, set[Drawing]] = {"visit": set(), "evaluation": set()}
    as_it_is = Agent.begin_episode
    trainer, where = MetaTrainer(config, FakeFamily(), CPU), ""

    def noted(agent: Agent, frames: Any, rngs: Any, explore: bool, drawing: Drawing) -> None:
        found[where].add(drawing)
        as_it_is(agent, frames, rngs, explore, drawing)

    monkeypatch.setattr(Agent, "begin_episode", noted)
    env = trainer.family.make_vector_env(2)
    where = "visit"
    trainer.collector.visit(env, trainer.agent)
    where = "evaluation"
    trainer.evaluate(env)
    return found


def test_collection_and_evaluation_have_settings_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    assert asked(config, monkeypatch) == {"visit": {ONCE}, "evaluation": {ONCE}}
    monkeypatch.undo()
    config = replace(
        config,
        train=replace(config.train, redraw_every=3),
        evaluation=replace(config.evaluation, redraw_every=1, mean_below=0.2),
    )
    assert asked(config, monkeypatch) == {"visit": {Drawing(3)}, "evaluation": {Drawing(1, 0.2)}}


def test_somebodys_own_loop_may_ask_for_it() -> None:
    config = tiny_config()
    config = replace(config, evaluation=replace(config.evaluation, redraw_every=2, mean_below=0.5))
    assert drawing_of(config) == (2, 0.5)
    assert drawing_of(config, 0, 0.0) == ONCE
    fixed, fresh = (SingleTaskAgent(make_agent(), redraw_every=every) for every in (None, 1))
    for agent, changes in ((fixed, False), (fresh, True)):
        before = begun(agent)._agent.m.clone()
        assert torch.equal(observed(agent)._agent.m, before) != changes
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(MetaslacError, match="redraw_every must be a whole number from 0"):
            SingleTaskAgent(make_agent(), redraw_every=wrong)  # type: ignore[arg-type]
    for wrong in (-0.1, float("nan"), "0.2"):
        with pytest.raises(MetaslacError, match="mean_below must be"):
            SingleTaskAgent(make_agent(), mean_below=wrong)  # type: ignore[arg-type]
