"""Soft actor-critic (SAC) as pure functions: a tanh-Gaussian policy, two critics, and their losses.

Haarnoja et al. 2018, arXiv:1801.01290, in the second version of arXiv:1812.05905 (here "SAC 2"): two critics, slow
copies of both instead of a value network, and a temperature that can be tuned. The agent has the replay, the optimisers
and the order of the updates. The input of policy and critics may have further columns (`context`), such as a latent
task variable. If policy and critics have encoders of their own, the critics get other observations than the policy.

Shapes: `*rows` are the axes of a batch, `O`, `A` and `C` the sizes of observation, action and context, `P` the number
of parameters of one network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.flat import Perceptrons, mlp_init
from metarl.learning.networks.squashed import squashed_sample
from metarl.types import Floats

LOG_STD_RANGE = (-20.0, 2.0)
"""Bounds of the policy's log standard deviation before the tanh: a clamp, as in the papers' code."""


@dataclass(frozen=True)
class ActorCriticParameters:
    """Parameters that soft actor-critic learns.

    Attributes:
        policy: `[1, P]`.
        critics: The two critics, `[2, P]`.
        targets: Slow copies of the critics, `[2, P]`.
        log_temperature: Logarithm of the weight of the entropy, `[1]`.
    """

    policy: Tensor
    critics: Tensor
    targets: Tensor
    log_temperature: Tensor


class ActorCritic:
    """Policy and critics (ReLU MLPs) as functions of their parameters.

    Args:
        observation_size: `O`.
        action_size: `A`.
        hidden: Units of each hidden layer, of the policy and of each critic.
        context_size: `C`, size of a further input of policy and critics; 0 for none.

    Attributes:
        policy_network: `O + C` to `2 A` numbers.
        critic_networks: `O + A + C` numbers to 1.
    """

    def __init__(
        self, observation_size: int, action_size: int, hidden: tuple[int, ...], *, context_size: int = 0
    ) -> None:
        inputs = observation_size + context_size
        self.policy_network = Perceptrons((inputs, *hidden, 2 * action_size), "relu")
        self.critic_networks = Perceptrons((inputs + action_size, *hidden, 1), "relu")

    def initial(self, temperature: float, rng: np.random.Generator) -> ActorCriticParameters:
        """Initial parameters: two different critics, target critics equal to them, and the given temperature."""
        policy = mlp_init(self.policy_network.sizes, rng)[None]
        critics = torch.stack([mlp_init(self.critic_networks.sizes, rng) for _ in range(2)])
        log_temperature = torch.tensor([math.log(temperature)], dtype=torch.float32)
        return ActorCriticParameters(policy, critics, critics.clone(), log_temperature)

    def policy(self, parameters: Tensor, observations: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, `[*rows, A]` each.

        Args:
            parameters: `[1, P]`.
            observations: `[*rows, O]`.
            context: Further input columns, `[*rows, C]` or broadcast over rows (`[M, 1, C]` for rows `[M, B]`).
        """
        output = self.policy_network(parameters, _columns(observations, *context))[0]
        mean, log_std = output.chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def policy_step(self, parameters: Tensor, *columns: Floats) -> tuple[Floats, Floats]:
        """`policy` for a few rows on a CPU, by NumPy.

        Args:
            parameters: `[1, P]`.
            columns: Observations and context, `[B, width]` each.
        """
        weights, biases = self.policy_network.layers(parameters.detach())
        x = np.concatenate(columns, axis=-1)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = x @ weight[0].numpy()
            x += bias[0].numpy()
            if i < len(weights) - 1:
                np.maximum(x, 0.0, out=x)
        mean, log_std = np.split(x, 2, axis=-1)
        return mean, np.clip(log_std, *LOG_STD_RANGE)

    def critics(self, parameters: Tensor, observations: Tensor, actions: Tensor, *context: Tensor) -> Tensor:
        """Values of both critics, `[2, *rows]`.

        Args:
            parameters: `[2, P]`.
            observations: `[*rows, O]`.
            actions: `[*rows, A]` in [-1, 1].
            context: As for `policy`.
        """
        return self.critic_networks(parameters, _columns(observations, actions, *context)).squeeze(-1)

    def smaller_value(self, parameters: Tensor, observations: Tensor, actions: Tensor, *context: Tensor) -> Tensor:
        """The smaller of both critics' values, `[*rows]`; arguments as for `critics`, the parameters detached."""
        return self.critic_networks.smallest(parameters, _columns(observations, actions, *context))

    def export(self, policy: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and description of a policy `[1, P]`, for use without metarl."""
        weights = self.policy_network.layout.split(policy.detach().cpu())
        description = {
            "distribution": "tanh-gaussian",
            "activation": "relu",
            "layers": self.policy_network.depth,
            "mean": "tanh",
            "choices": 0,
            "action_scale": 1.0,
            "outputs": ["mean", "log_std"],
            "log_std_range": list(LOG_STD_RANGE),
        }
        return {name: t[0].clone() for name, t in weights.items()}, description


def _columns(*columns: Tensor) -> list[Tensor]:
    """Input columns that all networks of a kind share, `[1, *rows, width]` each."""
    return [c.unsqueeze(0) for c in columns]


def mean(numbers: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over rows.

    Args:
        numbers: `[*rows]`.
        mask: 1 for rows that count, else 0, `[*rows]`; by default all count. At least one does.
    """
    return numbers.mean() if mask is None else (numbers * mask).sum() / mask.sum()


@torch.no_grad()
def soft_values(
    networks: ActorCritic,
    p: ActorCriticParameters,
    observations: Tensor,
    noise: Tensor,
    *context: Tensor,
    critic_observations: Tensor | None = None,
) -> Tensor:
    """One-sample estimate of the soft value, without a graph, `[*rows]` (SAC 2, equation 3).

    `V(s) = min Q'(s, a) - temperature * log pi(a | s)` with an action `a` of the policy and the target critics `Q'`.

    Args:
        networks: Policy and critics.
        p: Their parameters.
        observations: `[*rows, O]`.
        noise: Standard normal numbers of the actions, `[*rows, A]`.
        context: Further input columns, as for `ActorCritic.policy`.
        critic_observations: Observations as the target critics see them, `[*rows, O]`; by default `observations`.
    """
    seen = observations if critic_observations is None else critic_observations
    actions, log_prob = squashed_sample(*networks.policy(p.policy, observations, *context), noise)
    values = networks.smaller_value(p.targets, seen, actions, *context)
    return values - p.log_temperature.exp() * log_prob


@torch.no_grad()
def critic_targets(rewards: Tensor, terminated: Tensor, next_values: Tensor, gamma: float) -> Tensor:
    """Regression targets of the critics, `r + gamma * (1 - terminated) * V(s')` (SAC 2, equation 5).

    Args:
        rewards: `[*rows]`, times the reward scale if there is one.
        terminated: `[*rows]`, 1 after a terminal step, else 0; a time limit still bootstraps.
        next_values: `soft_values` of the next observations, `[*rows]`.
        gamma: Discount per step.
    """
    return rewards + gamma * (1.0 - terminated) * next_values


def critic_loss(values: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each critic, summed over the two (SAC 2, equation 5, without its factor 1/2).

    Args:
        values: `[2, *rows]`.
        targets: `[*rows]`.
        mask: As for `mean`.
    """
    errors = (values - targets).square()
    if mask is not None:
        return (errors * mask).sum() / mask.sum()
    return errors.mean(dim=tuple(range(1, values.ndim))).sum()


def policy_loss(
    networks: ActorCritic,
    p: ActorCriticParameters,
    observations: Tensor,
    noise: Tensor,
    *context: Tensor,
    critic_observations: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean of `temperature * log pi(a | s) - min Q(s, a)` over new actions of the policy (SAC 2, equations 7 and 9).

    Only the policy gets a gradient, and `observations` if an encoder computed them; critics, temperature, context and
    `critic_observations` are constants.

    Args:
        networks: Policy and critics.
        p: Their parameters.
        observations: `[*rows, O]`.
        noise: Standard normal numbers of the actions, `[*rows, A]`.
        context: Further input columns, as for `ActorCritic.policy`.
        critic_observations: Observations as the critics see them, `[*rows, O]`; by default `observations`.
        mask: As for `mean`.

    Returns:
        The loss, and the log-probabilities of the actions, `[*rows]`.
    """
    fixed = [column.detach() for column in context]
    actions, log_prob = squashed_sample(*networks.policy(p.policy, observations, *fixed), noise)
    seen = observations if critic_observations is None else critic_observations.detach()
    values = networks.smaller_value(p.critics.detach(), seen, actions, *fixed)
    return mean(p.log_temperature.exp().detach() * log_prob - values, mask), log_prob


def temperature_loss(
    log_temperature: Tensor, log_prob: Tensor, target_entropy: float, mask: Tensor | None = None
) -> Tensor:
    """Mean of `-temperature * (log pi + target entropy)` (SAC 2, equation 18).

    Args:
        log_temperature: `[1]`.
        log_prob: Log-probabilities of the policy's actions, `[*rows]`; constants.
        target_entropy: In nats.
        mask: As for `mean`.
    """
    return -mean(log_temperature.exp() * (log_prob.detach() + target_entropy), mask)
