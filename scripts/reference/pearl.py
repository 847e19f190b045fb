"""PEARL's losses as loops: task after task, transition after transition, with torch's own distributions.

They compute the same numbers as `metarl.agents.pearl` from the same parameters, transitions and noise, but slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution, kl_divergence
from torch.nn.functional import linear, softplus

from metarl.agents.pearl import Parameters, PearlConfig
from metarl.learning.experience.replay import Transitions
from metarl.learning.networks.context_encoder import MIN_VARIANCE, ContextEncoder
from metarl.learning.networks.soft_actor_critic import LOG_STD_RANGE, ActorCritic


class Noise(NamedTuple):
    """Standard normal numbers of one gradient step.

    Attributes:
        latent: `[M, Z]`.
        next_action: `[M, B, A]`.
        action: `[M, B, A]`.
    """

    latent: Tensor
    next_action: Tensor
    action: Tensor


class Losses(NamedTuple):
    """The losses of one gradient step, scalars.

    Attributes:
        critic: Loss of both critics.
        kl: KL of the posteriors from the prior, summed over the tasks.
        policy: Loss of the policy.
        temperature: Loss of the logarithm of the temperature.
    """

    critic: Tensor
    kl: Tensor
    policy: Tensor
    temperature: Tensor


def network(parameters: Tensor, sizes: Sequence[int], x: Tensor) -> Tensor:
    """One ReLU network `[P]` on one input `[in]`."""
    start = 0
    for i in range(len(sizes) - 1):
        fan_in, fan_out = sizes[i], sizes[i + 1]
        weight = parameters[start : start + fan_in * fan_out].view(fan_in, fan_out)
        start += fan_in * fan_out
        x = linear(x, weight.T, parameters[start : start + fan_out])
        start += fan_out
        if i + 2 < len(sizes):
            x = torch.relu(x)
    return x


def one(transitions: Transitions, task: int, step: int) -> Transitions:
    """A single transition."""
    return Transitions(*(t[task, step] for t in transitions))


def task_posterior(
    encoder: ContextEncoder, parameters: Tensor, context: Transitions, task: int, weight: float | Tensor = 1.0
) -> Normal:
    """q(z | c) of one task: Gaussian factors multiplied one at a time, each to the power of `weight`."""
    mean, variance = None, None
    for b in range(context.rewards.shape[1]):
        t = one(context, task, b)
        columns = [t.observations, t.actions, t.rewards[None]]
        if encoder.network.sizes[0] > sum(len(c) for c in columns):
            columns.append(t.next_observations)
        output = network(parameters[0], encoder.network.sizes, torch.cat(columns))
        z = len(output) // 2
        m, v = output[:z], softplus(output[z:]).clamp(min=MIN_VARIANCE) / weight
        if mean is None or variance is None:
            mean, variance = m, v
        else:
            mean, variance = (mean * v + m * variance) / (variance + v), variance * v / (variance + v)
    assert mean is not None
    assert variance is not None
    return Normal(mean, variance.sqrt())


def act(networks: ActorCritic, policy: Tensor, o: Tensor, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """An action and its log-probability at one observation."""
    mean, log_std = network(policy[0], networks.policy_network.sizes, torch.cat([o, z])).chunk(2)
    std = log_std.clamp(*LOG_STD_RANGE).exp()
    squashed = TransformedDistribution(Independent(Normal(mean, std), 1), [TanhTransform(cache_size=1)])
    action = torch.tanh(mean + std * noise)
    return action, squashed.log_prob(action)  # type: ignore[no-untyped-call]  # torch declares no types here


def smaller_value(networks: ActorCritic, critics: Tensor, o: Tensor, a: Tensor, z: Tensor) -> Tensor:
    """The smaller of the critics' values."""
    first, second = (network(c, networks.critic_networks.sizes, torch.cat([o, a, z]))[0] for c in critics)
    return torch.minimum(first, second)


def losses(
    encoder: ContextEncoder,
    networks: ActorCritic,
    p: Parameters,
    context: Transitions,
    weight: Tensor,
    batch: Transitions,
    noise: Noise,
    config: PearlConfig,
) -> Losses:
    """All losses of one gradient step, at the same parameters; each task's context rows count `weight` `[M]` times."""
    m, b = batch.rewards.shape
    zero = torch.zeros((), dtype=batch.rewards.dtype)
    critic, kl, policy, temperature = zero, zero, zero, zero
    alpha = p.log_temperature[0].exp()
    for i in range(m):
        belief = task_posterior(encoder, p.encoder, context, i, weight[i])
        kl = kl + kl_divergence(belief, Normal(torch.zeros_like(belief.mean), torch.ones_like(belief.mean))).sum()
        z = belief.mean + belief.stddev * noise.latent[i]
        for j in range(b):
            t = one(batch, i, j)
            with torch.no_grad():
                target = config.reward_scale * t.rewards
                if not t.terminated:
                    a, log_prob = act(networks, p.policy, t.next_observations, z, noise.next_action[i, j])
                    value = smaller_value(networks, p.targets, t.next_observations, a, z)
                    target = target + config.gamma * (value - alpha * log_prob)
            for parameters in p.critics:
                x = torch.cat([t.observations, t.actions, z])
                value = network(parameters, networks.critic_networks.sizes, x)[0]
                critic = critic + (value - target) ** 2 / (m * b)
            fixed = z.detach()
            a, log_prob = act(networks, p.policy, t.observations, fixed, noise.action[i, j])
            value = smaller_value(networks, p.critics.detach(), t.observations, a, fixed)
            policy = policy + (alpha.detach() * log_prob - value) / (m * b)
            temperature = temperature - alpha * (log_prob.detach() - len(a)) / (m * b)
    return Losses(critic, kl, policy, temperature)
