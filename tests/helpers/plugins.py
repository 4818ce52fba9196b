"""A family as somebody else would write it."""

PLUGIN = """\
from metaslac.envs import TaskFamily
from metaslac.envs.families.point_robot import move_point, point_model


class Near(TaskFamily):
    name, param_names = "pkg_near", ("goal_x",)
    action_size, state_size, horizon, frame_skip, camera = 2, 4, 8, 1, "above"

    def task_params(self):
        return [[0.5], [-0.5], [1.0]], [[0.25]]

    def model(self):
        return point_model()

    def start_state(self, model, task, rng):
        return rng.uniform(-1, 1, 2), rng.uniform(0, 0, 2)

    def reward(self, step):
        return -abs(step.after.qpos[:, 0] - step.params[:, 0])

    def apply_action(self, simulation, worlds, actions):
        move_point(simulation, worlds, actions)
"""
