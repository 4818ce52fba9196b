"""What a family's hooks may return, and which fields of MuJoCo it may ask for: anybody may write one."""

from typing import Any

import mujoco
import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.families.ant import AntDir, ant_model, ant_spec
from metaslac.envs.families.point_robot import PointRobot
from metaslac.envs.simulation import Simulation


def play(**hooks: Any) -> None:
    """A step of a point robot with some hooks or attributes replaced."""
    family = type("Odd", (PointRobot,), {"name": "odd", **hooks})(image_size=32, observation="state")
    env = envs.make_vector_env(family, 3)
    env.reset(seed=0)
    env.step(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("hook", "returned", "said"),
    [
        ("reward", np.zeros(1), r"odd: reward has shape \(1,\) in place of \(3,\)"),
        ("reward", np.zeros((3, 1)), r"odd: reward has shape \(3, 1\) in place of \(3,\)"),
        ("reward", np.array([0.0, np.nan, 0.0]), "odd: reward is not finite"),
        ("dense_reward", np.array([0.0, np.inf, 0.0]), "odd: dense_reward is not finite"),
        ("terminated", np.zeros(2, dtype=bool), r"odd: terminated has shape \(2,\)"),
        ("state_observation", np.zeros((3, 1)), r"odd: state_observation has shape \(3, 1\)"),
        ("model", "<mujoco/>", r"odd: model\(\) must give a mujoco.MjModel.*, not str$"),
        ("start_state", (np.full(2, np.nan), np.zeros(2)), "odd: start_state of task .* is not finite"),
        ("start_state", (np.zeros(3), np.zeros(2)), r"odd: start_state of task .* has shape \(3,\)"),
    ],
)
def test_what_hooks_return_is_checked(hook: str, returned: Any, said: str) -> None:
    with pytest.raises(envs.FamilyError, match=said):
        play(**{hook: lambda *arguments: returned})


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"camera": "behind"}, "the model has no camera called 'behind'"),
        ({"reads": ("qposs",)}, "reads: 'qposs' is no field"),
        ({"reads": ("cfrc_ext",)}, "does not compute 'cfrc_ext' for this model; give the model a sensor"),
        ({"reads": ("subtree_linvel",)}, "mjSENS_SUBTREELINVEL"),
        ({"reads": ("energy",)}, "does not compute 'energy' for this model$"),
        ({"randomises": ("body_weight",)}, "randomises: 'body_weight' is no field"),
        ({"randomises": ("geom_size",)}, "randomises: 'geom_size' is drawn"),
        ({"randomises": ("opt.timestep",)}, "randomises: 'opt.timestep' is no field"),
    ],
)
def test_what_a_family_asks_of_mujoco_is_checked(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(envs.FamilyError, match=said):
        play(**attributes)


def test_fields_are_those_of_the_state_reached() -> None:
    spec = ant_spec()
    spec.add_sensor(
        name="v",
        type=mujoco.mjtSensor.mjSENS_SUBTREELINVEL,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        objname="torso",
    )
    model = ant_model(spec)
    names = ("subtree_linvel", "cvel", "xipos", "qfrc_actuator", "cfrc_ext")
    simulation = Simulation(model, 2, 1, reads=names)
    worlds, rng = np.arange(2), np.random.default_rng(0)
    starts = [AntDir().start_state(model, AntDir().tasks[0], rng) for _ in worlds]
    simulation.reset(worlds, np.stack([s[0] for s in starts]), np.stack([s[1] for s in starts]))
    plain = mujoco.MjData(model)
    for _ in range(4):
        simulation.ctrl[:] = rng.uniform(-1, 1, simulation.ctrl.shape)
        assert not simulation.step(worlds, 5)
        state = simulation.states(worlds)
        for world in worlds:
            plain.qpos[:], plain.qvel[:] = state.qpos[world], state.qvel[world]
            plain.ctrl[:] = simulation.ctrl[world]
            mujoco.mj_forward(model, plain)
            mujoco.mj_subtreeVel(model, plain)
            for name in names[:-1]:
                np.testing.assert_allclose(state[name][world], getattr(plain, name), rtol=0, atol=1e-9)
            np.testing.assert_allclose(state["cfrc_ext"][world], plain.cfrc_ext, rtol=0, atol=1e-2)
