"""Presets of agents that see the simulator's state: PEARL, and SAC as what SLAC is measured by."""

from __future__ import annotations

from collections.abc import Mapping

from metaslac.config.baselines import REPEATS, SLAC, Settings, until

# States are their own features: nothing is encoded, filtered or pre-trained.
ON_STATES: Settings = {
    "family.observation": "state",
    "model.window": 1,
    "model.elbo_weight": 0.0,
    "actor_critic.critic_input": "features",
    "train.pretrain_updates": 0,
    "train.steps_per_batch": 1,
}

# PEARL (Rakelly et al. 2019) as in its published code, where it differs from the paper. Critics have target
# critics in place of a value network: what later SAC does. Its KL is summed over the tasks of a meta-batch
# and stands beside the squared error, not half of it, so its weight of 0.1 is 0.1 * 16 / 2 here.
PEARL: Settings = {
    **ON_STATES,
    "task.factor_rank": 0,
    "task.next_observation": False,
    "task.prior_factor": False,
    "task.gradient": "critic",
    "task.kl_weight": 0.8,
    "task.context_segments": 100,
    "task.context_length": 1,
    "task.context_min": 100,
    "task.context_max": 100,
    "actor_critic.hidden_size": 300,
    "actor_critic.hidden_layers": 3,
    "actor_critic.layer_norm": False,
    "actor_critic.alpha_init": 1.0,
    "actor_critic.policy_decay": 1e-3,
    "replay.episodes_per_task": 300,
    "replay.context_episodes": 2,
    "train.updates": 1_000_000,
    "train.initial_episodes": 10,
    "train.tasks_per_visit": 5,
    "train.prior_episodes": 2,
    "train.posterior_episodes": 3,
    "train.posterior_context": False,
    "train.updates_per_visit": 2_000,
    "train.tasks_per_update": 16,
    "train.windows": 256,
    "train.lr_alpha": 0.0,
    "evaluation.every": 20_000,
    "evaluation.exploration_episodes": 2,
    "checkpoint.every": 10_000,
}

_RANDOM_BODIES: Settings = {
    "task.next_observation": True,
    "task.kl_weight": 0.5,
    "train.tasks_per_update": 10,
    "train.updates_per_visit": 4_000,
}


def _context(transitions: int) -> dict[str, int]:
    names = "context_segments", "context_min", "context_max"
    return {f"task.{name}": transitions for name in names}


PEARL_FAMILIES: Mapping[str, Settings] = {
    "cheetah_dir": {
        **_context(256),
        "task.kl_weight": 0.2,
        "replay.context_episodes": 5,
        "train.tasks_per_update": 2,
        "train.windows": 512,
        "train.tasks_per_visit": 2,
        "train.prior_episodes": 5,
        "train.posterior_episodes": 5,
    },
    "ant_dir": {**_context(256), "task.kl_weight": 0.2, "train.tasks_per_update": 4},
    "ant_goal": {
        **_context(256),
        "task.kl_weight": 5.0,
        "train.tasks_per_update": 10,
        "train.updates_per_visit": 4_000,
    },
    "humanoid_dir": {**_context(256), "train.updates_per_visit": 4_000},
    "walker_rand_params": _RANDOM_BODIES,
    "hopper_rand_params": _RANDOM_BODIES,
    "point_robot": {
        **_context(64),
        "actor_critic.reward_scale": 100.0,
        "replay.episodes_per_task": 3_000,
        "replay.context_episodes": 10,
        "train.prior_episodes": 10,
        "train.posterior_episodes": 10,
        "train.updates_per_visit": 1_000,
        "evaluation.exploration_episodes": 1,
    },
    "sparse_point_robot": {
        **_context(1_024),
        "task.kl_weight": 8.0,
        "actor_critic.gamma": 0.9,
        "actor_critic.reward_scale": 100.0,
        "replay.episodes_per_task": 5_000,
        "replay.context_episodes": 50,
        "train.tasks_per_visit": 10,
        "train.prior_episodes": 5,
        "train.posterior_episodes": 45,
        "train.posterior_context": True,
        "train.updates_per_visit": 1_000,
        "evaluation.episodes": 20,
        "evaluation.exploration_episodes": 5,
    },
}

# PEARL's inference with an actor-critic that learns in minutes on a core: smaller networks, normalised
# layers, shorter sight, a temperature that is learned, small batches, and a trial of two episodes a visit.
PEARL_QUICK: Settings = {
    **PEARL,
    **_context(64),
    "task.context_min": 32,
    "actor_critic.hidden_size": 128,
    "actor_critic.hidden_layers": 2,
    "actor_critic.layer_norm": True,
    "actor_critic.gamma": 0.95,
    "actor_critic.tau": 0.01,
    "actor_critic.alpha_init": 0.3,
    "actor_critic.policy_decay": 0.0,
    "replay.episodes_per_task": 200,
    "train.updates": 8_000,
    "train.initial_episodes": 4,
    "train.tasks_per_visit": 10,
    "train.prior_episodes": 1,
    "train.posterior_episodes": 1,
    "train.updates_per_visit": 40,
    "train.windows": 16,
    "train.extra_steps": 3,
    "train.lr_context": 5e-4,
    "train.lr_critic": 5e-4,
    "train.lr_actor": 5e-4,
    "train.lr_alpha": 1e-4,
    "train.lr_decay": 0.4,
    "evaluation.every": 1_000,
    "evaluation.exploration_episodes": 1,
    "checkpoint.every": 1_000,
}

