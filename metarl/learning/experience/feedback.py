"""Inputs of a network with a memory about the previous step: action, reward, and end of the episode."""

from __future__ import annotations

import numpy as np

from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.trials import Trials
from metarl.types import Bools, Floats, Step, Trajectories


class Feedback:
    """Inputs about the previous step: action, reward, and whether the episode ended (Duan et al. 2016, section 2.2).

    Args:
        actions: Map from actions to inputs.
        reward_scale: Factor on the reward.

    Attributes:
        size: `F`, number of inputs.
    """

    def __init__(self, actions: ActionMap, reward_scale: float) -> None:
        self._actions, self._reward_scale = actions, reward_scale
        self.size = actions.features + 2

    def of(self, action: Floats, reward: Floats, done: Bools | Floats) -> Floats:
        """The inputs, `[..., F]`, for environment actions `[..., A]`, rewards `[...]` and ends `[...]`."""
        parts = (self._actions.to_features(action), self._reward_scale * reward[..., None], done[..., None])
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    def at_the_start(self, num_tasks: int, episodes: int) -> Floats:
        """The inputs at the start of a trial: zeros, `[M, E, F]`."""
        return np.zeros((num_tasks, episodes, self.size), dtype=np.float32)

    def while_acting(self, step: Step, before_the_episode: Floats) -> Floats:
        """The inputs `[M, E, F]` at a step: `before_the_episode` at the first of an episode, else the last step's."""
        previous = self.of(step.previous_action, step.previous_reward, np.zeros_like(step.first))
        return np.where(step.first[..., None], before_the_episode, previous)

    def at_the_end(self, trajectories: Trajectories) -> Floats:
        """The inputs at the next episode's first step, `[M, E, F]`: the last action, its reward, and an end of 1."""
        last = trajectories.mask.sum(axis=2) - 1  # [M, E]
        action = np.take_along_axis(trajectories.actions, last[..., None, None], axis=2)[:, :, 0]
        reward = np.take_along_axis(trajectories.rewards, last[..., None], axis=2)[:, :, 0]
        return self.of(action, reward, np.ones_like(reward))

    def along(self, actions: Floats, rewards: Floats, over: Bools | Floats) -> Floats:
        """The inputs at each step of packed trials, `[B, L, F]`, from the arrays of all steps, `[B, L, ...]`."""
        return one_step_later(self.of(actions, rewards, over))

    def with_bootstrap_step(self, trials: Trials) -> tuple[Floats, Floats]:
        """Observations `[B, L + 1, O]` and inputs `[B, L + 1, F]` of trials with one more step, for bootstrapping.

        That step continues the last episode, as if no time limit had ended it.
        """
        rows, steps = np.arange(len(trials.mask)), trials.mask.sum(axis=1)
        observations, actions, rewards, over = (
            np.concatenate([a, np.zeros_like(a[:, :1])], axis=1)
            for a in (trials.observations, trials.actions, trials.rewards, trials.over)
        )
        observations[rows, steps] = trials.next_observations[rows, steps - 1]
        over[rows, steps - 1] = False
        return observations, self.along(actions, rewards, over)

    def bootstrap_steps(self, trials: Trials, at: Bools) -> tuple[Floats, Floats]:
        """Observations `[C, O]` and inputs `[C, F]` of one more step after each of the `C` steps with `at` True.

        That step continues the episode, as if no time limit had ended it.
        """
        never = np.zeros(np.count_nonzero(at))
        return trials.next_observations[at], self.of(trials.actions[at], trials.rewards[at], never)


def one_step_later(values: Floats) -> Floats:
    """Values shifted by one step, `[B, L, ...]`, with zeros at the start of a trial."""
    later = np.zeros_like(values)
    later[:, 1:] = values[:, :-1]
    return later
