"""The benchmark of the learner: its reference is the same arithmetic, its counts and ratios are right."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import CPU, tiny_config
from scripts import ROOT, load_script
from torch import Tensor

from metaslac.config.presets import resolve
from metaslac.learning.learner import Learner

BENCHMARK = load_script("benchmarks/learner.py")


def plain_slac(sizes: dict[str, int]) -> torch.nn.Module:
    reference: torch.nn.Module = load_script("benchmarks/slac_reference.py").PlainSLAC(sizes, "cpu")
    return reference


def copy_heads(source: torch.nn.Module, target: torch.nn.Module) -> None:
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    with torch.no_grad():
        for one, other in pairs:
            other.copy_(one)


def test_the_reference_has_our_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """With our weights, laid out as its layers have them, and the same noise."""
    config = tiny_config(inference="blind", size=0)
    config = replace(config, model=replace(config.model, hidden_size=16, base_depth=6, feature_size=10))
    actions, length, windows = 2, config.model.window, 5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = Learner(config, actions, 0, CPU, torch.Generator().manual_seed(0))
        reference = plain_slac(BENCHMARK.reference_sizes(config, actions))
    ours, encoder = learner.networks.latent_model, learner.networks.encoder
    last, z = ours.decoder.linear.out_features // 16, ours.latent_size
    with torch.no_grad():
        for index, convolution in enumerate(encoder.convolutions):
            reference.encoder[2 * index].load_state_dict(convolution.state_dict())
        matrix = encoder.linear.weight.view(-1, 4, 4, last).permute(0, 3, 1, 2)
        reference.encoder[-2].weight.copy_(matrix)
        reference.decoder[0].weight.copy_(ours.decoder.linear.weight.view(4, 4, last, z).permute(3, 2, 0, 1))
        for module in (reference.encoder[-2], reference.decoder[0]):
            module.bias.zero_()  # as ours are at first
        for index, convolution in enumerate(ours.decoder.convolutions, start=1):
            reference.decoder[2 * index].load_state_dict(convolution.state_dict())
    names = {
        "z1_first_posterior": "q_first",
        "z1_posterior": "q_next",
        "z1_prior": "p_next",
        "z2_first": "z2_first",
        "z2_next": "z2_next",
        "reward": "reward",
    }
    for name, its in names.items():
        copy_heads(getattr(ours, name), getattr(reference, its))

    generator = torch.Generator().manual_seed(1)
    size = config.family.image_size
    frames = torch.randint(
        0, 256, (windows, length + 1, size, size, 3), dtype=torch.uint8, generator=generator
    )
    a = torch.rand(windows, length, actions, generator=generator) * 2 - 1
    r = torch.rand(windows, length, generator=generator)
    noise = torch.randn(windows, length + 1, z, generator=generator)
    m, valid = torch.zeros(windows, 0), torch.ones(windows, length + 1, dtype=torch.bool)
    restart = torch.zeros(windows, length + 1, dtype=torch.bool)
    restart[:, 0] = True
    posterior = ours.infer(encoder(frames), a, m, restart, noise)
    loss, _ = ours.loss(frames, a, r, m, posterior, restart, valid)
    loss.backward()

    draws: list[Tensor] = []
    for t in range(length + 1):
        draws += noise[:, t].split((config.model.z1_size, config.model.z2_size), -1)
    monkeypatch.setattr(torch, "randn_like", lambda like: draws.pop(0))
    its_loss = reference.model_loss(frames.permute(0, 1, 4, 2, 3).float() / 255, a, r)
    its_loss.backward()
    assert draws == []
    assert its_loss.item() == pytest.approx(loss.item(), rel=1e-4)
    for name, its in names.items():
        pairs = zip(getattr(ours, name).parameters(), getattr(reference, its).parameters(), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-3)
    for index, convolution in enumerate(encoder.convolutions):
        expected = convolution.weight.grad
        torch.testing.assert_close(reference.encoder[2 * index].weight.grad, expected, rtol=1e-4, atol=1e-2)


def test_the_reference_is_as_large_as_ours() -> None:
    """At the sizes that are measured, weights only: a transposed convolution has fewer biases."""
    config, actions = resolve("default", BENCHMARK.SLAC), 6
    learner = Learner(config, actions, 0, CPU, torch.Generator())
    reference = plain_slac(BENCHMARK.reference_sizes(config, actions))

    def weights(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)

    ours, networks = learner.networks.latent_model, learner.networks
    heads = [reference.q_first, reference.q_next, reference.p_next, reference.z2_first, reference.z2_next]
    assert weights(*heads, reference.reward, reference.decoder) == weights(ours)
    assert weights(reference.encoder) == weights(networks.encoder)
    assert weights(reference.actor) == weights(networks.actor)


def test_work_is_counted_from_shapes() -> None:
    work = load_script("benchmarks/work.py").Work
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    with work() as counted:
        torch.mm(a, b)
    assert counted.flop == {torch.float32: 2 * 3 * 5 * 7}
    assert counted.bytes == 4 * (3 * 5 + 5 * 7 + 3 * 7)
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    forward = 2 * 2 * 4 * 8 * 8 * 3 * 3 * 3
    with work() as counted:
        torch.nn.functional.conv2d(x, w, padding=1).sum().backward()
    assert counted.flop == {torch.float32: 2 * forward}  # the input wants no gradient
    with work() as counted, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.nn.functional.conv2d(x, w, padding=1)
    assert counted.flop == {torch.bfloat16: forward}


def test_figures_follow_from_the_rounds_stored(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "learner.py", "--sizes", "tiny,quick-point_robot"]
    command += ["--rounds", "3", "--seconds", "0.01", "--threads", "1", "--json", tmp_path / "figures.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    tiny, quick = report["rows"]
    for row in (tiny, quick):
        times = [1e3 * one["wall_seconds"] / one["count"] for one in row["rounds"]["ours"]["update"]]
        assert len(times) == 3 and row["update_ms"] == pytest.approx(statistics.median(times))
        assert row["share_of_ceiling"] == pytest.approx(row["floor_ms"] / row["update_ms"])
        assert {"sampling", "encode", "filter", "backward", "optimisers"} <= set(row["parts_ms"])
        assert math.isclose(sum(row["parts_ms"].values()), row["update_ms"], rel_tol=1.0)
        assert f"{row['updates_per_second']:.2f}" in done.stdout
    for kind in ("update", "encode"):
        quotients = [
            (its["wall_seconds"] / its["count"]) / (mine["wall_seconds"] / mine["count"])
            for its, mine in zip(tiny["rounds"]["reference"][kind], tiny["rounds"]["ours"][kind], strict=True)
        ]
        assert tiny[f"{kind}_ratio_wall"] == pytest.approx(statistics.median(quotients))
    assert "update_ratio_wall" not in quick


def test_the_tables_of_the_docs_are_those_of_the_stored_figures() -> None:
    rows = json.loads((ROOT / "results" / "learner.json").read_text())["rows"]
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert BENCHMARK.table(rows) in page and BENCHMARK.parts_table(rows) in page
    encode = f"takes {rows[0]['encode_ms']:.0f} ms and the plain one {rows[0]['reference_encode_ms']:.0f} ms"
    assert f"{encode}: {rows[0]['encode_ratio_wall']:.1f} times as fast" in page
    assert rows[0]["update_ratio_wall"] >= 2.3 and rows[0]["encode_ratio_wall"] >= 3
    assert all(row["parts_ms"]["sampling"] < 0.03 * row["update_ms"] for row in rows)


def test_the_picture_of_costs_is_drawn_from_stored_figures(tmp_path: Path) -> None:
    figures = ROOT / "results" / "cost.json"
    command = [
        sys.executable,
        ROOT / "benchmarks" / "cost.py",
        "--redraw",
        figures,
        "--out",
        tmp_path / "a.png",
    ]
    subprocess.run(command, check=True, timeout=100)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    replays = json.loads(figures.read_text())["replays"]
    for row in replays:
        places = row["tasks"] * row["episodes"] * 51
        assert row["bytes"] == pytest.approx(places * (64 * 64 * 3 + 4 * 8 + 9))
