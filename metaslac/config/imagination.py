"""Settings of roll-outs in latent space, which actor and critics learn from beside what was played."""

from __future__ import annotations

from dataclasses import dataclass

from metaslac.config.fields import setting

PENALTIES = ("none", "log_prob", "max_var", "mean")


@dataclass(frozen=True)
class ImaginationConfig:
    """Decisions that the latent model imagines (LOMPO, Rafailov et al. 2020; MOPO, MOReL before it)."""

    share: float = setting(
        0.0,
        "share of imagined decisions among those of an actor-critic step; 0 imagines none, LOMPO's is 0.5",
        low=0,
        high=0.95,
        older=0.0,
    )
    horizon: int = setting(
        5, "steps of a roll-out, which begins where a latent was inferred", low=1, high=1_000, older=5
    )
    penalty: str = setting(
        "none",
        "how the heads' disagreement about the next latent is measured, which lowers imagined rewards: "
        "log_prob (spread of its log-likelihoods; LOMPO), max_var (largest spread of a head), mean (distance "
        "of the means from theirs), or none",
        choices=PENALTIES,
        older="none",
    )
    penalty_weight: float = setting(
        5.0, "factor on it, in units of the reward; LOMPO's lambda", low=0, older=5.0
    )
