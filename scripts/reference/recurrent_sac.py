"""Recurrent SAC's gradient step in the plain form: trial after trial, step after step, network after network.

It makes the same update as `metarl.agents.recurrent_sac`, but slower. Each trial goes through the encoders alone and
without padding, one call of the cell per step; each target is computed from the step that follows; every critic and
every target is a separate network.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from metarl.agents.recurrent_sac import Minibatch, RecurrentSac
from metarl.learning.experience.trials import Trials
from metarl.learning.networks.sequence_encoder import SequenceEncoder
from metarl.learning.networks.soft_actor_critic import LOG_STD_RANGE
from metarl.learning.networks.squashed import squashed_sample
from metarl.scripts.reference.pearl import network
from metarl.scripts.reference.recurrence import step_by_step


def plain(agent: RecurrentSac) -> RecurrentSac:
    """A copy of the agent with the same parameters, experience and generator that makes plain updates.

    Args:
        agent: Recurrent SAC, at any point of a training; it is not changed.
    """
    twin = copy.deepcopy(agent)
    twin.__class__ = PlainRecurrentSac
    for encoder in twin.encoders.values():
        step_by_step(encoder.cell)
    return twin


class PlainRecurrentSac(RecurrentSac):
    """Recurrent SAC with loops over trials, steps and networks."""

    def _gradient_step(self, drawn: Minibatch, trials: Trials) -> Tensor:
        """One step of all parameters, then of the targets; returns the same numbers as the agent's own."""
        config, p, steps = self.config, self.parameters, drawn.mask.sum()
        alpha = p.log_temperature.exp().detach()
        sums = dict.fromkeys(("critic", "policy", "temperature", "value", "entropy"), torch.zeros(1))
        for b, length in enumerate(trials.mask.sum(axis=1)):
            x = drawn.inputs[b, : length + 1]
            acting, valuing, slow = (features(self.encoders[name], x) for name in ("actor", "critic", "target"))
            for t in range(length):
                next_acting, next_valuing, following = acting[t + 1].detach(), slow[t + 1], x[t + 1]
                if config.episodes_cut_returns and trials.over[b, t]:
                    episode = torch.cat([x[: t + 1], self._end_of_episode(trials, b, t)])
                    next_acting = features(self.encoders["actor"], episode)[-1].detach()
                    next_valuing, following = features(self.encoders["target"], episode)[-1], episode[-1]
                with torch.no_grad():
                    target = drawn.rewards[b, t] * config.reward_scale
                    if not drawn.done[b, t]:
                        next_seen = following[: self.spaces.observation_size]
                        value = self._soft_value(next_acting, next_valuing, next_seen, drawn.next_noise[b, t], alpha)
                        target = target + config.gamma * value
                seen = x[t, : self.spaces.observation_size]
                for critic in p.critics:
                    value = self._value(critic, valuing[t], seen, drawn.actions[b, t])
                    sums["critic"] = sums["critic"] + (value - target).square()
                    sums["value"] = sums["value"] + 0.5 * value.detach()
                action, log_prob = self._action(acting[t], seen, drawn.action_noise[b, t])
                fixed = [self._value(c, valuing[t].detach(), seen, action) for c in p.critics.detach()]
                sums["policy"] = sums["policy"] + alpha * log_prob - torch.minimum(*fixed)
                surplus = log_prob.detach() - float(self.spaces.action_size)
                sums["temperature"] = sums["temperature"] - p.log_temperature.exp() * surplus
                sums["entropy"] = sums["entropy"] - log_prob.detach()
        means = {name: (total / steps).squeeze() for name, total in sums.items()}
        for name in ("critic", "policy", *["temperature"] * config.tune_temperature):
            torch.autograd.backward(means[name])
        self.optimiser.step(clear=True)
        with torch.no_grad():
            targets, sources = ([*self.encoders[name].parameters()] for name in ("target", "critic"))
            for target, source in zip([p.targets, *targets], [p.critics, *sources], strict=True):
                target.copy_((1.0 - config.tau) * target + config.tau * source)
            reported = [means[name].detach() for name in ("critic", "policy", "value", "entropy")]
            return torch.stack([*reported, p.log_temperature.exp().squeeze()])

    def _end_of_episode(self, trials: Trials, b: int, t: int) -> Tensor:
        """The input after step `t` of a trial if its episode went on, `[1, I]`."""
        one = [array[b, t][None] for array in (trials.next_observations, trials.actions, trials.rewards)]
        return self._inputs(one[0], self._feedback.of(one[1], one[2], 0.0 * one[2]))

    def _soft_value(self, acting: Tensor, valuing: Tensor, seen: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        action, log_prob = self._action(acting, seen, noise)
        values = [self._value(target, valuing, seen, action) for target in self.parameters.targets]
        return torch.minimum(*values) - alpha * log_prob

    def _action(self, features: Tensor, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """An action of the policy `[A]`, and its log-probability."""
        x = torch.cat([features, seen])
        output = network(self.parameters.policy[0], self.actor_critic.policy_network.sizes, x[None])[0]
        mean, log_std = output.chunk(2)
        return squashed_sample(mean, log_std.clamp(*LOG_STD_RANGE), noise)

    def _value(self, critic: Tensor, features: Tensor, seen: Tensor, action: Tensor) -> Tensor:
        """The value that one critic `[P]` predicts."""
        x = torch.cat([features, action, seen])
        return network(critic, self.actor_critic.critic_networks.sizes, x[None])[0, 0]


def features(encoder: SequenceEncoder[Any], x: Tensor) -> Tensor:
    """The features `[L, H]` after each of the inputs `[L, I]` of one trial, each part embedded by itself."""
    start, parts = 0, []
    for layer in encoder.embeddings:
        weight, bias = layer.parameters()
        parts.append(relu(x[:, start : start + weight.shape[1]] @ weight.T + bias))
        start += weight.shape[1]
    after: Tensor = encoder.cell(torch.cat(parts, dim=1)[None], encoder.fresh_memory(1))[0][0]
    return after
