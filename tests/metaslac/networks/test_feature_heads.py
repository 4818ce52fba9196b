"""Heads on features: their losses against plain loops, and that one has an encoder see what moves."""

import numpy as np
import pytest
import torch

from metaslac.config.sections import ModelConfig
from metaslac.networks.feature_heads import FeatureReward, InverseModel, LastAction, NextFeature
from metaslac.networks.images import ImageEncoder


def test_the_loss_is_that_of_a_loop_over_steps_that_are_no_padding() -> None:
    model = InverseModel(feature_size=3, action_size=2, hidden_size=16)
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(4, 5, 3, generator=generator)
    a = torch.randn(4, 4, 2, generator=generator)
    valid = torch.ones(4, 5, dtype=torch.bool)
    valid[0, :2] = valid[3, :4] = False  # windows that begin before their episode
    expected = 0.0
    for window in range(4):
        for t in range(4):
            if valid[window, t]:
                predicted = model.network(torch.cat((f[window, t], f[window, t + 1])))
                expected += float((predicted - a[window, t]).detach().square().sum()) / 4
    torch.testing.assert_close(float(model.loss(f, a, valid).detach()), expected, rtol=1e-5, atol=0)
    padding = f.clone()
    padding[0, :2] += 1.0
    torch.testing.assert_close(model.loss(padding, a, valid), model.loss(f, a, valid))


def test_an_encoder_learns_to_see_what_an_action_moves() -> None:
    """A dot, 2 x 2 pixels on noise, moves sideways by the action."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, model = ImageEncoder(32, 8, 16), InverseModel(16, 1, 64)
    optimizer = torch.optim.Adam([*encoder.parameters(), *model.parameters()], 3e-3)
    errors = []
    for _ in range(250):
        a = torch.rand(32, 1, 1, generator=generator) * 2 - 1
        before = torch.randint(8, 22, (32,), generator=generator)
        after = before + (8 * a[:, 0, 0]).round().long()
        frames = torch.randint(0, 60, (32, 2, 32, 32, 3), dtype=torch.uint8, generator=generator)
        for window in range(32):
            for t, column in enumerate((before, after)):
                frames[window, t, 14:16, int(column[window]) : int(column[window]) + 2] = 255
        loss = model.loss(encoder(frames), a, torch.ones(32, 2, dtype=torch.bool))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss))
    assert sum(errors[-20:]) < 0.2 * sum(errors[:20])


def windows(batch: int = 5, steps: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(batch, steps + 1, 4, generator=generator)
    a = torch.rand(batch, steps, 2, generator=generator)
    valid = torch.rand(batch, steps + 1, generator=generator) < 0.6
    valid[:, -2:] = True
    return f, a, valid


def test_the_last_action_is_told_from_one_feature_and_padding_counts_for_nothing() -> None:
    head, (f, a, valid) = LastAction(4, 2, 8), windows()
    expected = 0.0
    for b in range(5):
        for t in range(3):
            if valid[b, t]:
                expected += float((head.network(f[b, t + 1]) - a[b, t]).square().sum().detach())
    assert float(head.loss(f, a, valid).detach()) == pytest.approx(expected / 5, rel=1e-5)


def test_contrast_is_cross_entropy_among_the_windows_of_the_batch() -> None:
    head, (f, a, valid) = NextFeature(4, 2, 8), windows()
    with torch.no_grad():
        total = 0.0
        for b in range(5):
            guess = head.network(torch.cat((f[b, -2], a[b, -1])))
            scores = [float(torch.cosine_similarity(guess, f[c, -1], dim=0)) / 0.1 for c in range(5)]
            total += -(scores[b] - np.logaddexp.reduce(scores))
        assert float(head.loss(f, a, valid)) == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_rewards_from_features_are_a_gaussian_of_features_action_and_scaled_m(std: float) -> None:
    head = FeatureReward(4, 2, 3, ModelConfig(hidden_size=8, reward_std=std), task_scale=2.0)
    (f, a, valid), m, r = windows(), torch.randn(5, 3), torch.randn(5, 3)
    with torch.no_grad():
        total = 0.0
        for b in range(5):
            for t in range(3):
                p = head.head(f[b, t], a[b, t], f[b, t + 1], 2 * m[b])
                scale = torch.tensor(std) if std else p.std[0]
                if valid[b, t]:
                    total -= float(torch.distributions.Normal(p.mean[0], scale).log_prob(r[b, t]))
        assert float(head.loss(f, a, r, m, valid)) == pytest.approx(total / 5, rel=1e-4)
