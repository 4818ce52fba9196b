"""From the name of a kind to a model."""

from __future__ import annotations

from collections.abc import Callable

from metaslac.config.sections import ModelConfig
from metaslac.networks.latent_models.base import LatentModel
from metaslac.networks.latent_models.one_layer import Filtering
from metaslac.networks.latent_models.two_layers import SLAC, Deterministic, PartiallyStochastic
from metaslac.networks.latent_models.vae import VAE, SimpleVAE

KINDS: dict[str, Callable[[ModelConfig, int, int, int], LatentModel]] = {
    "slac": SLAC,
    "vae": VAE,
    "filtering": Filtering,
    "simple_vae": SimpleVAE,
    "partially_stochastic": PartiallyStochastic,
    "deterministic": Deterministic,
}


def make_latent_model(
    config: ModelConfig, image_size: int, action_size: int, task_size: int
) -> LatentModel | None:
    """The model that a configuration asks for; None where nothing weighs its loss."""
    return KINDS[config.kind](config, image_size, action_size, task_size) if config.elbo_weight else None
