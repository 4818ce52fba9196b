"""bfloat16 convolutions against float32 ones: losses, gradients, curves; and what stays float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import CPU, FakeFamily, tiny_config

from metaslac.config.sections import Config
from metaslac.learning import precision
from metaslac.learning.learner import Batch, Learner
from metaslac.learning.precision import Precision
from metaslac.training.trainer import MetaTrainer

FULL = Precision("cpu", torch.float32, torch.float32)
FIXED = Precision("cpu", torch.bfloat16, torch.float32)  # a CPU's
HALF = Precision("cpu", torch.bfloat16, torch.bfloat16)  # CUDA's
TOLERANCE = 2e-2


def config(name: str = "auto", seed: int = 0) -> Config:
    base = tiny_config()
    model = replace(base.model, base_depth=8, feature_size=32, z1_size=8, z2_size=16, hidden_size=32)
    return replace(
        base,
        model=model,
        # Many windows: where ReLU or the smaller of two critics switch sides, few of them do.
        train=replace(base.train, seed=seed, lr_model=1e-3, windows=64, model_windows=8),
        runtime=replace(base.runtime, precision=name),
    )


@pytest.fixture(scope="module")
def trainer() -> MetaTrainer:
    """With random episodes in its replay."""
    family = FakeFamily(uneven=True)
    trainer = MetaTrainer(config(), family, CPU)
    env = family.make_vector_env(4)
    trainer.collector.collect_random(env)
    return trainer


def learner(trainer: MetaTrainer, of: Precision) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = Learner(trainer.config, 1, 1, CPU, torch.Generator().manual_seed(2))
    made.encode.precision = of
    return made


@pytest.fixture
def batch(trainer: MetaTrainer) -> Batch:
    trainer.batches.generator.manual_seed(3)
    return trainer.batches.sample()


@pytest.mark.parametrize("of", [FIXED, HALF])
def test_losses_and_gradients_agree(trainer: MetaTrainer, batch: Batch, of: Precision) -> None:
    plain, fast = (learner(trainer, each) for each in (FULL, of))
    for each in (plain, fast):
        for optimizer in each.optimizers.values():
            optimizer.param_groups[0]["lr"] = 0.0  # every loss at the same weights
    before, after = plain.update(batch), fast.update(batch)
    for name, value in before.items():
        assert float(after[name]) == pytest.approx(float(value), rel=TOLERANCE, abs=TOLERANCE), name
    pairs = zip(plain.networks.named_parameters(), fast.networks.named_parameters(), strict=True)
    compared = 0
    for (name, one), (_, other) in pairs:
        if one.grad is not None:
            assert other.grad is not None and other.grad.dtype == torch.float32
            assert (one.grad - other.grad).norm() <= TOLERANCE * one.grad.norm() + 1e-4, name
            compared += 1
    assert compared > 30
    assert any(not torch.equal(before[name], after[name]) for name in before)  # it was bfloat16


def test_encoding_without_gradient_is_near_and_lower(trainer: MetaTrainer, batch: Batch) -> None:
    plain, fast = (learner(trainer, each) for each in (FULL, FIXED))
    frames = batch.windows.frames
    exact, near = plain.encode.fixed(frames), fast.encode.fixed(frames)
    assert near.dtype == torch.float32 and not near.requires_grad
    assert 0 < (exact - near).norm() < TOLERANCE * exact.norm()
    assert torch.equal(exact, plain.encode.trained(frames)) and torch.equal(
        exact, fast.encode.trained(frames)
    )


@pytest.mark.parametrize("of", [FIXED, HALF])
def test_weights_losses_and_optimisers_stay_float32(
    trainer: MetaTrainer, batch: Batch, of: Precision
) -> None:
    made = learner(trainer, of)
    metrics = made.update(batch)
    tensors = [*metrics.values(), *made.networks.state_dict().values()]
    tensors += [tensor for name, tensor in made.state().items() if name != "generator"]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_where_bfloat16_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "gpu_has_bfloat16", lambda: True)
    assert Precision.of("auto", CPU) == FIXED
    assert Precision.of("auto", cuda)[1:] == (torch.bfloat16, torch.bfloat16)
    assert Precision.of("float32", cuda)[1:] == (torch.float32, torch.float32)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(precision, "gpu_has_bfloat16", lambda: False)
    assert Precision.of("auto", CPU) == FULL
    assert Precision.of("auto", cuda)[1:] == (torch.float32, torch.float32)


@pytest.mark.parametrize("of", [FIXED, HALF])
def test_curves_differ_less_than_those_of_seeds(of: Precision) -> None:
    """Forty updates of the same run in either precision, and of the same run with another seed."""

    def curve(seed: int, each: Precision) -> torch.Tensor:
        family = FakeFamily(uneven=True)
        trainer = MetaTrainer(config(seed=seed), family, CPU)
        trainer.learner.encode.precision = each
        trainer.collector.collect_random(family.make_vector_env(4))
        rows = [trainer.learner.update(trainer.batches.sample()) for _ in range(40)]
        return torch.tensor([[float(row[name]) for name in ("model/loss", "critic/loss")] for row in rows])

    plain, fast, other = curve(0, FULL), curve(0, of), curve(1, FULL)
    scale = plain.std(0)
    assert plain[-1, 0] < 0.9 * plain[0, 0]  # it learns
    assert (
        ((fast - plain) / scale).square().mean(0) < 0.2 * ((other - plain) / scale).square().mean(0)
    ).all()
