"""What one update sees, and what is made of it on the way."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from metaslac.networks.latent_model import Posterior
from metaslac.replay.task_replay import Context, Windows


class Batch(NamedTuple):
    """What one update sees: a meta-batch of K tasks."""

    windows: Windows
    context: Context
    params: Tensor  # (K, P) true task parameters; only the oracle looks at them


class Transitions(NamedTuple):
    """Context transitions as the context encoder takes them, C of each task."""

    f: Tensor  # (K, C, F)
    a: Tensor  # (K, C, A)
    r: Tensor  # (K, C)
    f_next: Tensor  # (K, C, F)
    valid: Tensor  # (K, C)
    distinct: Tensor  # (K,) how many different ones there were to draw from


class Filtered(NamedTuple):
    """B windows with their features, and the latents filtered from them given m."""

    f: Tensor  # (B, L + 1, F)
    windows: Windows  # flattened over tasks
    m: Tensor  # (B, M)
    posterior: Posterior

    def decisions(self) -> Decisions:
        """The last decision of each window."""
        z = self.posterior.z
        return Decisions(
            self.f, self.windows.a, z[:, -2], z[:, -1], self.windows.r[:, -1], self.windows.terminated
        )


class Decisions(NamedTuple):
    """The last decision of each of B windows, or (K, W), as critics and actor see it, latents as inferred."""

    f: Tensor  # (B, L + 1, F) features up to the decision, and of the frame after it
    a: Tensor  # (B, L, A) actions of the window, the decision last
    z: Tensor  # (B, Z)
    z_next: Tensor  # (B, Z)
    r: Tensor  # (B,)
    terminated: Tensor  # (B,)


def some(windows: Windows, which: slice) -> Windows:
    """Some of the windows (K, W, ...) of every task."""
    return Windows(*(part[:, which] for part in windows))


def flat(windows: Windows) -> Windows:
    """Windows (K, W, ...) as (K * W, ...), task by task."""
    return Windows(*(part.flatten(0, 1) for part in windows))


def expand_tasks(m: Tensor, count: int) -> Tensor:
    """One m per task (K, M) to one per window (K * count, M), task by task."""
    return m.repeat_interleave(count, 0)
