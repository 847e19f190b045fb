"""The parts of metarl by hand: a training loop, then adaptation in an environment that metarl does not step.

Takes the number of iterations as its argument, 30 by default.
"""

import sys

import numpy as np

import metarl
from metarl.sampling import collects
from metarl.types import MetaBatch, Trajectories

TASKS, EPISODES, HORIZON = 10, 10, 20


def train(agent, family, iterations):
    """Meta-training: yields the mean return before and after adaptation of each iteration."""
    streams = metarl.Streams(0)
    sampler = metarl.LocalSampler(family.make_envs(TASKS, EPISODES, HORIZON))
    for i in range(iterations):
        tasks = family.distribution.sample(TASKS, streams.tasks)
        sampler.set_tasks(tasks)
        state = agent.begin_training(tasks, EPISODES, i / iterations)
        experience = [trajectories for trajectories, _ in collects(sampler, agent, state, streams)]
        agent.meta_update(MetaBatch(tuple(tasks), tuple(experience), progress=i / iterations))
        yield experience[0].returns().mean(), experience[-1].returns().mean()
    sampler.envs.close()


class Robot:
    """A point on a plane that has to reach a goal: it stands for a robot of your own."""

    def __init__(self, goal):
        self.goal, self.position = np.array(goal), np.zeros(2)

    def reset(self):
        """The first observation."""
        self.position = np.zeros(2)
        return self.position.copy()

    def step(self, action):
        """The next observation, and the reward."""
        self.position += np.clip(action, -0.1, 0.1)
        return self.position.copy(), -float(np.linalg.norm(self.position - self.goal))


def play(agent, state, robot, rng):
    """One episode on the robot, as `Trajectories` of one task and one environment."""
    episode = metarl.TrajectoryBuilder(1, 1, agent.spaces, robot.reset())
    while episode.unfinished:
        action, state = agent.act(state, episode.step, rng)
        observation, reward = robot.step(action.single())
        episode.add(action, observation, reward, terminated=False, truncated=False)
    return episode.build()


if __name__ == "__main__":
    family = metarl.make_family("point-robot")
    agent = metarl.make_agent("maml-trpo", family.spaces(HORIZON), inner_lr=0.1)
    for i, (before, after) in enumerate(train(agent, family, int(sys.argv[1]) if len(sys.argv) > 1 else 30), start=1):
        print(f"iteration {i:3d}: return {before:7.2f} -> {after:7.2f}")
    robot, rng = Robot(goal=(0.3, -0.4)), np.random.default_rng(0)
    practice = [play(agent, agent.begin([metarl.Task("my robot")], episodes=1), robot, rng) for _ in range(10)]
    state = agent.adapt(agent.begin([metarl.Task("my robot")], episodes=1), Trajectories.join_episodes(practice))
    print(f"return of an episode before adaptation: {practice[-1].returns()[0, 0]:.2f}")
    print(f"return after it: {play(agent, state, robot, rng).returns()[0, 0]:.2f}")
    agent.save_policy(state, "adapted.safetensors")
