"""What the stock bodies are made from, and the floor they are seen on.

Physics is left as it comes; what the agent sees is made for small pictures.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import gymnasium
import mujoco

HALF_LENGTH_METRES = 160.0  # of the floor's drawn part: long enough that no run leaves it
CHECKER_PERIOD_METRES = 2.0  # motion between two pictures is unambiguous below half of it
PITCH = math.radians(8.0)  # down: more floor is seen, and it stays in sight when the body falls

Colour = tuple[float, float, float, float]

TRUNK_COLOUR: Colour = (1.0, 0.95, 0.8, 1.0)
FRONT_COLOUR: Colour = (1.0, 0.75, 0.3, 1.0)
BACK_COLOUR: Colour = (0.9, 0.3, 0.9, 1.0)


def gymnasium_spec(file_name: str) -> mujoco.MjSpec:
    """One of the model files installed with gymnasium, to be edited and compiled."""
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    return mujoco.MjSpec.from_file(str(folder / file_name))


def lay_checker(model: mujoco.MjModel, period: float = CHECKER_PERIOD_METRES) -> None:
    """Make the drawn part of the plane "floor" long, its checker repeating every `period` metres."""
    floor = model.geom("floor")
    # The last is the distance of the vertices it is drawn from: at the stock 0.125 m they cost all the time.
    floor.size[:] = HALF_LENGTH_METRES, HALF_LENGTH_METRES, 40.0
    model.mat_texrepeat[floor.matid[0]] = 2.0 * HALF_LENGTH_METRES / period


def see_from_side(
    spec: mujoco.MjSpec, position: Sequence[float], fovy: float, colours: Mapping[str, Colour]
) -> None:
    """Make a body that runs along x stand out, seen by its camera "track" from `position` relative to it (m).

    Args:
        spec: edited in place.
        position: where the camera stands; it looks along y, a little down.
        fovy: vertical field of view (degrees).
        colours: ending of a geom's name -> its colour; the first that fits counts.
    """
    camera = spec.camera("track")
    camera.pos, camera.fovy = position, fovy
    camera.alt.xyaxes = [1.0, 0.0, 0.0, 0.0, math.sin(PITCH), math.cos(PITCH)]
    mute_floor(spec)
    spec.visual.headlight.diffuse = [0.8, 0.8, 0.8]  # the stock light shines down, past upright limbs
    spec.geom("floor").rgba = [0.45, 0.5, 0.45, 1.0]
    for geom in spec.geoms:
        if geom.name != "floor":
            geom.material = ""
            geom.rgba = next(colour for ending, colour in colours.items() if geom.name.endswith(ending))


def follow_body(model: mujoco.MjModel, camera: str) -> None:
    """Let a camera keep its offset to the body it hangs on, with its direction fixed in the world.

    Stock cameras follow the centre of mass, which would give away masses if a family changed them.
    """
    model.camera(camera).mode[:] = mujoco.mjtCamLight.mjCAMLIGHT_TRACK.value


def sense_contacts(spec: mujoco.MjSpec) -> None:
    """Have MuJoCo compute cfrc_ext, which it does only for a model with a sensor that needs it."""
    spec.add_sensor(
        name="acceleration",
        type=mujoco.mjtSensor.mjSENS_FRAMELINACC,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        objname="torso",
    )


def mute_floor(spec: mujoco.MjSpec) -> mujoco.MjsMaterial:
    """Take all shine from the floor, so that its colours do not depend on where it is seen from."""
    material = spec.material("MatPlane")
    material.reflectance = material.specular = material.shininess = 0.0
    return material
