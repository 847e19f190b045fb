"""What a network that remembers is told of the step before: action, reward, and whether the episode ended there."""

from __future__ import annotations

import numpy as np

from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.trials import Trials
from metarl.types import Bools, Floats, Step, Trajectories


class Feedback:
    """What a network that remembers is told of the step before: action, reward, whether the episode ended there.

    Args:
        actions: Makes inputs of actions.
        reward_scale: Factor of the reward.

    Attributes:
        size: `F`, numbers that it consists of.
    """

    def __init__(self, actions: ActionMap, reward_scale: float) -> None:
        self._actions, self._reward_scale = actions, reward_scale
        self.size = actions.features + 2

    def of(self, action: Floats, reward: Floats, done: Bools | Floats) -> Floats:
        """The inputs, `[..., F]`: actions `[..., A]` as the environment received them, the other two `[...]`."""
        told = (self._actions.to_features(action), self._reward_scale * reward[..., None], done[..., None])
        return np.concatenate(told, axis=-1, dtype=np.float32)

    def at_the_start(self, num_tasks: int, episodes: int) -> Floats:
        """Nothing has happened yet in a new trial: zeros, `[M, E, F]`."""
        return np.zeros((num_tasks, episodes, self.size), dtype=np.float32)

    def while_acting(self, step: Step, before_the_episode: Floats) -> Floats:
        """At the first step of an episode what was carried over, `[M, E, F]`; then what the last step brought."""
        going_on = self.of(step.previous_action, step.previous_reward, np.zeros_like(step.first))
        return np.where(step.first[..., None], before_the_episode, going_on)

    def at_the_end(self, trajectories: Trajectories) -> Floats:
        """What the next episode's first step is told: the last action, its reward, and that the episode is over."""
        last = trajectories.mask.sum(axis=2) - 1  # [M, E]
        action = np.take_along_axis(trajectories.actions, last[..., None, None], axis=2)[:, :, 0]
        reward = np.take_along_axis(trajectories.rewards, last[..., None], axis=2)[:, :, 0]
        return self.of(action, reward, np.ones_like(reward))

    def along(self, actions: Floats, rewards: Floats, over: Bools | Floats) -> Floats:
        """The inputs at each step of packed trials, `[B, L, F]`, from what each step was and brought, `[B, L, ...]`."""
        return one_step_later(self.of(actions, rewards, over))

    def beyond(self, trials: Trials) -> tuple[Floats, Floats]:
        """Observations `[B, L + 1, O]` and inputs `[B, L + 1, F]` of trials with one more step after the last.

        There the last episode goes on, as if no clock had cut it: for what there was still to earn.
        """
        rows, steps = np.arange(len(trials.mask)), trials.mask.sum(axis=1)
        observations, actions, rewards, over = (
            np.concatenate([a, np.zeros_like(a[:, :1])], axis=1)
            for a in (trials.observations, trials.actions, trials.rewards, trials.over)
        )
        observations[rows, steps] = trials.next_observations[rows, steps - 1]
        over[rows, steps - 1] = False
        return observations, self.along(actions, rewards, over)

    def going_on(self, trials: Trials, at: Bools) -> tuple[Floats, Floats]:
        """Observations `[C, O]` and inputs `[C, F]` of one more step after each of the `C` steps where `at` is True.

        There the episode goes on, as if no clock had cut it.
        """
        never = np.zeros(np.count_nonzero(at))
        return trials.next_observations[at], self.of(trials.actions[at], trials.rewards[at], never)


def one_step_later(values: Floats) -> Floats:
    """What was known one step before, `[B, L, ...]`: zeros at the start of a trial."""
    later = np.zeros_like(values)
    later[:, 1:] = values[:, :-1]
    return later
