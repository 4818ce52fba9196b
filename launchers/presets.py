"""Named sets of settings, and how they combine with what the user asks for.

Weakest first: defaults, the preset, the preset for that family, then flags and --set in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metaslac.config import Config, validate
from metaslac.settings import apply_settings, with_values

Settings = Mapping[str, Any]

PRESETS: Mapping[str, Settings] = {
    "default": {},
    "quick": {
        "family.image_size": 32,
        "model.base_depth": 16,
        "model.feature_size": 64,
        "model.z1_size": 16,
        "model.z2_size": 64,
        "model.hidden_size": 128,
        "model.window": 3,
        "task.hidden_size": 128,
        "actor_critic.hidden_size": 128,
        "actor_critic.gamma": 0.95,
        "actor_critic.tau": 0.01,
        "actor_critic.reward_scale": 5.0,
        "train.pretrain_lr": 3e-3,
        "train.lr_model": 1e-3,
        "train.lr_context": 1e-3,
        "train.lr_critic": 5e-4,
        "train.lr_actor": 5e-4,
        "train.lr_alpha": 5e-4,
    },
}

FAMILY_PRESETS: Mapping[tuple[str, str], Settings] = {
    ("quick", "point_robot"): {},
    ("quick", "cheetah_vel"): {},
}


def resolve(preset: str, assignments: Sequence[str]) -> Config:
    """The whole, validated configuration for a preset and `section.field=value` texts, later ones winning.

    Raises MetaslacError for an unknown setting or a value that cannot be.
    """
    family = apply_settings(Config(), assignments).family.name
    config = with_values(Config(), PRESETS[preset])
    config = with_values(config, FAMILY_PRESETS.get((preset, family), {}))
    config = apply_settings(config, assignments)
    validate(config)
    return config
