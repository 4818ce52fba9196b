"""Many MuJoCo worlds of one model, stepped together on MuJoCo's own threads.

Knows nothing of tasks, rewards or pixels; it keeps the fields that a picture needs up to date.
"""

from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch, SimulationError

from envs.family import Array, Ids

# All that mjv_updateScene reads of a state, for models without flexes, skins and tendons.
PICTURE_FIELDS = (
    "geom_xpos",
    "geom_xmat",
    "site_xpos",
    "site_xmat",
    "cam_xpos",
    "cam_xmat",
    "light_xpos",
    "light_xdir",
)


class Simulation:
    """`num_worlds` worlds of `model`.

    `qpos`, `qvel` and `ctrl` are live arrays (num_worlds, ...): what is written there is the state at the
    next call. `picture` maps PICTURE_FIELDS to live arrays that describe the state after the last call, not a
    substep before it. A world's trajectory is bit-equal to stepping it alone, whatever the number of worlds
    and threads.
    """

    def __init__(self, model: mujoco.MjModel, num_worlds: int, threads: int) -> None:
        self._batch = Batch(model, num_worlds, threads)
        self.model = model
        self.qpos: Array = self._batch.bind("qpos")
        self.qvel: Array = self._batch.bind("qvel")
        self.ctrl: Array = self._batch.bind("ctrl")
        self.picture: Mapping[str, npt.NDArray[np.float64]] = {
            name: self._batch.bind(name) for name in PICTURE_FIELDS
        }
        self._batch.reset()

    def reset(self, worlds: Ids, qpos: Array, qvel: Array) -> None:
        """Put these worlds (rising order) at rest, then into the states qpos (N, nq), qvel (N, nv)."""
        ids = worlds.astype(np.int32)
        self._batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._batch.warning[worlds] = 0
        self.qpos[worlds] = qpos
        self.qvel[worlds] = qvel
        self._batch.forward(ids, stage=mujoco.mjtStage.mjSTAGE_POS.value)

    def step(self, worlds: Ids, substeps: int) -> dict[int, str]:
        """Advance these worlds (rising order) by `substeps` physics steps; returns failed world -> reason."""
        failed: dict[int, str] = {}
        try:
            self._batch.step(worlds.astype(np.int32), substeps, mujoco.mjtStage.mjSTAGE_POS.value)
        except SimulationError as error:
            failed = {int(world): self._batch.error(int(world)) for world in error.ids}
        finite = np.isfinite(self.qpos[worlds]).all(axis=1) & np.isfinite(self.qvel[worlds]).all(axis=1)
        warned = self._batch.warning[worlds, :, 1].any(axis=1)
        for world in worlds[warned | ~finite]:
            failed.setdefault(int(world), self._reason(int(world)))
        return failed

    def _reason(self, world: int) -> str:
        raised = [kind.name for kind in _WARNINGS if self._batch.warning[world, int(kind), 1]]
        return "MuJoCo warning " + ", ".join(raised) if raised else "the state is not finite"


_WARNINGS = [kind for kind in mujoco.mjtWarning.__members__.values() if kind != mujoco.mjtWarning.mjNWARNING]
