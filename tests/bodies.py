"""The randomised bodies, and what their models must be."""

from dataclasses import dataclass
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from metaslac import envs

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


FIELDS = ("body_mass", "body_inertia", "dof_damping", "geom_friction")


DERIVED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0")


@dataclass(frozen=True)
class Body:
    family: str
    file: str
    stock: str  # gymnasium's id
    actions: int
    params: int

    def __str__(self) -> str:
        return self.family

    def nominal(self) -> mujoco.MjModel:
        xml = (ASSETS / self.file).read_text()
        assert xml.count('timestep="0.002"') == 1
        return mujoco.MjModel.from_xml_string(xml.replace('timestep="0.002"', 'timestep="0.004"'))

    def exponents(self) -> np.ndarray:
        return np.random.RandomState(1337).uniform(-3, 3, (50, self.params))

    def edited(self, task: int, leave: str = "", constants: bool = True) -> mujoco.MjModel:
        """The model of a task; `leave` a field as it was, or leave out the derived `constants`."""
        model = self.nominal()
        row = self.exponents()[task]
        bodies, dofs, geoms = model.nbody, model.nv, model.ngeom
        ends = np.cumsum([bodies, 3 * bodies, dofs, 3 * geoms])
        assert ends[-1] == self.params
        if leave != "body_mass":
            model.body_mass[:] *= 1.5 ** row[: ends[0]]
        if leave != "body_inertia":
            model.body_inertia[:] *= 1.5 ** row[ends[0] : ends[1]].reshape(bodies, 3)
        if leave != "dof_damping":
            model.dof_damping[:] *= 1.3 ** row[ends[1] : ends[2]]
        if leave != "geom_friction":
            model.geom_friction[:] *= 1.5 ** row[ends[2] :].reshape(geoms, 3)
        if constants:
            mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def make(self, num_envs: int, threads: int = 1, **options: object) -> envs.TaskVectorEnv:
        options = {"observation": "state", **options}
        return envs.make_vector_env(envs.make_family(self.family, **options), num_envs, threads)  # type: ignore[arg-type]


WALKER = Body("walker_rand_params", "walker2d.xml", "Walker2d-v5", actions=6, params=65)


HOPPER = Body("hopper_rand_params", "hopper.xml", "Hopper-v5", actions=3, params=41)


bodies = pytest.mark.parametrize("body", [WALKER, HOPPER], ids=str)


def constants(env: envs.TaskVectorEnv, world: int) -> dict[str, np.ndarray]:
    model = env.worlds.simulation._batch.get_model(world)
    return {field: getattr(model, field).copy() for field in (*FIELDS, *DERIVED)}
