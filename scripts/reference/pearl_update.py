"""PEARL's gradient step as it is usually written: task after task, network after network.

It makes the same update as `metarl.agents.pearl`, only slower. Batches are gathered per task and joined; Gaussians are
multiplied per task; every critic and every target is a network of its own, on `[M * B, in]` numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

from metarl.agents.pearl import LOG_STD_RANGE, MIN_VARIANCE, Drawn, Pearl, kl_from_prior, temperature_loss
from metarl.learning.experience.replay import Slots, Transitions
from metarl.learning.networks.squashed import squashed_sample
from metarl.scripts.reference.pearl import network


def product_of_gaussians(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance `[Z]` of the product of Gaussians `[B, Z]`."""
    product = 1.0 / (1.0 / variance).sum(dim=0)
    return product * (mean / variance).sum(dim=0), product


class LoopPearl(Pearl):
    """PEARL that takes its tasks and networks one after the other."""

    def _sample(self, slots: Slots, batch: int) -> Tensor:
        positions = self._rng.integers(0, self._replay.sizes[slots, None], size=(len(slots), batch))
        return torch.cat([self._replay.gather(slots[i : i + 1], positions[i : i + 1]) for i in range(len(slots))])

    def _gather(self, chosen: Slots) -> Tensor:
        return torch.cat([self._context.gather(chosen[i : i + 1]) for i in range(len(chosen))])

    def _gradient_step(self, drawn: Drawn, chunks: Sequence[slice]) -> Tensor:
        """One step of everything, whatever the chunks."""
        context, batch, noise = self._unpack(drawn.context), self._unpack(drawn.batch), drawn.noise
        c, p = self.config, self._parameters
        (m, b), flat = batch.rewards.shape, Transitions(*(t.flatten(0, 1) for t in batch))  # [M * B, ...]
        posteriors = self._posteriors(context, drawn.weight)
        kl = torch.stack([kl_from_prior(mean, variance) for mean, variance in posteriors]).sum()
        z = [mean + variance.sqrt() * n for (mean, variance), n in zip(posteriors, noise.latent, strict=True)]
        latent = torch.cat([one.repeat(b, 1) for one in z])  # [M * B, Z]

        alpha = p.log_temperature.detach().exp()
        with torch.no_grad():
            actions, log_prob = self._drawn_action(flat.next_observations, latent, noise.next_action)
            first, second = (self._value(t, flat.next_observations, actions, latent) for t in p.targets)
            soft_values = torch.minimum(first, second) - alpha * log_prob
            targets = c.reward_scale * flat.rewards + c.gamma * (1.0 - flat.terminated) * soft_values
        first, second = (self._value(q, flat.observations, flat.actions, latent) for q in p.critics)
        loss = mse_loss(first, targets) + mse_loss(second, targets)
        value = 0.5 * (first.detach().mean() + second.detach().mean())
        torch.autograd.backward(loss + c.kl_weight * kl, inputs=[p.encoder, p.critics])
        self._step("values")

        latent = latent.detach()
        actions, log_prob = self._drawn_action(flat.observations, latent, noise.action)
        first, second = (self._value(q, flat.observations, actions, latent) for q in p.critics.detach())
        actor_loss = (alpha * log_prob - torch.minimum(first, second)).mean()
        torch.autograd.backward(actor_loss, inputs=[p.policy])
        if c.tune_temperature:
            target_entropy = -float(self.spaces.action_size)
            wanting = temperature_loss(p.log_temperature, log_prob, target_entropy)
            torch.autograd.backward(wanting, inputs=[p.log_temperature])
        self._step("actions")
        with torch.no_grad():
            for target, critic in zip(p.targets, p.critics, strict=True):
                target.copy_((1.0 - c.tau) * target + c.tau * critic)
            parts = (loss, actor_loss, kl / m, value, -log_prob.mean(), p.log_temperature.exp().squeeze())
            return torch.stack(parts)

    def _posteriors(self, context: Transitions, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of q(z | c) of each task, `[Z]` each."""
        columns = [context.observations, context.actions, context.rewards.unsqueeze(-1)]
        if self.config.context_next_observation:
            columns.append(context.next_observations)
        m, b = context.rewards.shape
        x = torch.cat(columns, dim=-1).flatten(0, 1)  # [M * B, in]
        outputs = network(self._parameters.encoder[0], self._networks.encoder_network.sizes, x).view(m, b, -1)
        means, raw = outputs.chunk(2, dim=-1)
        variances = softplus(raw).clamp_min(MIN_VARIANCE) / weight[:, None, None]
        return [product_of_gaussians(mean, v) for mean, v in zip(means.unbind(), variances.unbind(), strict=True)]

    def _drawn_action(self, observations: Tensor, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions of the policy `[M * B, A]` and their log-probabilities `[M * B]`; `noise` is `[M, B, A]`."""
        x = torch.cat([observations, latent], dim=-1)
        mean, log_std = network(self._parameters.policy[0], self._networks.policy_network.sizes, x).chunk(2, dim=-1)
        return squashed_sample(mean, log_std.clamp(*LOG_STD_RANGE), noise.flatten(0, 1))

    def _value(self, critic: Tensor, observations: Tensor, actions: Tensor, latent: Tensor) -> Tensor:
        """What one critic `[P]` says, `[M * B]`."""
        x = torch.cat([observations, actions, latent], dim=-1)
        return network(critic, self._networks.critic_networks.sizes, x).squeeze(-1)
