"""The reward of locomotion as a function of what the robot observes.

The environment's reward has the mean velocity over a step, which observations do not show: they hold the velocities v
before and v' after it. The mean is estimated as `(1 - w) v + w v'`. Under a constant acceleration w is 0.6 for the
half-cheetah, since MuJoCo moves a position by the velocity *after* each of five physics steps. Contacts make
accelerations jump: a least-squares fit on random play gives 0.68 for the half-cheetah and 0.50 for the ant, the weights
in use. `tests/envs/test_observed_reward.py` holds the estimate to the environments' own rewards. Costs of contact
forces are omitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metarl.rewards import DeclaredReward

if TYPE_CHECKING:
    from metarl.envs.locomotion import Goal, Locomotion

VELOCITY = "the mean velocity over a step is estimated from those before and after it"
CONTACTS = "the cost of contact forces is omitted"


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The parts of a robot's observation that its reward is computed from.

    Args:
        velocity: Index of the velocity along x; those along further axes follow.
        axes: Number of axes of the goal's velocity and position.
        after: Weight w of the velocity after a step in the mean over it.
        position: Index of the position along x; None if it is not observed.
        height: Index, lower and upper bound of the height of a robot that has not fallen; None if it cannot fall.
    """

    velocity: int
    axes: int
    after: float
    position: int | None = None
    height: tuple[int, float, float] | None = None


@dataclass(frozen=True)
class LocomotionReward:
    """`progress_weight progress(v) + alive - control_cost |a|^2`; see `metarl.envs.locomotion`.

    Args:
        goal: The goal of the tasks.
        observed: Parts of the observation.
        progress_weight: Factor on the progress.
        control_cost: Factor on the squared norm of the action.
        alive: Reward of a step after which the robot has not fallen.
    """

    goal: Goal
    observed: Observed
    progress_weight: float
    control_cost: float
    alive: float

    def __call__(self, observations: Any, actions: Any, next_observations: Any, task: Mapping[str, Any]) -> Any:
        """Rewards `[...]`; see `metarl.rewards.ObservedReward`."""
        seen = self.observed
        at = slice(seen.velocity, seen.velocity + seen.axes)
        velocity = (1.0 - seen.after) * observations[..., at] + seen.after * next_observations[..., at]
        place: Any = (
            None if seen.position is None else next_observations[..., seen.position : seen.position + seen.axes]
        )
        value: Any = None if self.goal.factor is None else task[self.goal.factor.name]
        reward = self.progress_weight * self.goal.progress(velocity, place, value)
        reward = reward - self.control_cost * (actions * actions).sum(-1)
        if seen.height is None:
            return reward + self.alive
        index, low, high = seen.height
        height = next_observations[..., index]
        alive = self.alive + 0.0 * height  # in the type of the observations
        return reward + alive * ((height >= low) & (height <= high))


def observed_reward(robot: type[Locomotion], goal: Goal) -> DeclaredReward | None:
    """The declared reward of a robot's families; None if its class sets no `observed`, or has a reward of its own.

    Args:
        robot: Class of the environments.
        goal: The goal of the tasks.
    """
    if robot.observed is None or robot.has_own_reward():
        return None
    function = LocomotionReward(goal, robot.observed, robot.progress_weight, robot.control_cost, robot.alive)
    estimated = f"{VELOCITY}; {CONTACTS}" if robot.contact_forces else VELOCITY
    return DeclaredReward(function, () if goal.factor is None else (goal.factor.name,), estimated)
