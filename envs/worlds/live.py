"""What cannot be done to a live environment: it has threads and OpenGL contexts, which no copy has."""

from typing import Any, NoReturn

from metaslac.envs.errors import FamilyError


def refuse_to_be_copied(env: Any, protocol: Any) -> NoReturn:
    """In place of `__reduce_ex__`, which copy, deepcopy and every kind of pickle ask; raises FamilyError."""
    raise FamilyError(
        f"{env.family.name}: a live environment cannot be copied or pickled; hand over what makes one, as "
        "functools.partial(envs.make_vector_env, family, num_envs), for families can be"
    )
