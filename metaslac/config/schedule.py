"""Sections of what is played, learned and evaluated when, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from metaslac.config.fields import IMAGE_SIZES, count, setting

LARGEST_SEED = 2**32 - 1  # larger ones are several numbers of a key, and could be another key's


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
        False,
        "the critics' error trains the encoder, and nothing else does (SAC from pixels); with train.cloning "
        "it is the actor's",
        older=False,
    )
    cloning: bool = setting(
        False,
        "behaviour cloning alone: the actor learns -log pi of actions, and no critics learn",
        older=False,
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
