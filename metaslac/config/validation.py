"""Whether settings can be, each by itself and together, before anything is made of them.

The limits of each are in sections.py; whether they go with a family is in limits.py.
"""

from __future__ import annotations

import math
from dataclasses import Field, fields
from numbers import Integral
from typing import Any

from metaslac.config.runtime import trackers_in
from metaslac.config.schedule import LARGEST_SEED
from metaslac.config.sections import ENSEMBLES, SEQUENTIAL, Config
from metaslac.errors import MetaslacError


def validate(config: Config) -> None:
    """Raise MetaslacError, in one line, for the first setting that cannot be or does not go with another."""
    for section in fields(config):
        values = getattr(config, section.name)
        for entry in fields(values):
            _check_limits(f"{section.name}.{entry.name}", getattr(values, entry.name), entry)
    _check_together(config)


def check_seed(seed: object) -> None:
    """Raise MetaslacError for a seed, of something else than a run, that is no whole number in range."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) <= LARGEST_SEED:
        raise MetaslacError(f"seed must be a whole number from 0 to {LARGEST_SEED}, not {seed!r}")


def _check_limits(name: str, value: Any, entry: Field[Any]) -> None:
    limits = entry.metadata
    if limits["choices"] and value not in limits["choices"]:
        raise MetaslacError(f"{name} must be one of {', '.join(map(str, limits['choices']))}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise MetaslacError(f"{name} must be a finite number, not {value}")
    if limits["low"] is not None and value < limits["low"]:
        raise MetaslacError(f"{name} must be at least {limits['low']}, not {value}")
    if limits["above"] is not None and value <= limits["above"]:
        raise MetaslacError(f"{name} must be more than {limits['above']}, not {value}")
    if limits["high"] is not None and value > limits["high"]:
        raise MetaslacError(f"{name} must be at most {limits['high']}, not {value}")


# What there is no sense in without pixels, and what it then has to be.
WITHOUT_PIXELS = {
    "family.frames": 1,
    "model.elbo_weight": 0.0,
    "model.inverse_weight": 0.0,
    "model.last_action_weight": 0.0,
    "model.contrast_weight": 0.0,
    "train.pretrain_updates": 0,
    "train.freeze_encoder": False,
    "train.encoder_from_critic": False,
    "train.random_shift": 0,
    "actor_critic.critic_input": "features",
}


def _check_without_pixels(config: Config) -> None:
    different = []
    for name, value in WITHOUT_PIXELS.items():
        section, _, entry = name.partition(".")
        if getattr(getattr(config, section), entry) != value:
            different.append(f"{name}={str(value).lower()}")
    if different:
        raise MetaslacError(
            f"family.observation=state needs {', '.join(different)}, as presets sac-state and pearl have: "
            "states are seen as they are, and there are no pixels"
        )


def _check_together(config: Config) -> None:
    trackers_in(config.runtime.track)
    if config.on_states:
        _check_without_pixels(config)
    if config.offline:
        _check_offline(config)
    model, task, train = config.model, config.task, config.train
    replay, evaluation = config.replay, config.evaluation
    if not config.family.name:
        raise MetaslacError("family.name must not be empty; `metaslac families` lists the names")
    if task.inference == "infer" and task.size < 1:
        raise MetaslacError("task.size must be at least 1 when task.inference is infer")
    if task.inference == "infer" and task.factor_rank and not task.prior_factor:
        raise MetaslacError(
            "task.prior_factor=false needs task.factor_rank=0: without the prior, a product of a few factors "
            "of low rank is no distribution"
        )
    if task.reward_std and not task.prior_beliefs:
        raise MetaslacError("task.reward_std is for weighing task.prior_beliefs, of which there are 0")
    if config.learns_prior and task.prior_beliefs < train.tasks_per_update:
        raise MetaslacError(
            f"task.prior_beliefs ({task.prior_beliefs}) must be 0, or at least train.tasks_per_update "
            f"({train.tasks_per_update}): every update has so many new ones"
        )
    if model.last_action_weight and config.family.frames == 1:
        raise MetaslacError(
            "model.last_action_weight needs family.frames of 2 or 3: one picture shows no motion"
        )
    if not model.elbo_weight and config.actor_critic.critic_input.startswith("latent"):
        raise MetaslacError(
            f"actor_critic.critic_input={config.actor_critic.critic_input} needs model.elbo_weight above 0: "
            "without it there are no latents"
        )
    if not model.elbo_weight and config.actor_critic.actor_input == "latent":
        raise MetaslacError(
            "actor_critic.actor_input=latent needs model.elbo_weight above 0: without it there are no latents"
        )
    _check_imagination(config)
    _check_cloning(config)
    heads = (
        model.inverse_weight,
        model.last_action_weight,
        model.contrast_weight,
        model.feature_reward_weight,
    )
    if train.encoder_from_critic:
        _check_encoder_from_critic(config, any(heads))
    elif not config.on_states and not model.elbo_weight and not any(heads):
        raise MetaslacError(
            "model.elbo_weight=0 needs inverse_weight, last_action_weight, contrast_weight or "
            "feature_reward_weight above 0, or train.encoder_from_critic: nothing else trains the encoder"
        )
    _check_task_gradient(config)
    learned_before = model.elbo_weight and train.pretrain_updates  # by a latent model that then rests
    if config.keeps_features and not train.predict_with_critics and not learned_before:
        raise MetaslacError(
            "train.predict_with_critics=false needs pixels, and train.freeze_encoder=false or a latent model "
            "that is pre-trained: elsewhere predictions are learned with the critics alone"
        )
    if train.refresh_first and not train.freeze_encoder:
        raise MetaslacError("train.refresh_first needs train.freeze_encoder: others learn all along")
    if task.context_min > task.context_max:
        raise MetaslacError(
            f"task.context_min ({task.context_min}) must not exceed task.context_max ({task.context_max})"
        )
    if task.context_max > task.context_segments * task.context_length:
        raise MetaslacError(
            f"task.context_max ({task.context_max}) must not exceed task.context_segments x "
            f"task.context_length ({task.context_segments} x {task.context_length})"
        )
    if train.model_windows > train.windows:
        raise MetaslacError(
            f"train.model_windows ({train.model_windows}) must not exceed train.windows ({train.windows})"
        )
    if train.windows % train.steps_per_batch:
        raise MetaslacError(
            f"train.windows ({train.windows}) must be a multiple of "
            f"train.steps_per_batch ({train.steps_per_batch})"
        )
    visit_episodes = train.prior_episodes + train.posterior_episodes
    in_episodes = not replay.decisions_per_task and not train.initial_decisions  # limits.py has the others
    if in_episodes and replay.episodes_per_task < max(train.initial_episodes, visit_episodes):
        raise MetaslacError(
            f"replay.episodes_per_task ({replay.episodes_per_task}) must hold train.initial_episodes "
            f"({train.initial_episodes}) and the episodes of one visit ({visit_episodes})"
        )
    if evaluation.exploration_episodes > evaluation.episodes:
        raise MetaslacError(
            f"evaluation.exploration_episodes ({evaluation.exploration_episodes}) must not exceed "
            f"evaluation.episodes ({evaluation.episodes})"
        )


def _check_task_gradient(config: Config) -> None:
    """Raise MetaslacError where the model alone is to train q(m | c), and learns nothing that m tells."""
    task, model, actor_critic = config.task, config.model, config.actor_critic
    if task.gradient != "model" or task.inference != "infer":
        return
    if model.feature_reward_weight or task.reward_std:
        return
    if not model.elbo_weight or (model.kind not in SEQUENTIAL and not model.reward_weight):
        raise MetaslacError(
            "task.gradient=model needs model.feature_reward_weight or task.reward_std above 0, or a latent "
            "model whose rewards or next latents m tells: else m learns from its KL alone"
        )
    latents_seen = actor_critic.actor_input == "latent" or actor_critic.critic_input.startswith("latent")
    learns_on = config.keeps_features and config.train.predict_with_critics
    if learns_on and not latents_seen:
        raise MetaslacError(
            "task.gradient=model with train.freeze_encoder needs model.feature_reward_weight or "
            "task.reward_std above 0, actor or critics on latents, or train.predict_with_critics=false: "
            "else m learns from its KL alone"
        )


def _check_offline(config: Config) -> None:
    """Raise MetaslacError for what there is no sense in where nothing is played."""
    if config.train.collect_ahead:
        raise MetaslacError("train.collect_ahead is for runs that play; on a data set nothing is collected")
    if config.train.refresh_first:
        raise MetaslacError(
            "train.refresh_first is for runs that play: a data set has nothing new to train the encoder on"
        )


def _check_imagination(config: Config) -> None:
    """Raise MetaslacError for heads, roll-outs or a penalty that there can be none of."""
    model, imagination, actor_critic = config.model, config.imagination, config.actor_critic
    if model.heads > 1 and (not model.elbo_weight or model.kind not in ENSEMBLES):
        raise MetaslacError(
            f"model.heads={model.heads} needs model.elbo_weight above 0 and model.kind of "
            f"{', '.join(ENSEMBLES)}: others have no spread of a next latent to predict"
        )
    if not imagination.share:
        return
    needed = {
        "actor_critic.actor_input=latent": actor_critic.actor_input == "latent",
        "actor_critic.critic_input=latent": actor_critic.critic_input == "latent",
        f"model.kind of {', '.join(SEQUENTIAL)}": model.kind in SEQUENTIAL,
        "train.cloning=false": not config.train.cloning,
    }
    for what, there in needed.items():
        if not there:
            raise MetaslacError(
                f"imagination.share={imagination.share} needs {what}: it is latents that roll out"
            )
    if imagination.penalty != "none" and model.heads == 1:
        raise MetaslacError(
            f"imagination.penalty={imagination.penalty} needs model.heads above 1: "
            "one head has nobody to disagree with"
        )


def _check_cloning(config: Config) -> None:
    """Raise MetaslacError for actions that are to be cloned by an actor without a density."""
    if config.actor_critic.deterministic and (config.train.cloning or config.actor_critic.cloning_weight):
        name = "train.cloning" if config.train.cloning else "actor_critic.cloning_weight"
        raise MetaslacError(
            f"{name} needs actor_critic.deterministic=false: an actor without a spread has no log pi"
        )


def _check_encoder_from_critic(config: Config, tells: bool) -> None:
    """Raise MetaslacError for what keeps critics from training the encoder, or trains it beside them.

    `tells` is whether features are to tell something: whether any head on them has a weight.
    """
    train, task = config.train, config.task
    needed = {
        "actor_critic.critic_input=features": config.actor_critic.critic_input == "features",
        "every weight of what it learns from (model.elbo_weight, model.inverse_weight, ...) to be 0": not (
            config.model.elbo_weight or tells
        ),
        "train.freeze_encoder=false": not train.freeze_encoder,
        "train.pretrain_updates=0": not train.pretrain_updates,
        "another task.gradient than model": task.inference == "blind" or task.gradient != "model",
    }
    for what, there in needed.items():
        if not there:
            raise MetaslacError(
                f"train.encoder_from_critic needs {what}: critics, or an actor that clones, alone train it"
            )
