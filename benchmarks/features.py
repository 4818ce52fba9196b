"""What image features know of the body: joint positions read from them, and from the pixels themselves.

    python benchmarks/features.py --checkpoint RUN --json results/features.json
    python benchmarks/features.py --checkpoint RUN --history --json results/seen-FAMILY.json

Frames are of random actions. R^2 on other episodes: of a small network on the features of one frame, which is
what layers of an actor or a critic can get out of them, and of a convolutional one trained on the pixels.

With --history, of every entry of the family's state observation, velocities too, read from what a critic on
features sees: the actor's history of features and actions. The agent itself plays, on training tasks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaslac import envs
from metaslac.acting.agent import Agent, load_agent
from metaslac.acting.rollout import run_trial
from metaslac.config.sections import FamilyConfig
from metaslac.networks.blocks import mlp
from metaslac.networks.images import ImageEncoder
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions

EPISODES, DECISIONS, WORLDS = 6, 50, 40  # the last episode of every world is held out
HOLD = 2  # decisions of each random action
UPDATES, BATCH, LR = 3_000, 64, 1e-3
AT_ONCE = 500  # frames


def family_of(options: FamilyConfig) -> envs.Family:
    """The family as an agent sees it."""
    return envs.make_family(
        options.name,
        image_size=options.image_size,
        action_repeat=options.action_repeat,
        frames=options.frames,
    )


def random_frames(agent: Agent) -> tuple[Tensor, NDArray[np.float64]]:
    """Frames (N, H, W, 3) of random actions and the body's positions (N, nq) in them, in order of time."""
    config = agent.config.family
    family = family_of(config)
    rng = np.random.default_rng(0)
    frames, positions = [], []
    env = envs.make_vector_env(family, WORLDS, 1)
    for episode in range(EPISODES):
        seeds = [episode * WORLDS + world for world in range(WORLDS)]
        frame, _ = env.reset(seed=seeds, options={"task": [0] * WORLDS})
        for step in range(DECISIONS):
            frames.append(frame)
            positions.append(env.worlds.simulation.qpos.copy())
            if step % HOLD == 0:
                action = rng.uniform(-1, 1, (WORLDS, agent.action_size)).astype(np.float32)
            frame, *_ = env.step(action)
    env.close()
    return torch.from_numpy(np.concatenate(frames)), np.concatenate(positions)


def seen_and_states(agent: Agent) -> tuple[Tensor, Tensor]:
    """What a critic on features sees (N, X), standardised, and states (N, S), episode by episode."""
    family = family_of(agent.config.family)
    tasks = [family.train_tasks[i % len(family.train_tasks)] for i in range(WORLDS)]
    keys = [[(0, 99, world, episode) for world in range(WORLDS)] for episode in range(EPISODES)]
    env = envs.make_vector_env(family, WORLDS, 1, states=True)
    trials = run_trial(env, agent, tasks, keys, 1)
    env.close()
    window, encoder = agent.config.model.window, agent.networks["encoder"]
    rows, states = [], []
    for number in range(EPISODES):
        for trial in trials:
            episode = trial[number].episode
            with torch.no_grad():
                f = encoder(torch.from_numpy(episode.frames))
            a = torch.from_numpy(episode.actions)
            for t in range(window - 1, len(f)):
                first = t + 1 - window
                rows.append(torch.cat((f[first : t + 1].flatten(), a[first:t].flatten())))
            assert episode.states is not None
            states.append(torch.from_numpy(episode.states[window - 1 :]))
    seen = torch.stack(rows)
    return (seen - seen.mean(0)) / seen.std(0).clamp_min(1e-6), torch.cat(states)


def readable(network: nn.Module, inputs: Tensor, targets: Tensor) -> list[float]:
    """R^2 of each column of targets (N, T) on the last episode, when `network` has learned the others."""
    train = len(inputs) * (EPISODES - 1) // EPISODES
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), LR)
    for update in range(UPDATES):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, 2 * (1 - update / UPDATES))
        batch = torch.randint(train, (BATCH,), generator=generator)
        loss = (network(inputs[batch]) - targets[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = torch.cat([network(part) for part in inputs[train:].split(AT_ONCE)])
    error = (predicted - targets[train:]).square().mean(0)
    return (1 - error / targets[train:].var(0, correction=0)).tolist()


def of_frames(agent: Agent) -> dict[str, list[float]]:
    """R^2 of the body's positions from the features of one frame, and from its pixels."""
    frames, positions = random_frames(agent)
    targets = torch.tensor((positions - positions.mean(0)) / positions.std(0), dtype=torch.float32)
    encoder = agent.networks["encoder"]
    with torch.no_grad():
        features = torch.cat([encoder(part) for part in frames.split(AT_ONCE)])
    features = (features - features.mean(0)) / features.std(0).clamp_min(1e-6)
    size, count = features.shape[1], targets.shape[1]
    model = agent.config.model
    options = agent.config.family
    pixels = ImageEncoder(options.image_size, model.base_depth, 256, options.frames)
    return {
        "features": readable(mlp((size, 256, count), nn.ReLU), features, targets),
        "pixels": readable(nn.Sequential(pixels, mlp((256, 256, count), nn.ReLU)), frames, targets),
    }


def of_history(agent: Agent) -> dict[str, list[float]]:
    """R^2 of the state's entries, those that ever differ, from what a critic on features sees."""
    seen, states = seen_and_states(agent)
    states = states[:, states.std(0) > 1e-6]
    targets = (states - states.mean(0)) / states.std(0)
    network = mlp((seen.shape[1], 256, 256, targets.shape[1]), nn.ReLU)
    return {"history": readable(network, seen, targets)}


def main() -> None:
    """Measure both and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--history", action="store_true", help="of what a critic on features sees")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the networks that read
    agent = load_agent(options.checkpoint, torch.device("cpu"))
    found = of_history(agent) if options.history else of_frames(agent)
    for name, scores in found.items():
        print(f"R^2 from {name}:", ", ".join(f"{score:.2f}" for score in scores), flush=True)
    if options.json is not None:
        about = {
            "family": agent.config.family.name,
            "commit": source_commit(),
            "versions": library_versions(),
            "hardware": hardware(torch.device("cpu")),
        }
        options.json.write_text(json.dumps({**about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
