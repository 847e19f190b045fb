"""Rewards as declared functions: what a planner needs to score predicted states.

An environment computes its reward from the simulation. A family may also declare the reward as a function of what an
agent observes, as far as it is one. The function takes NumPy arrays and torch tensors alike, so it uses operators,
indices and `sum` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ObservedReward = Callable[[Any, Any, Any, Mapping[str, Any]], Any]
"""Maps observations `[..., O]`, actions `[..., A]`, next observations `[..., O]` and the values of the task's
parameters by name, `[..., size]` each, to rewards `[...]`."""


@dataclass(frozen=True)
class DeclaredReward:
    """The reward of a family as a function of observations and actions.

    Args:
        function: The function; it can be sent to worker processes if it is defined in a module.
        parameters: Names of the task's parameters that it reads; empty if all tasks have the same reward.
        estimated: Parts of the environment's reward that it estimates or omits, in words; empty if it is exact.
    """

    function: ObservedReward
    parameters: tuple[str, ...] = ()
    estimated: str = ""

    def __call__(
        self, observations: Any, actions: Any, next_observations: Any, task: Mapping[str, Any] | None = None
    ) -> Any:
        """Rewards of transitions.

        Args:
            observations: Before the steps, `[..., O]`, in the units of the environment.
            actions: As given to the environment, `[..., A]`.
            next_observations: After the steps, `[..., O]`.
            task: Values of the parameters that it reads, `[..., size]` each.

        Returns:
            Rewards `[...]`.

        Raises:
            ValueError: A parameter that it reads is missing.
        """
        given = task or {}
        if missing := [name for name in self.parameters if name not in given]:
            raise ValueError(f"reward: got no values of {', '.join(missing)}, expected them: the reward reads them")
        return self.function(observations, actions, next_observations, given)


def reward_for_planning(agent: str, reward: DeclaredReward | None) -> DeclaredReward:
    """The declared reward of a family, for an agent that plans with it.

    Args:
        agent: Name of the agent, for the message.
        reward: The declaration of the family.

    Raises:
        ValueError: The family declares none, or it reads a hidden parameter of the task.
    """
    if reward is None:
        raise ValueError(
            f"{agent}: got a family that declares no reward function, expected one to score plans with; choose a "
            "family such as half-cheetah-crippled, or declare Family.reward"
        )
    if reward.parameters:
        raise ValueError(
            f"{agent}: got a family whose reward depends on the task's {', '.join(reward.parameters)}, expected the "
            "same reward in all tasks; choose a family of dynamics, such as half-cheetah-crippled"
        )
    return reward
