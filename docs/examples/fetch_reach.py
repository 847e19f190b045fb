"""FetchReach of gymnasium-robotics with a hidden goal: `metarl check fetch_reach:reach`."""

from gymnasium.wrappers import FilterObservation
from gymnasium_robotics.envs.fetch.reach import MujocoFetchReachEnv

from metarl import gymnasium_family, uniform


class Reach(MujocoFetchReachEnv):
    """FetchReach whose goal is the task."""

    def set_task(self, task):
        """Sets the goal, relative to the start of the gripper, m."""
        self.offset = task["goal"]

    def _sample_goal(self):  # instead of a draw at every reset
        return self.initial_gripper_xpos[:3] + self.offset


def make_env(render_mode=None):
    """The robot, which does not observe its goal."""
    env = Reach(reward_type="dense", render_mode=render_mode)
    return FilterObservation(env, ["observation"])  # without desired_goal


def reach():
    """Goals in a box around the start of the gripper."""
    goal = uniform("goal", -0.15, 0.15, size=3, meaning="from where the gripper starts, m")
    return gymnasium_family(make_env, name="fetch-reach", parameters=[goal], horizon=50)
