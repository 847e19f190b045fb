"""Agents with a memory that spans a trial, trained by PPO: everything except the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.trials import Trials, pack_trials
from metarl.learning.networks.cells.base import MemoryT
from metarl.learning.networks.distributions import Distribution, sample_with_log_prob
from metarl.learning.networks.sequence import SequenceNetwork, memories_after_episodes, unroll
from metarl.learning.ppo.agent import PpoAgent
from metarl.learning.ppo.learner import PpoSamples
from metarl.learning.ppo.trials import TrialSettings, linear_values, trial_returns, trial_samples
from metarl.learning.trials.actor import Memory, TrialActor
from metarl.learning.trials.settings import trial_ends
from metarl.types import Floats, MetaBatch, Spaces, Trajectories


class TrialAgent(TrialActor[MemoryT], PpoAgent[Memory[MemoryT]], Generic[MemoryT]):
    """An agent that adapts by the memory of its network; its state is a `Memory`.

    A subclass has a `Config` (a subclass of `TrialSettings`), a `summary`, and a constructor that makes the network.
    It may override the steps of training: `_learn`, `_to_learn_from`, `_forward`.

    Args:
        name: Name of the agent, for messages and exported files.
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        network: Policy and value function with a memory, of `input_size(spaces)` inputs, observation first.
        learns: The module whose parameters PPO trains; the network by default.
        device: Device of the network and its training.
        rng: Source of the minibatches.

    Attributes:
        network: The network.
    """

    config: TrialSettings
    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 4, "normalise_observations": True}

    def __init__(
        self,
        name: str,
        config: TrialSettings,
        spaces: Spaces,
        network: SequenceNetwork[MemoryT],
        *,
        learns: nn.Module | None = None,
        device: torch.device,
        rng: np.random.Generator,
    ) -> None:
        actions = ActionMap(spaces, config.action_scale)
        TrialActor.__init__(self, name, config, spaces, network, actions, device=device)
        learned, statistics = network if learns is None else learns, {"observation_moments": self._observation_moments}
        settings = dataclasses.replace(config, value_weight=0.0) if config.critic == "linear" else config
        how: dict[str, Any] = {"device": device, "rng": rng, "forward": self._forward, "settings": settings}
        PpoAgent.__init__(self, name, config, spaces, learned, statistics, **how)

    # Acting ---------------------------------------------------------------------------------------------

    def _choose(
        self, x: Tensor, memory: MemoryT, rng: np.random.Generator, mode: bool
    ) -> tuple[dict[str, Floats], MemoryT]:
        """A sample or the mode of the policy, its log-probability, the value, and what else is recorded."""
        distribution, values, memory = self.network.step(x, memory)
        output, log_probs = sample_with_log_prob(distribution, rng, mode)  # [N, A], [N]
        recorded = {name: t.cpu().numpy() for name, t in {"value": values, **self._recorded(memory)}.items()}
        return recorded | {"policy_output": output, "log_prob": log_probs}, memory

    def _recorded(self, content: MemoryT) -> Mapping[str, Tensor]:
        """Further extras to record, each `[M * E, ...]`, from the memory after a step; `recorded` declares them."""
        return {}

    # Training -------------------------------------------------------------------------------------------

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """PPO over whole trials."""
        trials = pack_trials(batch.collects)
        report = self._learn(trials, batch.progress)
        if self.config.normalise_observations:  # after the update, so that acting and learning see the same inputs
            self._observation_moments.update(trials.observations, trials.mask)
        return report

    def _learn(self, trials: Trials, progress: float) -> dict[str, float]:
        """All training on trials; returns metrics."""
        config = self.config
        if config.normalise_rewards:
            ends = trial_ends(trials, config.episodes_cut_returns)
            returns = trial_returns(trials.rewards.astype(np.float64), ends, config.gamma)
            self._return_moments.update(returns[..., None], trials.mask)
        samples, inputs = self._to_learn_from(trials, self._samples(trials))
        report = self._learner.update(samples, inputs, progress)
        return report | {"policy/std": self.network.policy.std(report["update/entropy"])}

    def _to_learn_from(self, trials: Trials, samples: PpoSamples) -> tuple[PpoSamples, tuple[Tensor, ...]]:
        """Samples and inputs of `_forward`, whose rows make the minibatches: whole trials, `[B, L, ...]`."""
        return samples, (self._trial_inputs(trials),)

    def _forward(self, x: Tensor, *memory: Tensor) -> tuple[Distribution, Tensor]:
        """Policy and values for the inputs of a minibatch."""
        return unroll(self.network, x)

    def _trial_inputs(self, trials: Trials) -> Tensor:
        """Inputs of the network at each step of the trials, `[B, L, I]`."""
        return self._inputs(trials.observations, self._feedback.along(trials.actions, trials.rewards, trials.over))

    def _samples(self, trials: Trials) -> PpoSamples:
        """The samples for PPO, `[B, L, ...]`, on the device."""
        config = self.config
        scale = self._return_moments.scale if config.normalise_rewards else 1.0
        ends = trial_ends(trials, config.episodes_cut_returns)
        if config.critic == "linear":
            returns = trial_returns(trials.rewards.astype(np.float64) / scale, ends, config.gamma)
            values = linear_values(self._seen(trials.observations), trials, returns)
            return trial_samples(trials, ends, scale, config, self._device, values=values)
        final_values = None if config.finite_trials else self._final_values(trials)
        return trial_samples(trials, ends, scale, config, self._device, final_values)

    @torch.no_grad()
    def _final_values(self, trials: Trials) -> Floats:
        """Values after the last step of each return: `[B]`, or `[B * (K + 1)]` if returns end with episodes."""
        network: Any = self.network
        if self.config.episodes_cut_returns:
            memories = memories_after_episodes(network, self._trial_inputs(trials), trials.over)
            x = self._inputs(*self._feedback.bootstrap_steps(trials, trials.over))
            values = network(x.unsqueeze(1), memories)[1].squeeze(1)
        else:
            x = self._inputs(*self._feedback.with_bootstrap_step(trials))
            values = network.value_after(x, torch.tensor(trials.mask.sum(axis=1)))
        return np.asarray(values.cpu().numpy(), dtype=np.float64)

    # Saving ---------------------------------------------------------------------------------------------

    def _exported_parameters(self) -> dict[str, Tensor]:
        """Policy, value function and what they need."""
        parameters: dict[str, Tensor] = self.network.exported_parameters()
        return parameters

    def _output_description(self) -> dict[str, Any]:
        """The policy's distribution and its actions."""
        return {**self.network.policy.description(), **self._actions.description()}
