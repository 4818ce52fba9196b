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

# No latent model and nothing else that pictures or rewards teach: who acts or judges trains the encoder.
MODEL_FREE: Settings = {
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
}

ALGORITHMS: Mapping[str, Settings] = {
    "lompo": LOMPO,
    "no-penalty": {**LOMPO, "imagination.penalty": "none"},
    "actor-critic": {},
    "model-free": MODEL_FREE,
    "cloning": {**MODEL_FREE, "train.cloning": True, "actor_critic.deterministic": False},
}

# What states change: they are seen as they are, so that nothing learns to see them.
ON_STATES: Mapping[str, Settings] = {
    "actor-critic": {},
    "cloning": {"train.encoder_from_critic": False},
}

# Which preset of those who play has the sizes, where a data set has pictures and where it has states.
SIZES: Mapping[str, tuple[str, str | None]] = {
    "quick": ("quick_latent", "pearl-quick"),
    "default": ("default", "pearl"),
    "lompo": ("default", None),
}

# What is more than that, by preset. LOMPO's model has a GRU where its latents have a deterministic part here,
# other activations, a floor of 0.1 also under its posterior's spread and gradients of a norm of at most 100;
# its actor has four hidden layers and its critics three; and it keeps what it imagines in a buffer.
OFFLINE: Mapping[str, Settings] = {
    "quick": {"imagination.penalty_weight": 0.2},
    "default": {},
    "lompo": {
        "model.kind": "partially_stochastic",
        "model.z1_size": 64,
        "model.z2_size": 256,
        "model.hidden_size": 256,
        "model.window": 49,
        "model.pixel_variance": 1.0,
        "model.reward_std": 1.0,
        "actor_critic.hidden_size": 256,
        "actor_critic.hidden_layers": 3,
        "actor_critic.layer_norm": False,
        "actor_critic.deterministic": True,
        "actor_critic.action_noise": 0.2,
        "actor_critic.gamma": 0.99,
        "actor_critic.tau": 0.005,
        "actor_critic.reward_scale": 1.0,
        "imagination.penalty_weight": 5.0,
        "train.updates": 100_000,
        "train.pretrain_updates": 25_000,
        "train.pretrain_windows": 64,
        "train.pretrain_lr": 6e-4,
        "train.freeze_encoder": True,
        "train.predict_with_critics": False,
        "task.gradient": "model",  # so that m rests with what was learned of it
        "train.tasks_per_update": 1,
        "train.windows": 256,
        "train.steps_per_batch": 1,
        "train.lr_actor": 3e-4,
        "train.lr_critic": 3e-4,
        "evaluation.every": 5_000,
        "checkpoint.every": 5_000,
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
    on_states = recorded["family.observation"] == "state"
    sizes = SIZES[preset][on_states]
    if (algorithm, sizes) == ("actor-critic", "quick_latent"):
        sizes = "quick"  # its own actor and critics, on whatever learned best in minutes
    if sizes is None or (on_states and algorithm not in ON_STATES):
        raise MetaslacError(
            f"algorithm {algorithm} in preset {preset} learns from pictures, and the data set has states: "
            f"those are for {' and '.join(ON_STATES)}, in presets quick and default"
        )
    layers: list[Mapping[str, Any]] = [
        PRESETS[sizes],
        FAMILY_PRESETS.get((sizes, recorded["family.name"]), {}),
        OFFLINE[preset],
        ALGORITHMS[algorithm],
        ON_STATES[algorithm] if on_states else {},
        recorded,
    ]
    config = Config()
    for layer in layers:
        config = with_values(config, layer)
    data_set = config.runtime.data_set
    config = apply_settings(config, changes)
    if config.runtime.data_set != data_set:
        raise MetaslacError("runtime.data_set is what the data set is given by, and nothing to be set")
    check_recorded(config, recorded, "leave it out")
    validate(config)
    return config


def algorithm_of(config: Config) -> str:
    """Which of ALGORITHMS a configuration is of, told by what the others have not."""
    if config.train.cloning:
        return "cloning"
    if config.imagination.share:
        return "no-penalty" if config.imagination.penalty == "none" else "lompo"
    return "model-free" if config.train.encoder_from_critic else "actor-critic"


def check_recorded(config: Config, recorded: Mapping[str, Any], remedy: str) -> None:
    """Raise MetaslacError, with a remedy, for a setting that is not what the data set was recorded with."""
    for name in RECORDED:
        section, _, field = name.partition(".")
        asked = getattr(getattr(config, section), field)
        if asked != recorded[name]:
            raise MetaslacError(
                f"{name} is {asked}, but the data set was recorded with {recorded[name]}: {remedy}"
            )
