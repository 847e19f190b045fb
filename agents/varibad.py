"""VariBAD: infers a belief over the task at every step, and acts on observation and belief.

Zintgraf et al. 2020, "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning" (arXiv:1910.08348):
a recurrent variational encoder, trained to predict the rewards of whole trials, and a policy without memory on its
belief, trained by PPO (Schulman et al. 2017, arXiv:1707.06347). The page `docs/varibad.md` has the equations and
every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import Count, Layers, NonNegative, Positive, Rows, RowsOrOwn, UnitInterval, Units
from metarl.learning.device.gpu import send
from metarl.learning.experience.columns import Columns
from metarl.learning.experience.normalisation import Normaliser
from metarl.learning.experience.trial_replay import TrialReplay
from metarl.learning.experience.trials import Trials
from metarl.learning.networks.belief import BeliefEncoder, BeliefMemory, BeliefPolicy
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import cell_size
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.exported.traceable import InferringPolicy
from metarl.learning.networks.modules import ActorCritic
from metarl.learning.networks.optimisers import step_size
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.vae import REPORTED, TrialTensors, Vae, VaeLearner
from metarl.learning.ppo.learner import PpoSamples
from metarl.learning.ppo.trial_agent import TrialAgent
from metarl.learning.ppo.trials import TrialSettings
from metarl.learning.saving import check_tensors
from metarl.learning.trials.actor import input_size
from metarl.learning.trials.needs import buffer_need, memories_need, networks_need, trials_need
from metarl.learning.trials.settings import trial_steps
from metarl.memory import Need, RunSize, dense_parameters
from metarl.types import Bools, Floats, Spaces

PRIOR_DEVIATION = 1.0
"""Deviation of a latent under the prior, also used for log-variances: the smallest reference of the belief's floor."""


@dataclass(frozen=True, kw_only=True)
class VaribadConfig(CellSettings, TrialSettings):
    """Settings of VariBAD; discount, clipping and entropy are the published ones."""

    clip: Positive = 0.1
    """Clip range of the probability ratio around 1; usually 0.1 to 0.3."""
    entropy_weight: NonNegative = 0.01
    """Weight of the entropy bonus, per nat; usually 0 to 0.01.
    Relative to the advantages: deviation 1 with normalise_advantages, else in units of the (normalised) reward."""
    gamma: UnitInterval = 0.97
    """Discount per step; usually 0.95 to 0.99."""
    gae_lambda: UnitInterval = 0.9
    """Lambda of generalised advantage estimation; usually 0.9 to 1."""
    hidden: Layers = (128, 128)
    """Units of each hidden layer, of the policy and of the value function."""
    activation: Activation = "tanh"
    """Activation of the hidden layers of policy and value function."""
    normalise_belief: bool = True
    """Normalise the belief for policy and value function by running statistics."""
    latent: Units = 5
    """Components of the latent task variable m (Z); usually 5 to 10."""
    encoder: Layers = (64,)
    """Units of each layer (ReLU) before the encoder's recurrent cell; may be empty."""
    decoder: Layers = (64, 32)
    """Units of each hidden layer (ReLU) of the decoders."""
    reward_sees_transition: bool = True
    """Add observation and action to the reward decoder's input, which is the next observation."""
    reward_weight: NonNegative = 1.0
    """Weight of the reward decoder's squared errors."""
    transition_weight: NonNegative = 0.0
    """Weight of the squared errors of a decoder of next observations, for tasks that differ in their dynamics; 0 for no
    such decoder."""
    kl_weight: NonNegative = 0.1
    """Weight of the KL divergence between consecutive beliefs, per nat; usually 0.01 to 1."""
    vae_learning_rate: Positive = 1e-3
    """Step size of Adam for encoder and decoders."""
    vae_updates: RowsOrOwn = 30
    """Steps of Adam on encoder and decoders per iteration; usually 1 to 50."""
    vae_trials: Rows = 25
    """Trials per step of Adam, drawn from the buffer (all of them if it holds fewer)."""
    elbo_terms: RowsOrOwn = 25
    """Number of prefixes of each trial whose belief is decoded in one step of Adam, drawn at random; 0 for all."""
    decoded_steps: RowsOrOwn = 25
    """Number of steps of each trial that are decoded from each belief, drawn at random; 0 for all."""
    buffer_trials: Count = 1000
    """Capacity of the buffer of encoder and decoders, in trials; the oldest are overwritten."""


