"""Every setting of a run: frozen dataclasses, one section each, one help line and the limits per field.

What is done when is in schedule.py, roll-outs in latent space are in imagination.py, where a run runs and
what is kept of it in runtime.py. What a field is made of is in fields.py, which values go together in
validation.py, settings as text in text.py; presets live in presets.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from metaslac.config.fields import IMAGE_SIZES, count, setting, units
from metaslac.config.imagination import ImaginationConfig
from metaslac.config.runtime import CheckpointConfig, RuntimeConfig
from metaslac.config.schedule import EvaluationConfig, TrainConfig

TASK_INFERENCE = ("infer", "oracle", "blind")
TASK_GRADIENT = ("both", "critic", "model")
FRAMES = (1, 2, 3)
OBSERVATIONS = ("pixels", "state")
SPLITS = ("train", "validation", "test")  # of a family's tasks
LATENT_KINDS = ("slac", "vae", "filtering", "simple_vae", "partially_stochastic", "deterministic")
SEQUENTIAL = ("slac", "filtering", "partially_stochastic", "deterministic")  # whose latents predict the next
ENSEMBLES = ("slac", "filtering", "partially_stochastic")  # and have a spread, so that heads may disagree
CRITIC_INPUTS = ("latent", "features", "latent_features", "state")
ACTOR_INPUTS = ("features", "latent")

# What has to stand wherever a result of such a run does.
PRIVILEGED = "the critic saw the simulator's state in training"
ON_STATES = "the agent acts on the simulator's state, not on pixels"


@dataclass(frozen=True)
class FamilyConfig:
    """Which tasks, and how the agent sees and drives them."""

    name: str = setting("cheetah_vel", "task family, as listed by `metaslac families`")
    image_size: int = setting(64, "height and width of the pixels: 32, 64 or 128", choices=IMAGE_SIZES)
    action_repeat: int = count(1, "control steps per action; rewards are summed, the horizon stays")
    observation: str = setting(
        "pixels",
        "what the agent sees, in training and when it acts: pixels, or the simulator's state as it is",
        choices=OBSERVATIONS,
        older="pixels",
    )
    frames: int = setting(
        1,
        "control steps whose pictures the agent sees at once, so that it sees motion",
        choices=FRAMES,
        older=1,
    )


@dataclass(frozen=True)
class ModelConfig:
    """The latent variable model, and what else the encoder learns from."""

    kind: str = setting(
        "slac",
        "latent model: slac, or of its ablations vae (no sequence), filtering (one layer), simple_vae "
        "(neither), partially_stochastic (z2 a delta), deterministic",
        choices=LATENT_KINDS,
        older="slac",
    )
    heads: int = setting(
        1,
        "heads for the next latent, an ensemble: each step's KL is on one drawn at random (LOMPO: 7)",
        low=1,
        high=64,
        older=1,
    )
    prior_std_min: float = setting(
        1e-5,
        "floor of the standard deviation of the next latent that is predicted; LOMPO's is 0.1, without which "
        "log-likelihoods of several heads may lie very far apart",
        above=0,
        older=1e-5,
    )
    base_depth: int = units(32, "channels of the first convolution; each next one has twice as many")
    feature_size: int = units(256, "size of the image feature f_t")
    feature_norm: bool = setting(
        False, "normalise each image feature over its entries, in place of its activation", older=False
    )
    z1_size: int = units(32, "size of the first latent layer z1_t, where there are two")
    z2_size: int = units(256, "size of the second latent layer z2_t, or of z_t where it is the only one")
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
    next_observation: bool = setting(
        True, "whether the context encoder sees where a transition led; PEARL's mostly does not", older=True
    )
    prior_factor: bool = setting(True, "whether N(0, I) is one factor of the product of Gaussians")
    prior_beliefs: int = count(
        0,
        "beliefs of training tasks among which m is drawn while acting, weighed by evidence; 0 draws from "
        "N(0, I) and the belief",
        low=0,
        older=0,
    )
    reward_std: float = setting(
        0.0,
        "standard deviation of the rewards of a context told from m, which train the context encoder too; "
        "those that are observed then weigh prior_beliefs, in place of the factors; 0 is without",
        low=0,
        older=0.0,
    )
    gradient: str = setting(
        "both", "what trains the context encoder: the critic, the model, or both", choices=TASK_GRADIENT
    )
    kl_weight: float = setting(
        0.1, "weight of KL(q(m|c) || N(0, I)): sum over dimensions, mean over tasks", low=0
    )
    context_segments: int = count(8, "segments of consecutive transitions in a training context")
    context_length: int = count(16, "transitions per segment of a training context")
    count_once: bool = setting(
        False,
        "draw the segments of a training context apart, and count a transition once that is in several",
        older=False,
    )
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
    actor_input: str = setting(
        "features",
        "what the actor sees: features (the history of them and of actions, SLAC), or latent (z_t, filtered "
        "over that history)",
        choices=ACTOR_INPUTS,
        older="features",
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
    hidden_size: int = units(256, "width of the hidden layers of actor and critics")
    hidden_layers: int = setting(2, "how many they have; PEARL's have 3", low=1, high=16, older=2)
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
    policy_decay: float = setting(
        0.0,
        "weight of the mean squares of the policy's means and log standard deviations; PEARL's is 1e-3",
        low=0,
        older=0.0,
    )
    deterministic: bool = setting(
        False,
        "the actor is the tanh of its mean and explores by noise; no entropy, no temperature (LOMPO)",
        older=False,
    )
    action_noise: float = setting(
        0.2, "standard deviation of that noise, on actions in [-1, 1], also in roll-outs", low=0, older=0.2
    )
    cloning_weight: float = setting(
        0.0,
        "weight of -log pi of the actions that were played, in the actor's loss, beside values over their "
        "mean size; in TD3+BC squared errors weigh 0.4",
        low=0,
        older=0.0,
    )


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
class Config:
    """A whole run."""

    family: FamilyConfig = field(default_factory=FamilyConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig, metadata={"older": {}})
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    @property
    def privileged(self) -> bool:
        """Whether critics, in training, see more than the agent does: the simulator's state."""
        return self.actor_critic.critic_input == "state"

    @property
    def on_states(self) -> bool:
        """Whether the agent itself sees the simulator's state, and no pixels anywhere."""
        return self.family.observation == "state"

    @property
    def offline(self) -> bool:
        """Whether a data set is learned from, and nothing is played."""
        return bool(self.runtime.data_set)

    @property
    def command(self) -> str:
        """The command that makes such a run."""
        return "metaslac offline-train" if self.offline else "metaslac meta-train"

    @property
    def keeps_features(self) -> bool:
        """Whether what actor and critics see is in the replay as it is, and nothing has to be encoded."""
        return self.on_states or self.train.freeze_encoder

    @property
    def learns_prior(self) -> bool:
        """Whether acting draws m among beliefs of training tasks."""
        return self.task.inference == "infer" and self.task.prior_beliefs > 0

    @property
    def learns_temperature(self) -> bool:
        """Whether there is one to learn: an actor with an entropy, and critics whose values it weighs."""
        return not self.actor_critic.deterministic and not self.train.cloning


def caveat(observation: str, privileged: bool) -> str:
    """What has to be said wherever a result stands, of an agent that sees `observation`; or nothing."""
    return ON_STATES if observation == "state" else PRIVILEGED * privileged
