"""PEARL's gradient step in the plain form: task after task, network after network.

It makes the same update as `metarl.agents.pearl`, but slower. Batches are gathered per task and concatenated; the
Gaussians are multiplied per task; every critic and every target is a separate network, on `[M * B, in]` numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

from metarl.agent import MetaAgent
from metarl.agents.pearl import METRICS, Belief, Pearl
from metarl.learning.device.gpu import send, standard_normal
from metarl.learning.experience.replay import Slots, Transitions
from metarl.learning.experience.task_buffers import Minibatch
from metarl.learning.networks.context_encoder import MIN_VARIANCE, kl_from_prior
from metarl.learning.networks.soft_actor_critic import LOG_STD_RANGE, temperature_loss
from metarl.learning.networks.squashed import squashed_sample
from metarl.scripts.reference.pearl import network
from metarl.types import MetaBatch, Trajectories


def plain(agent: Pearl) -> MetaAgent[Belief]:
    """An agent with the same parameters, experience and generator that makes plain updates.

    Args:
        agent: PEARL, at any point of a training; it is not changed.
    """
    twin = PlainPearl(agent.config, agent.spaces, device=agent.device, rng=np.random.default_rng(0))
    twin.restore(agent.tensors(), agent.counters())
    return twin


class PlainPearl(Pearl):
    """PEARL with one loop over gradient steps, one over tasks, and one over networks."""

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Stores the collected episodes, then makes the gradient steps."""
        metrics = self.buffers.store(batch)
        self.iteration += 1
        if self.iteration <= self.config.warmup_iterations:
            return metrics
        tasks = min(self.config.meta_batch, len(self.buffers.slots))
        steps = [gradient_step(self, drawn_by_task(self, tasks)) for _ in range(self.config.gradient_steps)]
        means = torch.stack(steps).mean(dim=0).tolist()
        return metrics | {f"update/{name}": value for name, value in zip(METRICS, means, strict=True)}


def drawn_by_task(agent: Pearl, tasks: int) -> Minibatch:
    """The data of one gradient step, gathered from the buffers for one task at a time."""
    c, buffers, rng = agent.config, agent.buffers, agent.rng
    slots, positions, context, weight = buffers.draw(tasks, c.batch, c.context_batch, rng)
    shapes = ((tasks, c.latent), *[(tasks, c.batch, agent.spaces.action_size)] * 2)
    noise = [standard_normal(rng, shape, agent.device) for shape in shapes]

    def by_task(gather: Callable[..., Tensor], *indices: Slots) -> Tensor:
        return torch.cat([gather(*(each[i : i + 1] for each in indices)) for i in range(tasks)])

    contexts, batches = by_task(buffers.contexts.gather, context), by_task(buffers.replay.gather, slots, positions)
    return Minibatch(contexts, send(weight, agent.device), batches, *noise)


def gradient_step(agent: Pearl, drawn: Minibatch) -> Tensor:
    """One step of all optimisers and of the targets; returns the numbers of `METRICS`."""
    context, batch = agent.buffers.unpack(drawn.context), agent.buffers.unpack(drawn.batch)
    c, p = agent.config, agent.parameters
    (m, b), flat = batch.rewards.shape, Transitions(*(t.flatten(0, 1) for t in batch))  # [M * B, ...]
    posteriors = posterior_of_each(agent, context, drawn.weight)
    kl = torch.stack([kl_from_prior(mean, variance) for mean, variance in posteriors]).sum()
    z = [mean + variance.sqrt() * n for (mean, variance), n in zip(posteriors, drawn.latent_noise, strict=True)]
    latent = torch.cat([one.repeat(b, 1) for one in z])  # [M * B, Z]

    alpha = p.log_temperature.detach().exp()
    with torch.no_grad():
        actions, log_prob = sampled_action(agent, flat.next_observations, latent, drawn.next_noise)
        first, second = (value_of(agent, t, flat.next_observations, actions, latent) for t in p.targets)
        soft_values = torch.minimum(first, second) - alpha * log_prob
        targets = c.reward_scale * flat.rewards + c.gamma * (1.0 - flat.terminated) * soft_values
    first, second = (value_of(agent, q, flat.observations, flat.actions, latent) for q in p.critics)
    loss = mse_loss(first, targets) + mse_loss(second, targets)
    value = 0.5 * (first.detach().mean() + second.detach().mean())
    torch.autograd.backward(loss + c.kl_weight * kl, inputs=[p.encoder, p.critics])
    agent.optimisers["values"].step()
    agent.optimisers["values"].zero_grad()

    latent = latent.detach()
    actions, log_prob = sampled_action(agent, flat.observations, latent, drawn.action_noise)
    first, second = (value_of(agent, q, flat.observations, actions, latent) for q in p.critics.detach())
    actor_loss = (alpha * log_prob - torch.minimum(first, second)).mean()
    torch.autograd.backward(actor_loss, inputs=[p.policy])
    if c.tune_temperature:
        target_entropy = -float(agent.spaces.action_size)
        torch.autograd.backward(
            temperature_loss(p.log_temperature, log_prob, target_entropy), inputs=[p.log_temperature]
        )
    agent.optimisers["actions"].step()
    agent.optimisers["actions"].zero_grad()
    with torch.no_grad():
        for target, critic in zip(p.targets, p.critics, strict=True):
            target.copy_((1.0 - c.tau) * target + c.tau * critic)
        return torch.stack((loss, actor_loss, kl / m, value, -log_prob.mean(), p.log_temperature.exp().squeeze()))


def posterior_of_each(agent: Pearl, context: Transitions, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of q(z | c) of each task, `[Z]` each."""
    columns = [context.observations, context.actions, context.rewards.unsqueeze(-1)]
    if agent.config.context_next_observation:
        columns.append(context.next_observations)
    m, b = context.rewards.shape
    x = torch.cat(columns, dim=-1).flatten(0, 1)  # [M * B, in]
    outputs = network(agent.parameters.encoder[0], agent.encoder.network.sizes, x).view(m, b, -1)
    means, raw = outputs.chunk(2, dim=-1)
    variances = softplus(raw).clamp_min(MIN_VARIANCE) / weight[:, None, None]
    return [product_of_gaussians(mean, v) for mean, v in zip(means.unbind(), variances.unbind(), strict=True)]


def product_of_gaussians(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance `[Z]` of the product of Gaussians `[B, Z]`."""
    product = 1.0 / (1.0 / variance).sum(dim=0)
    return product * (mean / variance).sum(dim=0), product


def sampled_action(agent: Pearl, observations: Tensor, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions of the policy `[M * B, A]` and their log-probabilities `[M * B]`; `noise` is `[M, B, A]`."""
    x = torch.cat([observations, latent], dim=-1)
    mean, log_std = network(agent.parameters.policy[0], agent.actor_critic.policy_network.sizes, x).chunk(2, dim=-1)
    return squashed_sample(mean, log_std.clamp(*LOG_STD_RANGE), noise.flatten(0, 1))


def value_of(agent: Pearl, critic: Tensor, observations: Tensor, actions: Tensor, latent: Tensor) -> Tensor:
    """The values that one critic `[P]` predicts, `[M * B]`."""
    x = torch.cat([observations, actions, latent], dim=-1)
    return network(critic, agent.actor_critic.critic_networks.sizes, x).squeeze(-1)
