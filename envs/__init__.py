"""Task families for meta-reinforcement learning from pixels.

This file is the package's whole public face, and light: a simulator is imported when a family is asked for.
See family.py for what a family is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metaslac.envs.errors import FamilyError, RenderingUnavailable, SimulationDiverged, UnknownFamilyError
from metaslac.envs.gymnasium_ids import register
from metaslac.envs.registry import family_names, make_family

if TYPE_CHECKING:
    from metaslac.envs.families.of_gymnasium import GymnasiumFamily
    from metaslac.envs.family import Family, Step, Task, TaskFamily
    from metaslac.envs.overlay import Gauge, Goal, Heading, Overlay
    from metaslac.envs.references import Reference
    from metaslac.envs.simulation import State
    from metaslac.envs.worlds.make import make_vector_env
    from metaslac.envs.worlds.single_env import TaskEnv
    from metaslac.envs.worlds.supervision import SupervisedVectorEnv
    from metaslac.envs.worlds.vector_env import TaskVectorEnv

__all__ = [
    "Family",
    "FamilyError",
    "Gauge",
    "Goal",
    "GymnasiumFamily",
    "Heading",
    "Overlay",
    "Reference",
    "RenderingUnavailable",
    "SimulationDiverged",
    "State",
    "Step",
    "SupervisedVectorEnv",
    "Task",
    "TaskEnv",
    "TaskFamily",
    "TaskVectorEnv",
    "UnknownFamilyError",
    "family_names",
    "make_family",
    "make_vector_env",
]

_LATER = {
    "Family": "metaslac.envs.family",
    "GymnasiumFamily": "metaslac.envs.families.of_gymnasium",
    "Step": "metaslac.envs.family",
    "Task": "metaslac.envs.family",
    "TaskFamily": "metaslac.envs.family",
    "Gauge": "metaslac.envs.overlay",
    "Goal": "metaslac.envs.overlay",
    "Heading": "metaslac.envs.overlay",
    "Overlay": "metaslac.envs.overlay",
    "Reference": "metaslac.envs.references",
    "State": "metaslac.envs.simulation",
    "make_vector_env": "metaslac.envs.worlds.make",
    "TaskEnv": "metaslac.envs.worlds.single_env",
    "SupervisedVectorEnv": "metaslac.envs.worlds.supervision",
    "TaskVectorEnv": "metaslac.envs.worlds.vector_env",
}

register()


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
