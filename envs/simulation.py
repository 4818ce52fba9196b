"""Many MuJoCo worlds of one model, stepped together on MuJoCo's own threads.

Knows nothing of tasks, rewards or pixels; it keeps the fields that a picture needs up to date.
"""

import metaslac.envs.pixels  # isort: skip  # noqa: F401  before MuJoCo, whose OpenGL it chooses

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import DATA_FIELDS, MODEL_FIELDS, Batch, SimulationError

from metaslac.envs.arrays import Array, Ids
from metaslac.envs.errors import FamilyError
from metaslac.envs.forks import Origin, keep_in_children

# All that mjv_updateScene reads of a state: of every model, and of models with skins, flexes or tendons.
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
SKIN_FIELDS = ("xpos", "xquat")
FLEX_FIELDS = ("flexvert_xpos",)
TENDON_FIELDS = ("ten_wrapadr", "ten_wrapnum", "ten_length", "wrap_obj", "wrap_xpos")

# Of the model that pictures are drawn of, which is the same in all worlds: its sizes, colours and lens.
_DRAWN = frozenset(
    (
        *("geom_type", "geom_size", "geom_rgba", "geom_matid", "geom_dataid"),
        *("site_type", "site_size", "site_rgba", "site_matid"),
        *("tendon_rgba", "tendon_width", "mat_rgba", "cam_fovy"),
    )
)
_AT_POSITION = frozenset(
    (
        *PICTURE_FIELDS,
        "xpos",
        "xquat",
        "xmat",
        "xipos",
        "ximat",
        "subtree_com",
        "cinert",
        "cdof",
        "ten_length",
    )
)
# Fields that MuJoCo computes only for a model with a sensor of one of these kinds.
_SENSORS = mujoco.mjtSensor
_FORCE_SENSORS = (
    _SENSORS.mjSENS_ACCELEROMETER,
    _SENSORS.mjSENS_FORCE,
    _SENSORS.mjSENS_TORQUE,
    _SENSORS.mjSENS_FRAMELINACC,
    _SENSORS.mjSENS_FRAMEANGACC,
)
_SUBTREE_SENSORS = (_SENSORS.mjSENS_SUBTREELINVEL, _SENSORS.mjSENS_SUBTREEANGMOM)
_ON_DEMAND = {
    **dict.fromkeys(("cacc", "cfrc_int", "cfrc_ext"), _FORCE_SENSORS),
    **dict.fromkeys(("subtree_linvel", "subtree_angmom"), _SUBTREE_SENSORS),
    **dict.fromkeys(("energy", "qfrc_inverse"), ()),
}
_AT_VELOCITY = frozenset(("cvel", "cdof_dot", "ten_velocity", "actuator_velocity"))


@dataclass(frozen=True)
class State:
    """N worlds at one moment."""

    qpos: Array  # (N, nq)
    qvel: Array  # (N, nv)
    fields: Mapping[str, npt.NDArray[np.float64]]  # further fields of mujoco.MjData, each (N, ...)

    def __getitem__(self, name: str) -> npt.NDArray[np.float64]:
        return self.fields[name]

    def rows(self, which: npt.NDArray[np.bool_]) -> "State":
        """Some of the worlds."""
        fields = {name: values[which] for name, values in self.fields.items()}
        return State(self.qpos[which], self.qvel[which], fields)


