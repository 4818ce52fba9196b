"""Vector environments of a family: plain ones, and those that outlive what fails in them."""

from metaslac.envs.errors import FamilyError
from metaslac.envs.family import Family
from metaslac.envs.registry import make_family
from metaslac.envs.worlds.supervision import SupervisedVectorEnv
from metaslac.envs.worlds.vector_env import TaskVectorEnv


def make_vector_env(
    family: Family | str, num_envs: int, threads: int = 0, tolerant: bool = False, states: bool = False
) -> TaskVectorEnv | SupervisedVectorEnv:
    """`num_envs` worlds stepped and drawn together on `threads` threads (0: as many as pay off).

    Args:
        family: whose tasks are played; a name makes it with the defaults of make_family.
        num_envs: how many worlds.
        threads: for physics and drawing together.
        tolerant: whether faults end episodes instead of raising: a simulation that diverges
            (info["diverged"]), and a worker that hangs or dies and is replaced (info["lost"]).
        states: whether info["state"] gives the true states, float64 (num_envs, state_size), whatever is
            observed; for training and controls that may know them.

    Raises:
        FamilyError: num_envs or threads out of range, or no family has that name.
        RenderingUnavailable: pixels cannot be drawn here.
    """
    played = make_family(family) if isinstance(family, str) else family
    if not tolerant:
        return TaskVectorEnv(played, num_envs, threads, states=states)
    return SupervisedVectorEnv(
        lambda: TaskVectorEnv(played, num_envs, threads, raise_on_divergence=False, states=states)
    )


def registered_vector_env(
    num_envs: int,
    family: str,
    image_size: int = 64,
    action_repeat: int = 1,
    observation: str = "pixels",
    threads: int = 0,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    frames: int = 1,
) -> TaskVectorEnv:
    """What `gymnasium.make_vec` calls. Worlds are not reset on their own (AutoresetMode.DISABLED).

    Args:
        num_envs, threads: as for make_vector_env.
        family, image_size, action_repeat, observation, frames: as for make_family.
        render_mode: None or "rgb_array"; pictures can be had in either.
        max_episode_steps: gymnasium's, in decisions. The family's own limit comes first or at the same time.

    Raises:
        FamilyError: an option is out of its range, or a limit below the family's is asked for.
    """
    if render_mode not in (None, "rgb_array"):
        raise FamilyError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    made = make_family(family, image_size, action_repeat, observation, frames)
    if max_episode_steps is not None and max_episode_steps < made.episode_steps:
        raise FamilyError(
            f"{family}: episodes of many worlds have {made.episode_steps} decisions, not {max_episode_steps}"
        )
    return TaskVectorEnv(made, num_envs, threads)
