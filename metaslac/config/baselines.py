"""Presets of methods that metaslac descends from or is compared with: SLAC, and SAC from pixels.

Where no task differs from another there is nothing to infer: m has no entries. How presets combine is in
presets.py; what the defaults have of SLAC already is not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

# Lee et al. 2020, the schedule of the published code: 10,000 random decisions, 100,000 updates of the model
# alone, then an update for every decision until 500,000 control steps are made. Two things are not as there:
# decisions come an episode at a time, each followed by as many updates, and an update takes its gradients one
# after the other (model, critics, actor, temperature), not all from one snapshot of the weights.
SLAC: Settings = {
    "model.convolution_init": True,
    "task.inference": "blind",
    "task.size": 0,
    "actor_critic.layer_norm": False,
    "actor_critic.alpha_init": 1.0,
    "actor_critic.reward_scale": 1.0,
    "replay.decisions_per_task": 100_000,
    "train.updates": 490_000,
    "train.initial_decisions": 10_000,
    "train.pretrain_updates": 100_000,
    "train.pretrain_windows": 32,
    "train.pretrain_lr": 1e-4,
    "train.tasks_per_visit": 1,
    "train.posterior_episodes": 0,
    "train.updates_per_decision": 1.0,
    "train.tasks_per_update": 1,
    "train.windows": 256,
    "train.model_windows": 32,
    "train.steps_per_batch": 1,
    "train.predict_with_critics": False,
    "evaluation.every": 10_000,
    "evaluation.episodes": 1,
    "evaluation.trials": 10,
    "evaluation.sample_actions": True,
}

# For 100,000 control steps in less than two hours on two cores: 0.18 CPU seconds an update. It leaves SLAC's
# sizes (base depth 32; features, z2 and the model's hidden layers 256), batches (256 windows, 32 of them the
# model's), random decisions (10,000), pre-training (100,000 updates at 1e-4) and first temperature (1, from
# which a short run spends much of its time to get down).
_SLAC_QUICK: Settings = {
    **SLAC,
    "family.action_repeat": 2,
    "model.base_depth": 8,
    "model.feature_size": 128,
    "model.z2_size": 128,
    "model.hidden_size": 128,
    "actor_critic.alpha_init": 0.1,
    "train.updates": 48_000,
    "train.initial_decisions": 2_000,
    "train.pretrain_updates": 2_000,
    "train.pretrain_windows": 16,
    "train.pretrain_lr": 1e-3,
    "train.windows": 64,
    "train.model_windows": 8,
    "evaluation.every": 5_000,
}

# What SLAC's paper compares with: SAC whose critics train the encoder, on four pictures at once. Actor and
# critics see the actions between them too, which there they do not.
_SAC_PIXELS: Settings = {
    **SLAC,
    "model.elbo_weight": 0.0,
    "model.window": 4,
    "actor_critic.critic_input": "features",
    "train.encoder_from_critic": True,
    "train.pretrain_updates": 0,
    "train.lr_model": 3e-4,
}

BASELINES: Mapping[str, Settings] = {"slac": SLAC, "slac-quick": _SLAC_QUICK, "sac-pixels": _SAC_PIXELS}

# Control steps that an action is held for, as in the tables that SLAC's figures were drawn from.
REPEATS = {
    "dmc:ball_in_cup-catch": 4,
    "dmc:cartpole-swingup": 4,
    "dmc:cheetah-run": 4,
    "dmc:finger-spin": 1,
    "dmc:reacher-easy": 4,
    "dmc:walker-walk": 2,
}


def until(control_steps: int, preset: Settings, repeat: int, updates_per_decision: float = 1.0) -> Settings:
    """What a task has of its own in a preset whose runs end at so many control steps."""
    learned_from = control_steps // repeat - preset["train.initial_decisions"]
    return {
        "family.action_repeat": repeat,
        "train.updates": round(learned_from * updates_per_decision),
        "train.updates_per_decision": updates_per_decision,
    }


BASELINE_FAMILIES: Mapping[tuple[str, str], Settings] = {
    **{
        (preset, family): until(500_000, BASELINES[preset], repeat)
        for preset in ("slac", "sac-pixels")
        for family, repeat in REPEATS.items()
    },
    # Without a repeat there are so many decisions that one update for two of them has to do.
    **{
        ("slac-quick", family): until(100_000, _SLAC_QUICK, repeat, 1.0 if repeat > 1 else 0.5)
        for family, repeat in REPEATS.items()
    },
}
