"""What the latent model makes of an episode: its frames reconstructed, and rolled out from their beginning.

The model is of networks/latent_models; which episode is shown is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaslac.networks.latent_models.base import LatentModel
from metaslac.networks.meta_slac import MetaSLAC
from metaslac.replay.experience import Episode

RECONSTRUCTION_STREAM = 8

Frames = NDArray[np.uint8]


class Reconstruction(NamedTuple):
    """The frames of an episode as the model sees them, uint8 (T+1, H, W, 3) each."""

    posterior: Frames  # every latent inferred from the frames up to its own
    prior: Frames  # the same for the first frames; from there on without looking


class Sheet(NamedTuple):
    """Frames of an episode at some steps, and what the model sees there, each (F, H, W, 3)."""

    steps: Sequence[int]
    conditioned: int  # how many first frames of the episode the roll-out has seen
    truth: Frames
    posterior: Frames
    prior: Frames


def reconstructed(
    networks: MetaSLAC,
    episode: Episode,
    m: NDArray[np.float32],
    *,
    window: int,
    shown: int,
    rng: np.random.Generator,
) -> Sheet:
    """The beginning of an episode: truth, posterior, and prior from the first window on.

    Shows at most `shown` frames, evenly spaced; m (M,) as of `reconstruct`, which raises ValueError for
    networks without a latent model.
    """
    length = min(len(episode.frames), 3 * window + shown)
    conditioned = min(window, length)
    noise_size = networks.latent_model.noise_size if networks.latent_model is not None else 0
    noise = rng.standard_normal((length, noise_size), dtype=np.float32)
    frames, actions = episode.frames[:length], episode.actions[: length - 1]
    seen = reconstruct(networks, frames, actions, m, conditioned, noise)
    steps = np.unique(np.linspace(0, length - 1, min(shown, length)).round().astype(int)).tolist()
    return Sheet(steps, conditioned, episode.pictures[steps], seen.posterior[steps], seen.prior[steps])


@torch.no_grad()
def reconstruct(
    networks: MetaSLAC,
    frames: Frames,
    actions: NDArray[np.float32],
    m: NDArray[np.float32],
    conditioned: int,
    noise: NDArray[np.float32],
) -> Reconstruction:
    """Reconstruct an episode, and roll it out from its first frames under the same actions.

    Args:
        networks: a learner's or a checkpoint's.
        frames: uint8 (T+1, H, W, 3) or stacks (T+1, k, H, W, 3), from the first of the episode.
        actions: (T, A).
        m: (M,), what the model takes the task for.
        conditioned: how many first frames the roll-out sees, from 1 to T+1.
        noise: standard normal, (T+1, noise_size), the model samples latents with; zeros for their means.

    Raises:
        ValueError: `conditioned` is out of its range, or the networks have no latent model.
    """
    if not 1 <= conditioned <= len(frames):
        raise ValueError(f"conditioned must be 1 to {len(frames)}, not {conditioned}")
    model, device = networks.latent_model, next(networks.parameters()).device
    if model is None:
        raise ValueError("networks trained with model.elbo_weight=0 have no latent model")
    a, task, eps = (
        torch.as_tensor(part, dtype=torch.float32, device=device)[None] for part in (actions, m, noise)
    )
    f = networks.encoder(torch.from_numpy(frames).to(device))[None]
    restart = torch.zeros(f.shape[:2], dtype=torch.bool, device=device)
    posterior = model.infer(f, a, task, restart, eps)
    z = posterior.z
    return Reconstruction(
        _images(model, z[0]), _images(model, roll_out(model, z[:, :conditioned], a, task, eps)[0])
    )


def roll_out(model: LatentModel, seen: Tensor, a: Tensor, m: Tensor, noise: Tensor) -> Tensor:
    """Latents (B, T, Z): those seen (B, t, Z), then samples of p(z_t | z_{t-1}, a_{t-1}, m).

    a (B, T-1, A), m (B, M) and noise (B, T, noise_size) as in LatentModel.infer.
    """
    z = list(seen.unbind(1))
    for t in range(len(z), noise.shape[1]):
        z.append(model.advance(z[-1], a[:, t - 1], m, noise[:, t]))
    return torch.stack(z, 1)


def _images(model: LatentModel, z: Tensor) -> Frames:
    images: Frames = model.decoder(z).clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return images
