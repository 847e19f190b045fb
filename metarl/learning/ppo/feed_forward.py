"""Agents with a policy without memory, trained by PPO: everything except the policy's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import Layers
from metarl.learning.device.gpu import send
from metarl.learning.experience.normalisation import NORMALISATION, Normaliser
from metarl.learning.experience.returns import discounted_sums, generalised_advantages
from metarl.learning.experience.trials import last_steps
from metarl.learning.networks.distributions import sample_with_log_prob
from metarl.learning.networks.exported.step import Actions, MemorylessStep, PolicyStep
from metarl.learning.networks.exported.traceable import NormalisedPolicy, normalisation, traceable
from metarl.learning.networks.modules import ActorCritic
from metarl.learning.networks.perceptron import Activation
from metarl.learning.ppo.agent import PpoAgent, StateT
from metarl.learning.ppo.learner import PpoSamples, PpoSettings, normalise_over_steps
from metarl.learning.trials.needs import networks_need
from metarl.memory import FLOAT, Need, RunSize, dense_parameters
from metarl.storage import write_tensors
from metarl.types import Action, Floats, Spaces, Trajectories


@dataclass(frozen=True, kw_only=True)
class FeedForwardSettings(PpoSettings):
    """Settings of PPO for a policy without memory."""

    hidden: Layers = (64, 64)
    """Units of each hidden layer, of the policy and of the value function."""
    activation: Activation = "tanh"
    """Activation of the hidden layers of policy and value function."""


class FeedForwardAgent(PpoAgent[StateT], Generic[StateT]):
    """An agent without adaptation: policy and value function of the current input, learner, statistics.

    The input, `I` numbers, is the observation followed by the inputs of a subclass.

    Args:
        name: Name of the agent, for messages and exported files.
        settings: The settings.
        spaces: Sizes and action bounds of the environments.
        numbers: Unit of each further input that is normalised, one per input.
        codes: Number of inputs after those, 0 or 1 each, which are not normalised.
        device: Device of the policy and its training.
        rng: Source of the initial parameters and of the minibatches.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 4, "normalise_observations": True}
    acts_with: ClassVar[tuple[str, ...]] = (*PpoAgent.acts_with, "network", "_normalised", "_input_moments")
    config: FeedForwardSettings

    @classmethod
    def memory_needed(cls, config: FeedForwardSettings, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the networks and of the samples of an iteration."""
        parameters = dense_parameters((spaces.observation_size, *config.hidden, spaces.policy_outputs))
        parameters += dense_parameters((spaces.observation_size, *config.hidden, 1))
        steps = size.tasks * size.episodes * spaces.horizon
        return [
            networks_need(parameters, size, "smaller layers (--agent.hidden)"),
            Need("the samples of an iteration", FLOAT * steps * spaces.observation_size, "fewer --tasks or --episodes"),
        ]

    def __init__(
        self,
        name: str,
        config: FeedForwardSettings,
        spaces: Spaces,
        *,
        numbers: Sequence[str] = (),
        codes: int = 0,
        device: torch.device,
        rng: np.random.Generator,
    ) -> None:
        units = (*(spaces.observation_units or ("",) * spaces.observation_size), *numbers)
        self._normalised = len(units)  # the leading inputs
        self.network = ActorCritic(
            len(units) + codes,
            spaces,
            hidden=config.hidden,
            activation=config.activation,
            policy=config,
            rng=rng,
        ).to(device)
        self._input_moments = Normaliser(len(units), config.deviation_floor, units)
        super().__init__(
            name, config, spaces, self.network, {"input_moments": self._input_moments}, device=device, rng=rng
        )

    @property
    def adaptation_steps(self) -> int:
        """`K`: 0."""
        return 0

    def _sample(self, inputs: Floats, rng: np.random.Generator, mode: bool = False) -> Action:
        """Samples an action (or takes the mode) for each row of `[M, E, I]`; log-probability and value are extras."""
        with torch.inference_mode():
            x = self._seen(inputs)
            flat = x.flatten(0, -2)
            distribution, values = self.network(flat) if x.is_cuda else self.network.step(flat.numpy())
            output, log_probs = sample_with_log_prob(distribution, rng, mode)
        rows = inputs.shape[:-1]
        extras = {"log_prob": log_probs.reshape(rows), "value": values.cpu().numpy().reshape(rows)}
        output = output.reshape(*rows, -1)
        return Action(self._actions.to_environment(output), {"policy_output": output, **extras})

    def _learn(
        self, inputs: Floats, final_inputs: Floats, trajectories: Trajectories, progress: float = 0.0
    ) -> dict[str, float]:
        """PPO on the steps that happened.

        Args:
            inputs: `[M, E, T, I]`, those of `_sample`.
            final_inputs: `[M, E, I]`, after the last step of each episode.
            trajectories: The episodes, with the extras of acting.
            progress: Fraction of the run's meta-updates that are done, in [0, 1).
        """
        config, mask = self.config, trajectories.mask
        over = last_steps(mask)
        rewards = trajectories.rewards.astype(np.float64)
        if config.normalise_rewards:
            returns = discounted_sums(rewards, (~over).astype(np.float64), config.gamma)
            self._return_moments.update(returns[..., None], mask)
            rewards = rewards / self._return_moments.scale
        with torch.no_grad():
            final_values = self.network(self._seen(final_inputs))[1].cpu().numpy().astype(np.float64)
        values = trajectories.extras["value"].astype(np.float64)
        advantages = bootstrapped_advantages(
            rewards, values, final_values, trajectories.terminated, mask, config.gamma, config.gae_lambda
        )
        arrays = {
            "actions": trajectories.extras["policy_output"],
            "log_probs": trajectories.extras["log_prob"],
            "values": values,
            "targets": advantages + values,
            "advantages": normalise_over_steps(advantages, mask) if config.normalise_advantages else advantages,
            "mask": mask,
        }
        samples = PpoSamples.of({name: array[mask] for name, array in arrays.items()}, self._device)
        report = self._learner.update(samples, (self._seen(inputs[mask]),), progress)
        if config.normalise_observations:  # after the update, so that acting and learning see the same inputs
            self._input_moments.update(inputs[..., : self._normalised], mask)
        return report | {"policy/std": self.network.policy.std(report["update/entropy"])}

    def _seen(self, inputs: Floats) -> Tensor:
        """Inputs of the networks, normalised, on the device."""
        if self.config.normalise_observations:
            numbers, codes = np.split(inputs, [self._normalised], axis=-1)
            inputs = self._input_moments.normalise(numbers)
            if codes.shape[-1]:
                inputs = np.concatenate([inputs, codes], axis=-1)
        return send(inputs, self._device, torch.float32)

    def _policy_step(self, given: Tensor | None, sampled: bool) -> PolicyStep:
        """One step of the policy, with the inputs `[G]` that describe the task, if there are any."""
        statistics = self._input_moments.exported("input") if self.config.normalise_observations else {}
        policy = NormalisedPolicy(normalisation(statistics), traceable(self.network))
        actions = Actions(self._actions.tensors(), self._actions.description())
        return MemorylessStep(self.spaces.observation_size, actions, policy, given=given, sampled=sampled)

    def _export(self, path: str | Path, inputs: str, more: Mapping[str, Tensor]) -> None:
        """Writes the networks with a description.

        Args:
            path: The file.
            inputs: Description of the input's parts.
            more: Further arrays to write.
        """
        tensors = {f"network.{name}": t.detach() for name, t in self.network.named_parameters()}
        network = self.network
        layers = [layer for layer in (*network.actor, network.policy.output) if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(layers):  # the policy as an MLP, in the layout of the gradient agents
            tensors |= {f"weight_{i}": layer.weight.detach().T.clone(), f"bias_{i}": layer.bias.detach().clone()}
        if self.config.normalise_observations:
            tensors |= self._input_moments.exported("input") | self._input_moments.exported("observation")
        description = {
            "format": 1,
            "agent": self._name,
            "inputs": inputs,
            "activation": self.config.activation,
            "layers": len(layers),
            "normalise_observations": self.config.normalise_observations,
            "normalisation": NORMALISATION,
            "normalised_inputs": self._normalised,
            **self.network.policy.description(),
            **self._actions.description(),
        }
        write_tensors(path, tensors | self._actions.tensors() | dict(more), description)


def bootstrapped_advantages(
    rewards: Floats,
    values: Floats,
    final_values: Floats,
    terminated: Floats,
    mask: Floats,
    gamma: float,
    lam: float,
) -> Floats:
    """Generalised advantages of single episodes, zero on padding.

    The value after a terminated episode is 0. After a time limit it is bootstrapped from the last observation (Pardo
    et al. 2018, arXiv:1712.00378): without memory or clock the value function cannot know the limit.

    Args:
        rewards: `[M, E, T]`.
        values: Values of the observation before each step, `[M, E, T]`.
        final_values: Values of the observation after the last step, `[M, E]`.
        terminated: `[M, E, T]`.
        mask: `[M, E, T]`.
        gamma: Discount per step.
        lam: Decay of the multi-step estimators.
    """
    over = last_steps(mask)
    next_values = np.zeros_like(values)
    next_values[..., :-1] = values[..., 1:]
    next_values = np.where(over, final_values[..., None], next_values)
    advantages = generalised_advantages(rewards, values, next_values, terminated, over & ~terminated, gamma, lam)
    return np.where(mask, advantages, 0.0)