class Simulation:
    """`num_worlds` worlds of `model`.

    `qpos`, `qvel` and `ctrl` are live arrays (num_worlds, ...): what is written there is the state at the
    next call. `picture` maps fields of mujoco.MjData to live arrays that describe the state after the last
    call, not a substep before it; so are the fields that it `reads`. A world's trajectory is bit-equal to
    stepping it alone, whatever the number of worlds and threads.

    Args:
        model: the model; copied.
        num_worlds: how many worlds.
        threads: on how many threads they are stepped.
        reads: fields of mujoco.MjData that states() gives besides qpos and qvel. Fields that depend on
            accelerations or forces cost a forward pass per call; they are those of the state reached, under
            the controls last held.
        randomises: fields of mujoco.MjModel, or "opt." and one of its options, that reset() takes a value of
            for each world.

    Raises:
        FamilyError: MuJoCo has no such field, or does not compute it for this model; or worlds may not
            differ in it, as pictures are drawn of one model.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        threads: int,
        reads: Sequence[str] = (),
        randomises: Sequence[str] = (),
    ) -> None:
        _check_fields(model, reads, randomises)
        self._origin = Origin()
        self._has_threads = threads > 1
        self._batch = Batch(model, num_worlds, threads)
        if self._has_threads:
            keep_in_children(self._batch)
        self.model = model
        self.qpos: Array = self._batch.bind("qpos")
        self.qvel: Array = self._batch.bind("qvel")
        self.ctrl: Array = self._batch.bind("ctrl")
        self.picture: Mapping[str, npt.NDArray[np.float64]] = {
            name: self._batch.bind(name) for name in picture_fields(model)
        }
        self._fields = {name: self._batch.bind(name) for name in reads}
        self._model_fields = {name: self._batch.expand(name) for name in randomises}
        inputs = set(mujoco.MjModel._setconst_inputs)
        self._derives = any(name in inputs or name.startswith("opt.") for name in randomises)
        self._stage = _stage(reads).value
        limited = model.actuator_ctrllimited.astype(bool)
        low, high = np.where(limited[:, None], model.actuator_ctrlrange, (-1.0, 1.0)).T
        self.ctrl_middle: Array = (high + low) / 2  # (nu,), of each actuator's control range
        self.ctrl_reach: Array = (high - low) / 2
        self._batch.reset()

    def reset(
        self, worlds: Ids, qpos: Array, qvel: Array, model_fields: Mapping[str, Array] | None = None
    ) -> None:
        """Put these worlds (rising order) at rest, then into the states qpos (N, nq), qvel (N, nv).

        `model_fields` gives every randomised field its values (N, ...); None leaves them as they are. Raises
        FamilyError in a forked child that has not got the threads.
        """
        self._check_threads()
        ids = worlds.astype(np.int32)
        if model_fields:
            for name, live in self._model_fields.items():
                given, wanted = np.shape(model_fields[name]), (len(worlds), *live.shape[1:])
                if given != wanted:
                    raise FamilyError(f"randomises: {name!r} has shape {given} in place of {wanted}")
                live[worlds] = model_fields[name]
            if self._derives:
                self._batch.set_const(ids)
        self._batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._batch.warning[worlds] = 0
        self.qpos[worlds] = qpos
        self.qvel[worlds] = qvel
        self._batch.forward(ids, stage=self._stage)

    def step(self, worlds: Ids, substeps: int) -> dict[int, str]:
        """Advance these worlds (rising order) by `substeps` physics steps; returns failed world -> reason.

        Raises FamilyError in a forked child that has not got the threads.
        """
        self._check_threads()
        failed: dict[int, str] = {}
        try:
            self._batch.step(worlds.astype(np.int32), substeps, self._stage)
        except SimulationError as error:
            failed = {int(world): self._batch.error(int(world)) for world in error.ids}
        finite = np.isfinite(self.qpos[worlds]).all(axis=1) & np.isfinite(self.qvel[worlds]).all(axis=1)
        warned = self._batch.warning[worlds, :, 1].any(axis=1)
        for world in worlds[warned | ~finite]:
            failed.setdefault(int(world), self._reason(int(world)))
        return failed

    def states(self, worlds: Ids) -> State:
        """A copy of the states of these worlds."""
        fields = {name: live[worlds] for name, live in self._fields.items()}
        return State(self.qpos[worlds], self.qvel[worlds], fields)

    def scratch(self) -> mujoco.MjData:
        """A state for one drawing thread to hand to show()."""
        return mujoco.MjData(self.model)

    def show(self, world: int, scratch: mujoco.MjData) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model and state to draw this world from; writes into `scratch`."""
        for name, rows in self.picture.items():
            getattr(scratch, name)[...] = rows[world]
        return self.model, scratch

    def _check_threads(self) -> None:
        if self._has_threads:
            self._origin.check()

    def _reason(self, world: int) -> str:
        raised = [kind.name for kind in _WARNINGS if self._batch.warning[world, int(kind), 1]]
        return "MuJoCo warning " + ", ".join(raised) if raised else "the state is not finite"


def picture_fields(model: mujoco.MjModel) -> tuple[str, ...]:
    """The fields of mujoco.MjData that a picture of this model depends on."""
    wanted = (
        *PICTURE_FIELDS,
        *(SKIN_FIELDS if model.nskin else ()),
        *(FLEX_FIELDS if model.nflex else ()),
        *(TENDON_FIELDS if model.ntendon else ()),
    )
    data = mujoco.MjData(model)
    return tuple(name for name in wanted if getattr(data, name).size)


def _check_fields(model: mujoco.MjModel, reads: Sequence[str], randomises: Sequence[str]) -> None:
    sensors = set(model.sensor_type.tolist())
    for name in reads:
        if name not in DATA_FIELDS:
            raise FamilyError(f"reads: {name!r} is no field of mujoco.MjData that can be read")
        wanted = _ON_DEMAND.get(name)
        if wanted is not None and sensors.isdisjoint(int(kind) for kind in wanted):
            kinds = ", ".join(kind.name for kind in wanted)
            how = f"; give the model a sensor, one of {kinds}" if kinds else ""
            raise FamilyError(f"reads: MuJoCo does not compute {name!r} for this model{how}")
    for name in randomises:
        if name not in MODEL_FIELDS or name == "opt.timestep":
            raise FamilyError(f"randomises: {name!r} is no field of mujoco.MjModel that worlds can differ in")
        if name in _DRAWN:
            raise FamilyError(f"randomises: {name!r} is drawn, and pictures of all worlds are of one model")


def _stage(reads: Sequence[str]) -> mujoco.mjtStage:
    """The stage of the forward pass after which all these fields are those of the state reached."""
    if _AT_POSITION.issuperset(reads):
        return mujoco.mjtStage.mjSTAGE_POS
    if (_AT_POSITION | _AT_VELOCITY).issuperset(reads):
        return mujoco.mjtStage.mjSTAGE_VEL
    return mujoco.mjtStage.mjSTAGE_ACC


_WARNINGS = [kind for kind in mujoco.mjtWarning.__members__.values() if kind != mujoco.mjtWarning.mjNWARNING]
