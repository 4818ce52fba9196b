"""How much of the simulator's state can be read from what a critic on features sees.

    python benchmarks/seen.py --checkpoint RUN --json results/seen-FAMILY.json

R^2 on other episodes, of a small network on the history of features and actions, of every entry of the
family's state observation; the agent itself plays, on training tasks, with sampled actions.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the repository, in place of this folder

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.features import EPISODES, WORLDS, readable
from metaslac import envs
from metaslac.acting.agent import Agent, load_agent
from metaslac.acting.rollout import run_trial
from metaslac.networks.blocks import mlp
from metaslac.storage.provenance import hardware, source_commit
from metaslac.storage.version import library_versions

HIDDEN = 256


def seen_and_states(agent: Agent) -> tuple[Tensor, Tensor]:
    """What a critic on features sees (N, X), standardised, and states (N, S), episode by episode."""
    options = agent.config.family
    family = envs.make_family(
        options.name,
        image_size=options.image_size,
        action_repeat=options.action_repeat,
        frames=options.frames,
    )
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


def main() -> None:
    """Measure and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the network that reads
    agent = load_agent(options.checkpoint, torch.device("cpu"))
    seen, states = seen_and_states(agent)
    differs = states.std(0) > 1e-6
    targets = ((states - states.mean(0)) / states.std(0).clamp_min(1e-6))[:, differs]
    network = mlp((seen.shape[1], HIDDEN, HIDDEN, targets.shape[1]), nn.ReLU)
    scores = np.full(states.shape[1], np.nan)
    scores[differs.numpy()] = readable(network, seen, targets)
    print("R^2 of each entry of the state:", ", ".join(f"{score:.2f}" for score in scores), flush=True)
    if options.json is not None:
        about = {
            "family": agent.config.family.name,
            "commit": source_commit(),
            "versions": library_versions(),
            "hardware": hardware(torch.device("cpu")),
        }
        options.json.write_text(json.dumps({**about, "r_squared": scores.tolist()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