class Varibad(TrialAgent[BeliefMemory]):
    """VariBAD as a `metarl.agent.MetaAgent`; its state is a `Memory`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Device of the networks and their training.
        rng: Source of the initial parameters and of PPO's minibatches; the generator for the training of encoder and
            decoders is spawned from it.
    """

    Config: ClassVar[type] = VaribadConfig
    summary: ClassVar[str] = "acts on a belief about the task, inferred at every step (Zintgraf et al. 2020)"
    config: VaribadConfig
    network: BeliefPolicy

    @classmethod
    def memory_needed(cls, config: VaribadConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the networks, of whole trials, and of the buffer of trials."""
        inputs = (input_size(spaces), *config.encoder)
        cell = cell_size(config, inputs[-1], trial_steps(config, spaces))
        parameters = dense_parameters(inputs) + cell.parameters
        parameters += dense_parameters((config.units, 2 * config.latent))
        for last in (spaces.policy_outputs, 1):
            parameters += dense_parameters((spaces.observation_size + 2 * config.latent, *config.hidden, last))
        remedy = "fewer --agent.units or smaller layers (--agent.encoder, --agent.hidden)"
        return [
            networks_need(parameters, size, remedy),
            buffer_need(spaces, size, config.episodes_per_trial, config.buffer_trials),
            trials_need(spaces, size, config.episodes_per_trial, 2 * config.latent),
            memories_need(size, cell.memory),
        ]

    def __init__(
        self, config: VaribadConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        o, z = spaces.observation_size, config.latent
        encoder = BeliefEncoder(
            input_size(spaces), z, hidden=config.encoder, cell=config, steps=trial_steps(config, spaces), rng=rng
        )
        self.vae = Vae(
            encoder,
            o,
            spaces.policy_outputs,
            hidden=config.decoder,
            reward_sees_transition=config.reward_sees_transition,
            transitions=config.transition_weight > 0,
            rng=rng,
        ).to(device)
        policy = ActorCritic(
            o + 2 * z, spaces, hidden=config.hidden, activation=config.activation, policy=config, rng=rng
        )
        weights = (config.reward_weight, config.transition_weight, config.kl_weight)
        self._vae_learner = VaeLearner(self.vae, weights, config.vae_learning_rate, rng.spawn(1)[0])
        units = ("mean",) * z + ("log-variance",) * z
        self._belief_moments = Normaliser(2 * z, config.deviation_floor, units, expected=PRIOR_DEVIATION)
        network = BeliefPolicy(encoder, policy, o, self._belief_moments.normalise if config.normalise_belief else None)
        super().__init__("varibad", config, spaces, network, learns=policy, device=device, rng=rng)
        self._statistics["belief_moments"] = self._belief_moments
        self.recorded = {**self.recorded, "belief": (2 * z,)}
        columns = Columns(observations=o, actions=spaces.action_size, rewards=0, over=0, next_observations=o)
        self._replay = TrialReplay(config.buffer_trials, config.episodes_per_trial * spaces.horizon, columns)

    def _recorded(self, content: BeliefMemory) -> Mapping[str, Tensor]:
        """The belief that the action was computed from."""
        return {"belief": content.belief}

    # Training -------------------------------------------------------------------------------------------

    def _learn(self, trials: Trials, progress: float) -> dict[str, float]:
        """PPO on the iteration's trials, then encoder and decoders on trials of the buffer."""
        self._replay.add(vars(trials), trials.mask)
        report = super()._learn(trials, progress) | self._update_vae(progress)
        beliefs = trials.extras["belief"]
        if self.config.normalise_belief:  # after the update, so that acting and learning see the same inputs
            self._belief_moments.update(beliefs, trials.mask)
        deviations = np.exp(0.5 * beliefs[..., self.config.latent :][trials.mask])
        return report | {"belief/std": float(deviations.mean()), "buffer/trials": float(self._replay.size)}

    def _to_learn_from(self, trials: Trials, samples: PpoSamples) -> tuple[PpoSamples, tuple[Tensor, ...]]:
        """Single steps with their recorded beliefs, which are constants: no gradient reaches the encoder."""
        observations, beliefs = self._seen(trials.observations), trials.extras["belief"]
        x = self.network.joined(*(send(a[trials.mask], self._device, torch.float32) for a in (observations, beliefs)))
        return samples.rows(samples.mask.bool()), (x,)

    def _forward(self, x: Tensor, *memory: Tensor) -> tuple[Distribution, Tensor]:
        passed: tuple[Distribution, Tensor] = self.network.actor_critic(x)
        return passed

    def _update_vae(self, progress: float = 0.0) -> dict[str, float]:
        """Steps of Adam on the bound; returns means over them, and the step size."""
        config, step = self.config, step_size(self.config.vae_learning_rate, self.config.anneal, progress)
        sums = torch.zeros(len(REPORTED), dtype=torch.float32, device=self._device)
        for _ in range(config.vae_updates):
            columns, mask = self._replay.sample(config.vae_trials, self._vae_learner.rng)
            trials = self._trial_tensors(columns, mask)
            sums += self._vae_learner.step(trials, mask, config.elbo_terms, config.decoded_steps, step)
        means = (sums / max(config.vae_updates, 1)).tolist()
        report = {f"vae/{name}": value for name, value in zip(REPORTED, means, strict=True)}
        return report | {"vae/learning_rate": step} if config.vae_updates else {}

    def _trial_tensors(self, columns: Mapping[str, Floats], mask: Bools) -> TrialTensors:
        """Trials as encoder and decoders see them, on the device; columns are those of the buffer, `[B, L, ...]`."""
        feedback = self._feedback.along(columns["actions"], columns["rewards"], columns["over"])
        arrays = (
            self._seen(columns["observations"]),
            self._actions.to_features(columns["actions"]),
            self._seen(columns["next_observations"]),
            columns["rewards"][..., None],
            mask,
        )
        inputs = self._inputs(columns["observations"], feedback)
        return TrialTensors(inputs, *(send(a, self._device, torch.float32) for a in arrays))

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's states, running statistics and the buffer."""
        return self.learned() | self._replay.tensors("buffer")

    def learned(self) -> dict[str, Tensor]:
        """The arrays of `tensors` that learning changes: all except the buffer."""
        return super().tensors() | self._vae_learner.tensors()

    def counters(self) -> dict[str, Any]:
        """State of the generators of the minibatches and of the training of encoder and decoders."""
        return super().counters() | self._vae_learner.counters()

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names, shapes or generators do not fit this agent.
        """
        check_tensors("varibad", {k: t for k, t in tensors.items() if not k.startswith("buffer.")}, self.learned())
        self._replay.check("buffer", tensors)
        self._vae_learner.restore(tensors, counters)
        self._restore(tensors, counters)
        self._replay.restore("buffer", tensors)

    def _exported_statistics(self) -> dict[str, Tensor]:
        beliefs = self._belief_moments.exported("belief") if self.config.normalise_belief else {}
        return super()._exported_statistics() | beliefs

    def _traceable(self) -> nn.Module:
        statistics = self._belief_moments.exported("belief") if self.config.normalise_belief else {}
        parts = self.network.encoder, self.network.actor_critic
        return InferringPolicy(*parts, seen=self.spaces.observation_size, statistics=statistics)

    def _description(self) -> dict[str, Any]:
        config, about = self.config, super()._description()
        return {
            "encoder_inputs": about.pop("inputs"),
            "inputs": "observation, mean and log-variance of the belief",
            **config.description(),
            "activation": config.activation,
            "encoder_activation": "relu",
            "reward_input_scale": config.reward_input_scale,
            "normalise_observations": config.normalise_observations,
            "normalise_belief": config.normalise_belief,
            **about,
        }
