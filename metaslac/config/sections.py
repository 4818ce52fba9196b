"""Every setting of a run: frozen dataclasses, one section each, one help line and the limits per field.

Where a run runs, and what is kept of it, is in runtime.py. What a field is made of is in fields.py, which
values go together in validation.py, settings as text in text.py; presets live in presets.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from metaslac.config.fields import count, setting, units
from metaslac.config.runtime import CheckpointConfig, RuntimeConfig

TASK_INFERENCE = ("infer", "oracle", "blind")
TASK_GRADIENT = ("both", "critic", "model")
IMAGE_SIZES = (32, 64, 128)
FRAMES = (1, 2, 3)
CRITIC_INPUTS = ("latent", "features", "latent_features", "state")

# What has to stand wherever a result of such a run does.
PRIVILEGED = "the critic saw the simulator's state in training"

LARGEST_SEED = 2**32 - 1  # larger ones are several numbers of a key, and could be another key's


@dataclass(frozen=True)
class FamilyConfig:
    """Which tasks, and how the agent sees and drives them."""

    name: str = setting("cheetah_vel", "task family, as listed by `metaslac families`")
    image_size: int = setting(64, "height and width of the pixels: 32, 64 or 128", choices=IMAGE_SIZES)
    action_repeat: int = count(1, "control steps per action; rewards are summed, the horizon stays")
    frames: int = setting(
        1,
        "control steps whose pictures the agent sees at once, so that it sees motion",
        choices=FRAMES,
        older=1,
    )


@dataclass(frozen=True)
class ModelConfig:
    """The sequential latent variable model."""

    base_depth: int = units(32, "channels of the first convolution; each next one has twice as many")
    feature_size: int = units(256, "size of the image feature f_t")
    feature_norm: bool = setting(
        False, "normalise each image feature over its entries, in place of its activation", older=False
    )
    z1_size: int = units(32, "size of the first latent layer z1_t")
    z2_size: int = units(256, "size of the second latent layer z2_t")
    hidden_size: int = units(256, "width of the two hidden layers of every latent conditional")
    convolution_init: bool = setting(
        False,
        "initialise the layers at 4 x 4 pictures as the convolutions that SLAC has there; by their own sizes "
        "if not",
        older=False,
    )
    window: int = count(8, "transitions per window; also the frames in the actor's history")
    elbo_weight: float = setting(
        1.0, "weight of the negative ELBO; 0 does without latents, decoder and all", low=0, older=1.0
    )
    pixel_variance: float = setting(0.1, "fixed variance of p(x_t | z_t), pixels in [0, 1]", above=0)
    inverse_weight: float = setting(
        0.0,
        "weight of the error of actions inferred from consecutive image features; 0 is SLAC",
        low=0,
        older=0.0,
    )
    last_action_weight: float = setting(
        0.0,
        "weight of the error of the last action told from one feature of stacked frames",
        low=0,
        older=0.0,
    )
    contrast_weight: float = setting(
        0.0,
        "weight of telling the next image feature from those of other windows (InfoNCE)",
        low=0,
        older=0.0,
    )
    feature_reward_weight: float = setting(
        0.0,
        "weight of -log p(r_t | f_t, a_t, f_{t+1}, m), rewards told from image features",
        low=0,
        older=0.0,
    )
    reward_weight: float = setting(1.0, "weight of -log p(r_t | ...) in the model loss", low=0)
    reward_std: float = setting(0.0, "fixed standard deviation of the reward likelihood; 0 learns it", low=0)
    reward_std_min: float = setting(1e-5, "floor of the learned standard deviation of the reward", above=0)


@dataclass(frozen=True)
class TaskConfig:
    """The task variable m and its inference."""

    inference: str = setting(
        "infer",
        "where m comes from: infer it, oracle (learned from the true parameters), blind (zero)",
        choices=TASK_INFERENCE,
    )
    size: int = units(5, "size of m", low=0)
    hidden_size: int = units(200, "width of the three hidden layers of the context encoder")
    factor_rank: int = units(
        2,
        "directions of m that one transition tells something of; 0 for PEARL's diagonal factors",
        low=0,
        older=0,
    )
    prior_factor: bool = setting(True, "whether N(0, I) is one factor of the product of Gaussians")
    gradient: str = setting(
        "both", "what trains the context encoder: the critic, the model, or both", choices=TASK_GRADIENT
    )
    kl_weight: float = setting(
        0.1, "weight of KL(q(m|c) || N(0, I)): sum over dimensions, mean over tasks", low=0
    )
    context_segments: int = count(8, "segments of consecutive transitions in a training context")
    context_length: int = count(16, "transitions per segment of a training context")
    context_min: int = count(
        8, "fewest context transitions a training belief is inferred from, if there are so many"
    )
    context_max: int = count(128, "most context transitions a belief is inferred from in training")


@dataclass(frozen=True)
class ActorCriticConfig:
    """Soft actor-critic: what actor and critics see, and how they learn."""

    critic_input: str = setting(
        "latent",
        "what the critics see: latent (SLAC), features (the actor's history), latent_features (both), or "
        "state (the simulator's, in training only: privileged)",
        choices=CRITIC_INPUTS,
        older="latent",
    )
    standardise: bool = setting(
        False, "standardise features and states by what was collected so far, entry by entry", older=False
    )
    action_scale: float = setting(
        1.0, "factor on the action that a critic judges, against many features", above=0, older=1.0
    )
    task_scale: float = setting(
        1.0, "factor on m as actor, critics and rewards from features see it", above=0, older=1.0
    )
    hidden_size: int = units(256, "width of the two hidden layers of actor and critics")
    layer_norm: bool = setting(True, "normalise the hidden layers of the critics; SLAC and PEARL do not")
    actor_layer_norm: bool = setting(False, "normalise the hidden layers of the actor too", older=False)
    gamma: float = setting(0.99, "discount per agent decision", above=0, high=1)
    tau: float = setting(
        0.005, "step of the target critics towards the critics, each actor-critic step", above=0, high=1
    )
    alpha_init: float = setting(0.1, "initial temperature", above=0)
    target_entropy: float = setting(
        -1.0,
        "entropy (nats per action dimension) that the temperature keeps; higher explores more, at most log 2",
        low=-18.0,  # of the narrowest Gaussian that an actor can have: -18.6
        high=0.69,
        older=-1.0,
    )
    reward_scale: float = setting(5.0, "factor on rewards in the critic's target only", above=0)


@dataclass(frozen=True)
class ReplayConfig:
    """What is kept of every training task."""

    episodes_per_task: int = count(
        40, "newest episodes kept per training task: so many full ones, more short ones"
    )
    decisions_per_task: int = count(
        0, "newest decisions kept, in as many full episodes; 0 goes by episodes_per_task", low=0, older=0
    )
    context_episodes: int = count(
        2, "newest episodes of a task that training contexts come from; more of short ones, for as many steps"
    )


@dataclass(frozen=True)
class TrainConfig:
    """The meta-training loop."""

    seed: int = setting(0, "seed of everything random in the run", low=0, high=LARGEST_SEED)
    updates: int = count(20_000, "meta-training updates after pre-training")
    initial_episodes: int = count(
        2, "random episodes on every training task at the start; more of short ones, for as many steps"
    )
    initial_decisions: int = count(
        0, "decisions of those, in whole episodes; 0 goes by initial_episodes", low=0, older=0
    )
    random_hold: int = count(1, "decisions that each random action of those episodes is held for")
    pretrain_updates: int = count(1_000, "model-only updates on the random episodes", low=0)
    pretrain_windows: int = count(2, "windows per task in a pre-training update")
    pretrain_lr: float = setting(1e-3, "Adam step of the model while pre-training", above=0)
    pretrain_decay: float = setting(
        0.0,
        "last share of pre-training over which that step falls linearly to zero",
        low=0,
        high=1,
        older=0.0,
    )
    freeze_encoder: bool = setting(
        False,
        "encoder and latent model learn in pre-training only; features are then made once, kept in the "
        "replay, and every step draws windows of its own",
        older=False,
    )
    encoder_from_critic: bool = setting(
        False, "the critics' error trains the encoder, and nothing else does (SAC from pixels)", older=False
    )
    random_shift: int = setting(
        0,
        "pixels by which an update moves the frames of a window at most, all alike and at random (DrQ: 4)",
        low=0,
        high=min(IMAGE_SIZES),
        older=0,
    )
    refresh_first: int = count(
        0,
        "updates after which a frozen encoder is trained again, on all that is stored, and again whenever "
        "they have doubled; 0 is never",
        low=0,
        older=0,
    )
    refresh_updates: int = count(500, "model-only updates of each time", older=500)
    refresh_lr: float = setting(
        1e-3, "Adam step of the model at their beginning, falling to zero", above=0, older=1e-3
    )
    tasks_per_visit: int = count(
        8, "training tasks visited between updates, a trial each; more trials, up to 8, if episodes are short"
    )
    prior_episodes: int = count(
        1, "episodes of a visit's trial with m ~ N(0, I), for the task's context pool"
    )
    posterior_episodes: int = count(1, "episodes of a visit's trial with m ~ q(m | those before)", low=0)
    redraw_every: int = count(
        0,
        "decisions after which a visit draws m anew from the belief; 0 is once an episode",
        low=0,
        older=0,
    )
    posterior_context: bool = setting(True, "whether posterior episodes go into the task's context pool too")
    updates_per_visit: int = count(40, "updates after each visit")
    updates_per_decision: float = setting(
        0.0,
        "updates after each visit for each decision kept of it, at least one; 0 goes by updates_per_visit",
        low=0,
        high=1_000,
        older=0.0,
    )
    collect_ahead: bool = setting(
        False, "play each visit during the updates before it, with the weights from before those"
    )
    tasks_per_update: int = count(8, "tasks in an update's meta-batch")
    model_windows: int = count(4, "windows per task in the model loss")
    windows: int = count(32, "windows per task encoded for the actor-critic steps, the model's included")
    steps_per_batch: int = count(
        4, "actor-critic and context steps per update, on equal parts of the windows"
    )
    predict_with_critics: bool = setting(
        True,
        "critic steps also descend what the model predicts, rewards and next latents; SLAC's do not: there "
        "each weight takes one Adam step an update",
        older=True,
    )
    extra_steps: int = count(
        0,
        "further critic and actor steps per update, on beliefs and latents that those have inferred; on "
        "windows of their own where the encoder is frozen",
        low=0,
        older=0,
    )
    lr_model: float = setting(1e-4, "Adam step of the latent model", above=0)
    lr_context: float = setting(3e-4, "Adam step of the context encoder", above=0)
    lr_critic: float = setting(3e-4, "Adam step of the critics", above=0)
    lr_actor: float = setting(3e-4, "Adam step of the actor", above=0)
    lr_decay: float = setting(
        0.0, "last share of the updates over which every Adam step falls linearly to zero", low=0, high=1
    )
    lr_alpha: float = setting(3e-4, "Adam step of the temperature", low=0)


@dataclass(frozen=True)
class EvaluationConfig:
    """Adaptation to validation tasks during the run."""

    every: int = count(
        1_000, "most updates between evaluations; a run has at least five, the last after its last update"
    )
    episodes: int = count(3, "episodes per trial")
    exploration_episodes: int = count(1, "first episodes of a trial that act on m ~ N(0, I)", low=0)
    trials: int = count(1, "independent trials per validation task")
    sample_actions: bool = setting(
        False, "whether actions are samples of the policy, and not the tanh of its mean", older=False
    )
    redraw_every: int = count(
        0,
        "decisions after which m is drawn anew from the belief, in first episodes too; 0 is once an episode",
        low=0,
        older=0,
    )
    mean_below: float = setting(
        0.0,
        "standard deviation of the belief, mean over m, under which its mean is acted on, not a sample",
        low=0,
        older=0.0,
    )


@dataclass(frozen=True)
class Config:
    """A whole run."""

    family: FamilyConfig = field(default_factory=FamilyConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    @property
    def privileged(self) -> bool:
        """Whether training looks at the simulator's state."""
        return self.actor_critic.critic_input == "state"
