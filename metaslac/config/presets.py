"""Named sets of settings, and how they combine with what the user asks for.

`default` is the paper's way at full size, `quick_latent` the same at a size for two CPU cores; `quick` is
what learned best in minutes, family by family. Those of other methods are in baselines.py.

Weakest first: defaults, the preset, the preset for that family, then flags and --set in order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from metaslac.config.baselines import BASELINE_FAMILIES, BASELINES, Settings
from metaslac.config.limits import task_counts
from metaslac.config.schedule import TrainConfig
from metaslac.config.sections import Config
from metaslac.config.state_presets import STATE_FAMILIES, STATE_PRESETS
from metaslac.config.text import Changes, apply_settings, with_values
from metaslac.config.validation import validate
from metaslac.errors import MetaslacError, nearest

# SLAC's critics on latents, at a size for two CPU cores.
_SMALL: Settings = {
    "family.image_size": 32,
    "model.base_depth": 16,
    "model.feature_size": 64,
    "model.z1_size": 16,
    "model.z2_size": 64,
    "model.hidden_size": 128,
    "model.window": 3,
    "actor_critic.hidden_size": 128,
    "actor_critic.gamma": 0.95,
    "actor_critic.tau": 0.01,
    "actor_critic.reward_scale": 5.0,
    "train.updates": 3_000,
    "train.tasks_per_update": 16,
    "train.windows": 16,
    "train.model_windows": 2,
    "train.pretrain_updates": 600,
    "train.pretrain_windows": 1,
    "train.pretrain_lr": 3e-3,
    "train.updates_per_visit": 10,
    "train.lr_model": 1e-3,
    "train.lr_context": 1e-3,
    "train.lr_decay": 0.5,
    "train.lr_critic": 5e-4,
    "train.lr_actor": 5e-4,
    "train.lr_alpha": 5e-4,
    "evaluation.every": 500,
}

# Critics on the features of an encoder that learns first, from what its frames show of actions and rewards,
# and then rests: nothing is encoded or filtered any more, and many more steps are made of the same minutes.
_FEATURES: Settings = {
    "family.frames": 3,
    "model.feature_size": 128,
    "model.feature_norm": True,
    "model.window": 2,
    "model.elbo_weight": 0.0,
    "model.inverse_weight": 1.0,
    "model.last_action_weight": 1.0,
    "model.contrast_weight": 1.0,
    "model.feature_reward_weight": 1.0,
    "actor_critic.critic_input": "features",
    "actor_critic.standardise": True,
    "actor_critic.action_scale": 6.0,
    "actor_critic.hidden_size": 256,
    "actor_critic.actor_layer_norm": True,
    "train.freeze_encoder": True,
    "train.pretrain_updates": 2_500,
    "train.pretrain_windows": 5,
    "train.pretrain_decay": 0.7,
    "train.windows": 16,
    "train.steps_per_batch": 1,
    "train.extra_steps": 3,
    "train.updates_per_visit": 100,
    "train.lr_alpha": 1e-4,
    "train.lr_decay": 0.4,
}

PRESETS: Mapping[str, Settings] = {
    "default": {},
    "quick": _SMALL,
    "quick_latent": _SMALL,
    **BASELINES,
    **STATE_PRESETS,
}

# Random actions fall after some ten steps, so contexts are of short segments and first episodes many.
_FALLS: Settings = {
    "family.action_repeat": 2,
    "model.reward_std": 0.3,
    "task.context_length": 3,
    "task.context_min": 3,
    "task.context_max": 24,
    "actor_critic.reward_scale": 1.0,
    "actor_critic.alpha_init": 0.3,
    "train.lr_alpha": 1e-4,
    "evaluation.episodes": 2,
}

_LATENT_FAMILIES: dict[str, Settings] = {
    "point_robot": {
        "train.updates": 2_000,
        "model.reward_std": 0.2,
        "task.context_length": 6,
        "task.context_min": 4,
        "task.context_max": 40,
        "replay.episodes_per_task": 200,
        "replay.context_episodes": 4,
        "train.initial_episodes": 4,
        "train.random_hold": 7,
        "train.tasks_per_visit": 20,
        "evaluation.trials": 2,
        "runtime.worlds": 40,
    },
    "reacher_goal": {
        "train.updates": 2_500,
        "family.action_repeat": 2,
        "model.reward_std": 0.2,
        "task.context_length": 6,
        "task.context_min": 4,
        "task.context_max": 48,
        "replay.episodes_per_task": 200,
        "replay.context_episodes": 4,
        "train.initial_episodes": 4,
        "train.random_hold": 3,
        "train.tasks_per_visit": 20,
        "evaluation.trials": 2,
        "runtime.worlds": 40,
    },
    "cheetah_vel": {
        "family.action_repeat": 2,
        "model.inverse_weight": 100.0,
        "model.reward_std": 0.3,
        "task.context_length": 4,
        "task.context_min": 4,
        "task.context_max": 32,
        "actor_critic.reward_scale": 2.0,
        "actor_critic.alpha_init": 0.3,
        "actor_critic.target_entropy": 0.0,
        "replay.episodes_per_task": 60,
        "train.updates": 1_800,
        "train.pretrain_updates": 1_000,
        "train.tasks_per_visit": 10,
        "train.updates_per_visit": 20,
        "train.windows": 32,
        "train.extra_steps": 16,
        "train.lr_alpha": 1e-4,
        "evaluation.episodes": 2,
    },
    "walker_rand_params": {
        **_FALLS,
        "model.inverse_weight": 100.0,
        "actor_critic.gamma": 0.97,
        "replay.episodes_per_task": 100,
        "train.initial_episodes": 10,
        "train.tasks_per_visit": 20,
        "train.updates_per_visit": 20,
        "train.windows": 32,
        "train.extra_steps": 16,
    },
}

_CHEETAH: Settings = {
    **_FEATURES,
    "family.action_repeat": 2,
    "model.reward_std": 0.3,
    "task.context_length": 4,
    "task.context_min": 4,
    "task.context_max": 32,
    "actor_critic.task_scale": 4.0,
    "actor_critic.reward_scale": 2.0,
    "actor_critic.alpha_init": 0.3,
    "actor_critic.target_entropy": 0.0,
    "evaluation.episodes": 2,
}

_FEATURE_FAMILIES: dict[str, Settings] = {
    "cheetah_vel": {
        **_CHEETAH,
        "replay.episodes_per_task": 60,
        "train.updates": 8_000,
        "train.tasks_per_visit": 10,
        "evaluation.every": 1_000,
    },
    # An encoder that rests has seen only falls, so it is trained again; walkers that fall bring little, so
    # visits are often; and steps of 0.03 s take four features to show how fast a joint moves.
    "walker_rand_params": {
        **_FEATURES,
        **_FALLS,
        "model.window": 4,
        "task.kl_weight": 0.5,
        "actor_critic.gamma": 0.98,
        "actor_critic.target_entropy": -0.5,
        "replay.episodes_per_task": 150,
        "train.updates": 6_000,
        "train.initial_episodes": 5,
        "train.refresh_first": 500,
        "train.tasks_per_visit": 10,
        "train.updates_per_visit": 40,
        "evaluation.every": 1_000,
    },
    # Two tasks must play what elsewhere a hundred do, or the encoder sees four episodes before it rests.
    "cheetah_dir": {
        **_CHEETAH,
        "replay.episodes_per_task": 3_000,
        "replay.context_episodes": 10,
        "train.updates": 4_000,
        "train.initial_episodes": 100,
        "train.tasks_per_visit": 2,
        "train.prior_episodes": 5,
        "train.posterior_episodes": 5,
    },
}

FAMILY_PRESETS: Mapping[tuple[str, str], Settings] = {
    **{("quick_latent", family): settings for family, settings in _LATENT_FAMILIES.items()},
    **{("quick", family): settings for family, settings in (_LATENT_FAMILIES | _FEATURE_FAMILIES).items()},
    **BASELINE_FAMILIES,
    **STATE_FAMILIES,
}


# Windows of each task in an update's batch.
WINDOW_COUNTS = ("train.windows", "train.model_windows", "train.pretrain_windows")


def resolve(preset: str, assignments: Changes) -> Config:
    """The whole, validated configuration for a preset and changes to it.

    Raises MetaslacError for an unknown preset or setting, or a value that cannot be.
    """
    if preset not in PRESETS:
        raise MetaslacError(
            f"there is no preset {preset!r}: they are {', '.join(PRESETS)}{nearest(preset, PRESETS)}"
        )
    family = apply_settings(Config(), assignments).family.name
    config = with_values(Config(), PRESETS[preset])
    config = with_values(config, FAMILY_PRESETS.get((preset, family), {}))
    config = apply_settings(config, assignments)
    validate(config)
    return config


def fit_to_tasks(
    config: Config, tasks: int, asked: Collection[str], whose: str | None = None
) -> tuple[Config, str]:
    """`config` for so few training tasks, and a line that says what was changed, if anything.

    `whose` they are is the family's name, or told.

    Only what nobody `asked` for is: values of defaults and presets, which know no small family. Where an
    update has fewer tasks it has more windows of each, so that its batch stays as large; unless one of
    WINDOW_COUNTS was asked for.
    """
    values = {f"train.{name}": getattr(config.train, name) for name in task_counts(config)}
    high = [name for name, value in values.items() if value > tasks and name not in asked]
    if not high:
        return config, ""
    lowered = ", ".join(f"{name} from {values[name]}" for name in high)
    whose = whose or config.family.name
    note = f"{whose} has {tasks} training task{'s' * (tasks > 1)}: lowered {lowered} to {tasks}"
    more = {}
    if "train.tasks_per_update" in high and not set(WINDOW_COUNTS) & set(asked):
        more = _windows_of_fewer_tasks(config.train, tasks)
        raised = ", ".join(f"{name} to {value}" for name, value in more.items())
        note += f", and raised {raised}, for as large a batch"
    return with_values(config, {**dict.fromkeys(high, tasks), **more}), note


def _windows_of_fewer_tasks(train: TrainConfig, tasks: int) -> dict[str, int]:
    """WINDOW_COUNTS for batches of as many windows, of so many tasks in place of `tasks_per_update`.

    To the nearest whole number, and of windows that parts for `steps_per_batch` can be made of.
    """
    more, steps = train.tasks_per_update / tasks, train.steps_per_batch
    windows = steps * round(train.windows // steps * more)
    counts = windows, min(windows, round(train.model_windows * more)), round(train.pretrain_windows * more)
    return dict(zip(WINDOW_COUNTS, counts, strict=True))
