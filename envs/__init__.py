"""Task families for meta-reinforcement learning from pixels.

This file is the package's whole public face. See family.py for what a family is.
"""

# First of all, and for its effect: it picks the OpenGL back end, which must happen before MuJoCo is imported.
import envs.back_end  # isort: skip  # noqa: F401

from envs.errors import FamilyError, RenderingUnavailable, SimulationDiverged, UnknownFamilyError
from envs.family import Family, Step, Task, TaskFamily
from envs.registry import family_names, make_family, register_with_gymnasium
from envs.simulation import State
from envs.supervision import SupervisedVectorEnv
from envs.vector_env import TaskEnv, TaskVectorEnv

__all__ = [
    "Family",
    "FamilyError",
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
]

register_with_gymnasium()
