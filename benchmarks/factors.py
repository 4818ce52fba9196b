"""What kind of factor tells the goal of point_robot: task inference alone, supervised, in a minute.

    python benchmarks/factors.py --json results/factors.json

The context encoder and the belief are the library's; they get positions in place of features, and in place
of the model and critics a small network predicts the reward of any position from a sample of the belief.
Contexts are two episodes, one towards a random place and one roughly towards the goal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

import numpy as np
import torch
from torch import Tensor

from metaslac import envs
from metaslac.evidence.probe import linear_probe, r_squared
from metaslac.networks.blocks import mlp
from metaslac.networks.context_encoder import ContextEncoder, TaskBelief
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions

RANKS = (0, 1, 2)  # 0: PEARL's diagonal factors
STEPS = 20  # of an episode
SIZE = 5  # of m
TASKS, PLACES = 16, 12  # of an update: tasks, and places whose reward is predicted
FEWEST = 4  # transitions of a context, of 2 x STEPS
REWARD_STD, KL_WEIGHT, LR = 0.2, 0.1, 1e-3  # as in the quick preset of point_robot
TRIALS = 50  # of each task when it is tested


class Study:
    """One context encoder that learns, and what it knows of goals it has not met."""

    def __init__(self, rank: int, seed: int, train: Tensor, test: Tensor) -> None:
        self.train, self.test = train, test
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = ContextEncoder(2, 2, SIZE, 200, rank)
            self.reward = mlp((SIZE + 2, 128, 128, 1), torch.nn.ReLU)
        self.optimizer = torch.optim.Adam([*self.encoder.parameters(), *self.reward.parameters()], LR)

    def learn(self, updates: int) -> None:
        """So many updates, the step falling to zero over the last half."""
        for update in range(updates):
            for group in self.optimizer.param_groups:
                group["lr"] = LR * min(1.0, 2 * (1 - update / updates))
            goals = self.train[torch.randint(len(self.train), (TASKS,), generator=self.generator)]
            count = torch.randint(FEWEST, 2 * STEPS + 1, (TASKS, 1), generator=self.generator)
            order = torch.rand(TASKS, 2 * STEPS, generator=self.generator).argsort(1).argsort(1)
            belief = self.belief(goals, order < count)
            likelihood = self.errors(belief, goals).square().sum(1).mean() / (2 * REWARD_STD**2)
            loss = likelihood + KL_WEIGHT * belief.kl_to_prior().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def score(self) -> dict[str, Any]:
        """R^2 of a linear probe of held-out goals, and the error of predicted rewards there."""
        beliefs = {}
        for name, goals in (("train", self.train), ("test", self.test)):
            repeated = goals.repeat_interleave(TRIALS, 0)
            beliefs[name] = repeated, self.belief(repeated, torch.ones(len(repeated), 2 * STEPS))
        (train_goals, train), (goals, test) = beliefs["train"], beliefs["test"]
        means = [belief.gaussian.mean.double().numpy() for belief in (train, test)]
        predicted = linear_probe(means[0], train_goals.double().numpy(), means[1])
        error = self.errors(test, goals).square().mean().sqrt()
        r2 = r_squared(predicted, goals.double().numpy())
        return {"r_squared": r2.tolist(), "reward_rmse": float(error)}

    def belief(self, goals: Tensor, weight: Tensor) -> TaskBelief:
        """Of two episodes on each goal (N, 2), the transitions of weight (N, 2 STEPS) only."""
        noise = 0.4 * torch.randn(goals.shape, generator=self.generator)
        episodes = [self.episode(self.uniform(len(goals))), self.episode(goals + noise)]
        x, a, x_next = (torch.cat(parts, 1) for parts in zip(*episodes, strict=True))
        r = -(x_next - goals[:, None]).norm(dim=-1)
        factors = self.encoder(x, a, r, x_next)
        return TaskBelief.prior(len(goals), SIZE, True, goals.device).update(factors, weight.float())

    def errors(self, belief: TaskBelief, goals: Tensor) -> Tensor:
        """Predicted less true reward (N, PLACES) of random places."""
        places = 1.3 * self.uniform(len(goals), PLACES)
        m = belief.sample(torch.randn(len(goals), SIZE, generator=self.generator))
        seen = torch.cat((m[:, None].expand(-1, PLACES, -1), places), -1)
        return self.reward(seen)[..., 0] + (places - goals[:, None]).norm(dim=-1)

    def episode(self, towards: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, actions and next positions (N, STEPS, 2) of going there from a random start."""
        x, steps = self.uniform(len(towards)), []
        for _ in range(STEPS):
            noise = 0.3 * torch.randn(x.shape, generator=self.generator)
            a = ((towards - x) / 0.1 + noise).clamp(-1, 1)
            steps.append((x, a, x + 0.1 * a))
            x = x + 0.1 * a
        positions, actions, following = (torch.stack(part, 1) for part in zip(*steps, strict=True))
        return positions, actions, following

    def uniform(self, *shape: int) -> Tensor:
        """Places (*shape, 2) in the square."""
        return 2 * torch.rand(*shape, 2, generator=self.generator) - 1


def main() -> None:
    """Measure every rank with every seed and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=1_500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    family = envs.make_family("point_robot")
    train, test = (
        torch.tensor(np.array([task.params for task in tasks]), dtype=torch.float32)
        for tasks in (family.train_tasks, family.test_tasks)
    )
    rows = []
    for rank in RANKS:
        for seed in range(options.seeds):
            start, study = time.perf_counter(), Study(rank, seed, train, test)
            study.learn(options.updates)
            row = {"rank": rank, "seed": seed, **study.score(), "seconds": time.perf_counter() - start}
            rows.append(row)
            r2 = ", ".join(f"{value:.3f}" for value in row["r_squared"])
            print(f"rank {rank}, seed {seed}: R^2 {r2}; rewards off by {row['reward_rmse']:.3f}", flush=True)
    if options.json is not None:
        about = {"updates": options.updates, "commit": source_commit(), "versions": library_versions()}
        about |= {"hardware": hardware(torch.device("cpu")), "task_hash": family.task_hash}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
