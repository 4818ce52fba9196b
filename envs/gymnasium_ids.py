"""Every family as an environment of gymnasium's: `gymnasium.make("metaslac/CheetahVel-v0")`.

Imports no simulator; what the ids make is in worlds/.
"""

import re

import gymnasium

from metaslac.envs.names import BUILT_IN, SUITE, SUITE_HORIZON
from metaslac.envs.registry import family_names

ENV = "metaslac.envs.worlds.single_env:TaskEnv"
VECTOR_ENV = "metaslac.envs.worlds.make:registered_vector_env"


def gymnasium_id(name: str) -> str:
    """The id under which gymnasium knows a family.

    'cheetah_vel' is 'metaslac/CheetahVel-v0', 'dmc:ball_in_cup-catch' is 'metaslac/DmcBallInCupCatch-v0'.
    """
    words = re.split("[_:-]", name)
    return f"metaslac/{''.join(word[:1].upper() + word[1:] for word in words)}-v0"


def register() -> None:
    """Make every family known to gymnasium; done when `metaslac.envs` is imported. Imports no other package.

    The length of an episode is known of the families that come with this package.
    """
    horizons = {name: place.horizon for name, place in BUILT_IN.items()} | dict.fromkeys(SUITE, SUITE_HORIZON)
    for name in (*horizons, *family_names()):  # ours first, should two names make the same id
        if gymnasium_id(name) not in gymnasium.registry:
            gymnasium.register(
                gymnasium_id(name),
                entry_point=ENV,
                vector_entry_point=VECTOR_ENV,
                max_episode_steps=horizons.get(name),
                kwargs={"family": name},
            )
