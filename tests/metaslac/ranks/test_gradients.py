"""What several ranks learn from their shares of a batch is what one learns from all of it, in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import CPU, FakeFamily, random_replay, tiny_config
from helpers.ranked import alone, fork_ranks

from metaslac.config.text import apply_settings
from metaslac.learning.batch import Batch, each
from metaslac.learning.learner import Learner
from metaslac.ranks.ranks import Ranks
from metaslac.ranks.sharding import Shard

TASKS = 5


def learn(ranks: Ranks, folder: Path, settings: list[str]) -> None:
    """Three steps on this rank's share of the same batches; weights, gradients and metrics go into a file."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[assignment, method-assign]  # features too
    config = tiny_config()
    config = replace(config, train=replace(config.train, tasks_per_update=TASKS, windows=8, extra_steps=1))
    config = apply_settings(config, settings)
    family = FakeFamily(uneven=True, terminates=True)
    replay = random_replay(family)
    shard = Shard(ranks, TASKS)
    share = shard.share(TASKS)
    torch.manual_seed(0)
    learner = Learner(config, 1, 1, CPU, torch.Generator().manual_seed(1), 0, shard)
    for name, optimizer in learner.optimizers.items():  # Adam makes steps of rounding, where there is nothing
        learner.optimizers[name] = torch.optim.SGD(optimizer.param_groups[0]["params"], 1e-5)
    tasks, generator = torch.tensor([3, 1, 0, 2, 1]), torch.Generator().manual_seed(2)
    params = torch.tensor([family.tasks[i].params for i in tasks])

    def own(part: torch.Tensor) -> torch.Tensor:
        part = part[share.first : share.first + share.size]
        return part.double() if part.is_floating_point() else part

    for step in (learner.pretrain, learner.update, learner.update):
        windows = replay.sample_windows(tasks, 8, config.model.window, generator)
        context = replay.sample_context(tasks, 2, 4, generator)
        metrics = step(Batch(each(windows, own), each(context, own), own(params)))
    found = {f"weight/{name}": part for name, part in learner.networks.state_dict().items()}
    for name, weight in learner.networks.named_parameters():
        if weight.grad is not None:
            found[f"gradient/{name}"] = weight.grad
    means = shard.mean({name: float(value) for name, value in metrics.items()})
    found |= {f"metric/{name}": torch.tensor(value) for name, value in means.items()}
    torch.save(found, folder / f"{ranks.size}-{ranks.rank}.pt")


@pytest.mark.parametrize(
    "settings",
    [
        ["model.contrast_weight=1.0", "model.inverse_weight=1.0", "model.heads=2", "train.random_shift=1"],
        [
            *["imagination.share=0.5", "model.heads=2", "imagination.penalty=log_prob"],
            *["actor_critic.critic_input=latent", "actor_critic.actor_input=latent"],
        ],
        ["task.inference=oracle", "actor_critic.policy_decay=0.1"],
    ],
)
def test_shares_of_a_batch_make_the_steps_of_the_whole(tmp_path: Path, settings: list[str]) -> None:
    alone(learn, tmp_path, settings)
    assert fork_ranks(2, learn, tmp_path, settings) == [0] * 2
    assert fork_ranks(3, learn, tmp_path, settings) == [0] * 3
    whole = torch.load(tmp_path / "1-0.pt", weights_only=True)
    assert any(name.startswith("gradient/") and part.abs().max() > 1e-3 for name, part in whole.items())
    for name in ("2-0", "2-1", "3-0", "3-1", "3-2"):
        found = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert found.keys() == whole.keys()
        for key, part in whole.items():
            torch.testing.assert_close(found[key], part, rtol=1e-10, atol=1e-10, msg=f"{name}: {key}")
    first, last = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("3-0", "3-2"))
    assert all(torch.equal(part, last[key]) for key, part in first.items())
