"""The inverse model: its loss against a plain loop, and that it has an encoder see what moves."""

import torch

from metaslac.networks.feature_heads import InverseModel
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
