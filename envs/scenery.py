"""What the stock bodies are made from, and the floor they are seen on.

Physics is left as it comes; what the agent sees is made for small pictures.
"""

from pathlib import Path

import gymnasium
import mujoco

HALF_LENGTH_METRES = 160.0  # of the floor's drawn part: long enough that no run leaves it
CHECKER_PERIOD_METRES = 2.0  # motion between two pictures is unambiguous below half of it


def gymnasium_spec(file_name: str) -> mujoco.MjSpec:
    """One of the model files installed with gymnasium, to be edited and compiled."""
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    return mujoco.MjSpec.from_file(str(folder / file_name))


def lay_checker(model: mujoco.MjModel, period: float = CHECKER_PERIOD_METRES) -> None:
    """Make the drawn part of the plane "floor" long, its checker repeating every `period` metres."""
    floor = model.geom("floor")
    floor.size[:2] = HALF_LENGTH_METRES
    model.mat_texrepeat[floor.matid[0]] = 2.0 * HALF_LENGTH_METRES / period


def follow_body(model: mujoco.MjModel, camera: str) -> None:
    """Let a camera keep its offset to the body it hangs on, with its direction fixed in the world.

    Stock cameras follow the centre of mass, which would give away masses if a family changed them.
    """
    model.camera(camera).mode[:] = mujoco.mjtCamLight.mjCAMLIGHT_TRACK.value