# What bodies of many joints need beyond it (walker_rand_params, blind: 286 without, 483 with).
_WIDE: Settings = {
    "family.action_repeat": 2,
    "actor_critic.standardise": True,
    "actor_critic.hidden_size": 256,
    "actor_critic.actor_layer_norm": True,
}

_QUICK_BODIES: Settings = {
    **_WIDE,
    "task.next_observation": True,
    "actor_critic.gamma": 0.98,
    "actor_critic.reward_scale": 1.0,
    "actor_critic.target_entropy": -0.5,
}

PEARL_QUICK_FAMILIES: Mapping[str, Settings] = {
    "cheetah_vel": {
        **_context(100),
        "family.action_repeat": 2,
        "task.context_min": 32,
        "actor_critic.reward_scale": 2.0,
        "actor_critic.target_entropy": 0.0,
    },
    "cheetah_dir": {
        **_WIDE,
        "actor_critic.reward_scale": 2.0,
        "actor_critic.target_entropy": 0.0,
        "replay.episodes_per_task": 3_000,
        "replay.context_episodes": 10,
        "train.updates": 4_000,
        "train.initial_episodes": 100,
        "train.tasks_per_visit": 2,
        "train.prior_episodes": 10,
        "train.posterior_episodes": 10,
        "evaluation.every": 500,
    },
    "ant_dir": {**_WIDE, "actor_critic.gamma": 0.97, "actor_critic.target_entropy": 0.0},
    "ant_goal": {**_WIDE, "actor_critic.target_entropy": 0.0},
    "humanoid_dir": {**_WIDE, "actor_critic.gamma": 0.97, "actor_critic.target_entropy": 0.0},
    "walker_rand_params": _QUICK_BODIES,
    "hopper_rand_params": _QUICK_BODIES,
    # Its returns are small beside their KL: what PEARL's factor of 100 on rewards is for.
    "point_robot": {
        "task.kl_weight": 0.1,
        "task.context_min": 20,
        "actor_critic.alpha_init": 0.1,
        "replay.episodes_per_task": 400,
        "replay.context_episodes": 10,
        "train.updates": 2_000,
        "train.initial_episodes": 10,
        "train.tasks_per_visit": 20,
        "train.posterior_context": True,
        "train.updates_per_visit": 10,
        "train.lr_context": 1e-3,
        "train.lr_alpha": 5e-4,
        "evaluation.every": 500,
        "evaluation.trials": 2,
    },
    # Most transitions tell only where no reward is, and a half circle is searched: factors that are not
    # diagonal, m among beliefs of training tasks by the rewards that each foretells, drawn twice an episode,
    # and at first many random actions that are held, for contexts in which somebody found the goal.
    "sparse_point_robot": {
        **_context(400),
        "task.factor_rank": 2,
        "task.prior_factor": True,
        "task.prior_beliefs": 256,
        "task.reward_std": 0.2,
        "task.kl_weight": 0.1,
        "task.context_min": 40,
        "task.context_max": 200,
        "actor_critic.gamma": 0.9,
        "actor_critic.alpha_init": 0.1,
        "replay.episodes_per_task": 400,
        "replay.context_episodes": 400,
        "train.updates": 4_000,
        "train.initial_episodes": 150,
        "train.random_hold": 20,
        "train.tasks_per_visit": 20,
        "train.prior_episodes": 3,
        "train.posterior_episodes": 3,
        "train.posterior_context": True,
        "train.redraw_every": 10,
        "train.updates_per_visit": 20,
        "train.lr_context": 1e-3,
        "train.lr_alpha": 5e-4,
        "evaluation.every": 500,
        "evaluation.episodes": 5,
        "evaluation.redraw_every": 10,
    },
}

# SAC as SLAC's paper has it beside SLAC, its bound from above.
SAC: Settings = {**SLAC, **ON_STATES, "train.predict_with_critics": True}

STATE_PRESETS: Mapping[str, Settings] = {"sac-state": SAC, "pearl": PEARL, "pearl-quick": PEARL_QUICK}

STATE_FAMILIES: Mapping[tuple[str, str], Settings] = {
    **{("pearl", family): settings for family, settings in PEARL_FAMILIES.items()},
    **{("pearl-quick", family): settings for family, settings in PEARL_QUICK_FAMILIES.items()},
    **{("sac-state", family): until(500_000, SAC, repeat) for family, repeat in REPEATS.items()},
}
