"""Agents with a policy without memory, trained by PPO: everything but what the policy is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from metarl.agent import MetaAgent
from metarl.config import Layers
from metarl.learning.device.gpu import send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.normalisation import NORMALISATION, Normaliser, ReturnScale
from metarl.learning.experience.returns import discounted_sums, generalised_advantages
from metarl.learning.experience.trials import last_steps
from metarl.learning.networks.distributions import Distribution, sample
from metarl.learning.networks.modules import ActorCritic
from metarl.learning.networks.perceptron import Activation
from metarl.learning.ppo.learner import PpoLearner, PpoSamples, PpoSettings, normalise_over_steps
from metarl.learning.saving import check_tensors
from metarl.memory import DOUBLE, FLOAT, LEARNED, Need, RunSize, dense_parameters
from metarl.storage import write_tensors
from metarl.types import Action, Floats, Spaces, Trajectories

StateT = TypeVar("StateT")


@dataclass(frozen=True, kw_only=True)
class FeedForwardSettings(PpoSettings):
    """Settings of PPO with a policy without memory."""

    hidden: Layers = (64, 64)
    """Units of each hidden layer, of the policy and of the value function."""
    activation: Activation = "tanh"
    """After each of these layers."""


class FeedForwardAgent(MetaAgent[StateT], Generic[StateT]):
    """An agent that does not adapt: a policy and a value function of the current input, learner and statistics.

    The input, `I` numbers, is the observation and what a subclass adds to it.

    Args:
        name: Of the agent, for messages and exported files.
        settings: The settings.
        spaces: Sizes and action bounds of the environments.
        numbers: Unit of each number that follows the observation and is normalised with it.
        codes: How many inputs follow that are 0 or 1 and shown as they are.
        device: Where the policy and its training run.
        rng: Source of the initial parameters and of the minibatches.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 4, "normalise_observations": True}

    @classmethod
    def memory_needed(cls, config: FeedForwardSettings, spaces: Spaces, size: RunSize) -> list[Need]:
        """The parts of a training that can be large: the networks, and the samples of an iteration.

        Args:
            config: The settings.
            spaces: Sizes and horizon.
            size: Of the training.
        """
        parameters = dense_parameters((spaces.observation_size, *config.hidden, spaces.policy_outputs))
        parameters += dense_parameters((spaces.observation_size, *config.hidden, 1))
        held = DOUBLE * parameters // 2 if size.gpu else FLOAT * LEARNED * parameters
        steps = size.tasks * size.episodes * spaces.horizon
        return [
            Need(f"networks of {parameters:,} parameters", held, "smaller layers (--agent.hidden)"),
            Need(
                "the samples of an iteration",
                FLOAT * steps * spaces.observation_size,
                "fewer --tasks or --episodes",
            ),
        ]

    def __init__(
        self,
        name: str,
        settings: FeedForwardSettings,
        spaces: Spaces,
        *,
        numbers: Sequence[str] = (),
        codes: int = 0,
        device: torch.device,
        rng: np.random.Generator,
    ) -> None:
        self.spaces = spaces
        self.recorded = {"policy_output": (spaces.action_size,), "log_prob": (), "value": ()}
        self._name, self._settings, self._device = name, settings, device
        self._actions = ActionMap(spaces, settings.action_scale)
        units = (*(spaces.observation_units or ("",) * spaces.observation_size), *numbers)
        self._normalised = len(units)  # the leading inputs
        self._network = ActorCritic(
            len(units) + codes,
            spaces,
            hidden=settings.hidden,
            activation=settings.activation,
            policy=settings,
            rng=rng,
        ).to(device)
        self._learner = PpoLearner(self._network, settings, rng)
        self._input_moments = Normaliser(len(units), settings.deviation_floor, units)
        self._return_moments = ReturnScale(settings.deviation_floor)

    @property
    def adaptation_steps(self) -> int:
        """None."""
        return 0

    def episodes_per_adaptation(self, episodes: int) -> int:
        """Every environment counts its own episodes."""
        return 1

    def _sample(self, inputs: Floats, rng: np.random.Generator, mode: bool = False) -> Action:
        """Draws (or takes the mode of) an action for each row of `[M, E, I]`; log-probability and value are extras."""
        with torch.no_grad():
            distribution, values = self._network(self._seen(inputs))
            output = sample(distribution, rng, mode)
            log_probs = distribution.log_prob(send(output, self._device))
        extras = {"policy_output": output, "log_prob": log_probs.cpu().numpy(), "value": values.cpu().numpy()}
        return Action(self._actions.to_environment(output), extras)

    def _learn(
        self, inputs: Floats, final_inputs: Floats, trajectories: Trajectories, progress: float = 0.0
    ) -> dict[str, float]:
        """PPO on the steps that happened.

        Args:
            inputs: `[M, E, T, I]`, as `_sample` was given them.
            final_inputs: `[M, E, I]`, after the last step of each episode.
            trajectories: What acting recorded.
            progress: Share of the run's meta-updates already made, in [0, 1).
        """
        settings, mask = self._settings, trajectories.mask
        over = last_steps(mask)
        rewards = trajectories.rewards.astype(np.float64)
        if settings.normalise_rewards:
            returns = discounted_sums(rewards, (~over).astype(np.float64), settings.gamma)
            self._return_moments.update(returns[..., None], mask)
            rewards = rewards / self._return_moments.scale
        with torch.no_grad():
            final_values = self._network(self._seen(final_inputs))[1].cpu().numpy().astype(np.float64)
        values = trajectories.extras["value"].astype(np.float64)
        advantages = bootstrapped_advantages(
            rewards, values, final_values, trajectories.terminated, mask, settings.gamma, settings.gae_lambda
        )
        arrays = {
            "actions": trajectories.extras["policy_output"],
            "log_probs": trajectories.extras["log_prob"],
            "values": values,
            "targets": advantages + values,
            "advantages": normalise_over_steps(advantages, mask) if settings.normalise_advantages else advantages,
            "mask": mask,
        }
        samples = PpoSamples.of({name: array[mask] for name, array in arrays.items()}, self._device)
        x = self._seen(inputs[mask])

        def forward(rows: Tensor) -> tuple[Distribution, Tensor]:
            distribution, value = self._network(x[rows])
            return distribution, value

        report = self._learner.update(samples, forward, progress)
        if settings.normalise_observations:  # after the update, so that acting and learning see the same inputs
            self._input_moments.update(inputs[..., : self._normalised], mask)
        return report | {"policy/std": self._network.policy.std(report["update/entropy"])}

    def _seen(self, inputs: Floats) -> Tensor:
        """Inputs as the networks see them, on the device."""
        if self._settings.normalise_observations:
            numbers, codes = np.split(inputs, [self._normalised], axis=-1)
            inputs = self._input_moments.normalise(numbers)
            if codes.shape[-1]:
                inputs = np.concatenate([inputs, codes], axis=-1)
        return send(inputs, self._device, torch.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and running statistics."""
        return {
            **self._learner.tensors(),
            **self._input_moments.tensors("input_moments"),
            **self._return_moments.tensors("return_moments"),
        }

    def counters(self) -> dict[str, Any]:
        """The generator of the minibatches."""
        return self._learner.counters()

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` and `counters` gave.

        Raises:
            ValueError: Names or shapes do not fit.
        """
        check_tensors(self._name, tensors, self.tensors())
        self._learner.restore(tensors, counters)
        self._input_moments.restore("input_moments", tensors)
        self._return_moments.restore("return_moments", tensors)

    def _export(self, path: str | Path, inputs: str, more: Mapping[str, Tensor]) -> None:
        """Writes the networks with a description.

        Args:
            path: The file.
            inputs: What the input consists of, in words.
            more: Further arrays for the file.
        """
        tensors = {f"network.{name}": t.detach() for name, t in self._network.named_parameters()}
        network = self._network
        layers = [layer for layer in (*network.actor, network.policy.output) if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(layers):  # the mean or the logits, as the agents that adapt by gradient have them
            tensors |= {f"weight_{i}": layer.weight.detach().T.clone(), f"bias_{i}": layer.bias.detach().clone()}
        if self._settings.normalise_observations:
            tensors |= self._input_moments.exported("input") | self._input_moments.exported("observation")
        description = {
            "agent": self._name,
            "inputs": inputs,
            "activation": self._settings.activation,
            "layers": len(layers),
            "normalise_observations": self._settings.normalise_observations,
            "normalisation": NORMALISATION,
            "normalised_inputs": self._normalised,
            **self._network.policy.description(),
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

    A terminated episode earns nothing more. One that a time limit cut is worth what the value function says of
    its last observation (Pardo et al. 2018, arXiv:1712.00378): without memory or clock it cannot know the limit.

    Args:
        rewards: `[M, E, T]`.
        values: Of what was seen before each step, `[M, E, T]`.
        final_values: Of what was seen after the last step, `[M, E]`.
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
