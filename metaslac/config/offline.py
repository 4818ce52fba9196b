"""How agents learn from a data set: algorithms by name, on presets that say how large all is.

Weakest first: defaults, the preset, the preset for that family, the algorithm, what the data set was recorded
with, then flags and --set in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaslac.config.baselines import Settings
from metaslac.config.presets import FAMILY_PRESETS, PRESETS
from metaslac.config.sections import Config
from metaslac.config.text import Changes, apply_settings, with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError

# LOMPO (Rafailov et al. 2020): actor and critics on latents, half of what they learn from imagined, and
# imagined rewards lower where an ensemble of priors disagrees.
LOMPO: Settings = {
    "actor_critic.actor_input": "latent",
    "actor_critic.critic_input": "latent",
    "model.heads": 7,
    "model.prior_std_min": 0.1,
    "imagination.share": 0.5,
    "imagination.horizon": 5,
    "imagination.penalty": "log_prob",
}

ALGORITHMS: Mapping[str, Settings] = {
    "lompo": LOMPO,
    "no-penalty": {**LOMPO, "imagination.penalty": "none"},
    "actor-critic": {},
    "cloning": {
        "train.cloning": True,
        "train.encoder_from_critic": True,
        "train.pretrain_updates": 0,
        "train.freeze_encoder": False,
        "train.extra_steps": 0,
        "model.elbo_weight": 0.0,
        "model.inverse_weight": 0.0,
        "model.last_action_weight": 0.0,
        "model.contrast_weight": 0.0,
        "model.feature_reward_weight": 0.0,
        "actor_critic.critic_input": "features",
        "task.gradient": "critic",
    },
}

# Which preset of those who play has the sizes, where a data set has pictures and where it has states.
SIZES: Mapping[str, tuple[str, str]] = {
    "quick": ("quick_latent", "pearl-quick"),
    "default": ("default", "pearl"),
    "lompo": ("default", "pearl"),
}

# What is more than that, by preset.
OFFLINE: Mapping[str, Settings] = {
    "lompo": {
        "model.hidden_size": 256,
        "actor_critic.gamma": 0.99,
    },
}

# What a data set decides, each with where it is in `About` of data_set.py.
RECORDED = {
    "family.name": "family",
    "family.image_size": "image_size",
    "family.frames": "frames",
    "family.action_repeat": "action_repeat",
    "family.observation": "observation",
}


def resolve_offline(algorithm: str, preset: str, recorded: Mapping[str, Any], changes: Changes) -> Config:
    """The whole, validated configuration for an algorithm, a preset and changes to them.

    `recorded` has values of RECORDED, and of runtime.data_set. Raises MetaslacError for a name that there is
    not, a value that cannot be, and one that is not the data set's.
    """
    for what, name, known in (("algorithm", algorithm, ALGORITHMS), ("preset", preset, SIZES)):
        if name not in known:
            raise MetaslacError(f"there is no {what} {name!r}: they are {', '.join(known)}")
    sizes = SIZES[preset][recorded["family.observation"] == "state"]
    layers: list[Mapping[str, Any]] = [
        PRESETS[sizes],
        FAMILY_PRESETS.get((sizes, recorded["family.name"]), {}),
        OFFLINE.get(preset, {}),
        ALGORITHMS[algorithm],
        recorded,
    ]
    config = Config()
    for layer in layers:
        config = with_values(config, layer)
    config = apply_settings(config, changes)
    check_recorded(config, recorded)
    validate(config)
    return config


def check_recorded(config: Config, recorded: Mapping[str, Any]) -> None:
    """Raise MetaslacError for a setting that is not what the data set was recorded with."""
    for name in RECORDED:
        section, _, field = name.partition(".")
        asked = getattr(getattr(config, section), field)
        if asked != recorded[name]:
            raise MetaslacError(
                f"{name} is {asked}, but the data set was recorded with {recorded[name]}: leave it out"
            )
