"""The names of the families that come with this package, known without importing a simulator.

Where each is made is here too; making one is registry.py's business. A test holds it against the classes.
"""

from typing import NamedTuple

SUITE_PREFIX = "dmc:"
SUITE_HORIZON = 1000  # control steps, of every task of dm_control's suite


class Place(NamedTuple):
    """Where a family is, and how long its episodes are."""

    module: str
    attribute: str
    horizon: int  # control steps


_FAMILIES = "metaslac.envs.families"

BUILT_IN = {
    "ant_dir": Place(f"{_FAMILIES}.ant", "AntDir", 200),
    "ant_goal": Place(f"{_FAMILIES}.ant", "AntGoal", 200),
    "cheetah_dir": Place(f"{_FAMILIES}.cheetah", "CheetahDir", 200),
    "cheetah_vel": Place(f"{_FAMILIES}.cheetah", "CheetahVel", 200),
    "hopper_rand_params": Place(f"{_FAMILIES}.hopper", "HopperRandParams", 200),
    "humanoid_dir": Place(f"{_FAMILIES}.humanoid", "HumanoidDir", 200),
    "point_robot": Place(f"{_FAMILIES}.point_robot", "PointRobot", 20),
    "reacher_goal": Place(f"{_FAMILIES}.reacher", "ReacherGoal", 50),
    "sparse_point_robot": Place(f"{_FAMILIES}.point_robot", "SparsePointRobot", 20),
    "walker_rand_params": Place(f"{_FAMILIES}.walker", "WalkerRandParams", 200),
}

_SUITE_TASKS = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": (
        *("balance", "balance_sparse", "swingup", "swingup_sparse"),
        *("three_poles", "two_poles"),
    ),
    "cheetah": ("run",),
    "dog": ("fetch", "run", "stand", "trot", "walk"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("swim", "upright"),
    "hopper": ("hop", "stand"),
    "humanoid": ("run", "run_pure_state", "stand", "walk"),
    "humanoid_CMU": ("run", "stand", "walk"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("escape", "fetch", "run", "walk"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer15", "swimmer6"),
    "walker": ("run", "stand", "walk"),
}

# As of dm_control 1.0.50. Of another version, tasks that are not listed have no id in gymnasium; they can be
# made all the same.
SUITE = tuple(f"{SUITE_PREFIX}{domain}-{task}" for domain, tasks in _SUITE_TASKS.items() for task in tasks)
