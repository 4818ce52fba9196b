"""The benchmark of growth: what it counts and its model of a network, each got another way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, load_script

from metaslac import envs
from metaslac.config.presets import resolve
from metaslac.networks.meta_slac import MetaSLAC

GROWTH = "benchmarks/ranks/growth.py"


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_a_ring_takes_what_its_messages_take_one_after_the_other(ranks: int) -> None:
    growth = load_script(GROWTH)
    network = growth.Network("", ranks, bytes_per_second=1e9, latency=1e-5)
    held = [{part: {rank} for part in range(ranks)} for rank in range(ranks)]
    seconds, sent = 0.0, 12e6
    for step in range(2 * (ranks - 1)):  # first parts are summed on their way, then passed on
        passed = [(rank, (rank - step) % ranks) for rank in range(ranks)]
        moved = [((rank + 1) % ranks, part, held[rank][part]) for rank, part in passed]
        for rank, part, whose in moved:
            held[rank][part] = held[rank][part] | whose
        seconds += sent / ranks / 1e9 + 1e-5
    assert all(whose == set(range(ranks)) for parts in held for whose in parts.values())
    assert growth.ring_seconds(sent, network) == pytest.approx(seconds)


def test_what_is_sent_is_the_weights_that_steps_move(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / GROWTH, "--presets", "quick", "--seconds", "0", "--json"]
    done = subprocess.run(
        [*command, tmp_path / "figures.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    config = resolve("quick", ["family.name=cheetah_vel"])
    family = envs.make_family("cheetah_vel")
    networks = MetaSLAC(config, family.action_size, len(family.param_names))

    def count(*modules: torch.nn.Module) -> int:
        return sum(weights.numel() for module in modules for weights in module.parameters())

    actor, critic = count(networks.actor), count(networks.critic)
    assert row["weights"]["actor"] == actor and row["weights"]["critic"] == critic
    steps = config.train.steps_per_batch + config.train.extra_steps
    reduces = [(one["whose"], one["numbers"]) for one in row["all_reduces"]]
    assert len(reduces) == 2 * steps  # the model is at rest, its prediction goes with the critics
    everything = critic + row["weights"]["model"] + row["weights"]["context"]
    learning = [("critic", everything), ("actor", actor + 1)]
    again = [("critic", critic), ("actor", actor + 1)]
    assert reduces == learning * config.train.steps_per_batch + again * config.train.extra_steps
    sent = [4 * amount / 1e6 for amount in (sum(numbers for _, numbers in reduces), everything)]
    line = done.stdout.splitlines()[1].split()
    assert line[0] == "quick" and line[5:8] == [str(len(reduces)), *(f"{amount:.2f}" for amount in sent)]


def test_the_pages_tables_are_those_of_the_stored_figures() -> None:
    rows = json.loads((ROOT / "results/growth.json").read_text())["rows"]
    counted, modelled = load_script(GROWTH).tables(rows).split("\n\n")
    page = (ROOT / "docs/cluster.md").read_text()
    assert f"```text\n{counted}\n```" in page and f"```text\n{modelled}\n```" in page
