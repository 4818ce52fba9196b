"""What image features know of the body: joint positions read from them, and from the pixels themselves.

    python benchmarks/features.py --checkpoint RUN --json results/features.json

Frames are of random actions. R^2 on other episodes: of a small network on the features of one frame, which is
what layers of an actor or a critic can get out of them, and of a convolutional one trained on the pixels.
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
from metaslac.networks.blocks import mlp
from metaslac.networks.images import ImageEncoder
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions

EPISODES, DECISIONS, WORLDS = 6, 50, 40  # the last episode of every world is held out
HOLD = 2  # decisions of each random action
UPDATES, BATCH, LR = 3_000, 64, 1e-3
AT_ONCE = 500  # frames


def random_frames(agent: Agent) -> tuple[Tensor, NDArray[np.float64]]:
    """Frames (N, H, W, 3) of random actions and the body's positions (N, nq) in them, in order of time."""
    config = agent.config.family
    family = envs.make_family(config.name, image_size=config.image_size, action_repeat=config.action_repeat)
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


def main() -> None:
    """Measure both and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the networks that read
    agent = load_agent(options.checkpoint, torch.device("cpu"))
    frames, positions = random_frames(agent)
    targets = torch.tensor((positions - positions.mean(0)) / positions.std(0), dtype=torch.float32)
    encoder = agent.networks["encoder"]
    with torch.no_grad():
        features = torch.cat([encoder(part) for part in frames.split(AT_ONCE)])
    features = (features - features.mean(0)) / features.std(0).clamp_min(1e-6)
    size, count = features.shape[1], targets.shape[1]
    model = agent.config.model
    pixels = ImageEncoder(agent.config.family.image_size, model.base_depth, 256)
    found = {
        "features": readable(mlp((size, 256, count), nn.ReLU), features, targets),
        "pixels": readable(nn.Sequential(pixels, mlp((256, 256, count), nn.ReLU)), frames, targets),
    }
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
