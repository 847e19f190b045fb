"""VariBAD: infers a belief over the task at every step, and acts on observation and belief.

Zintgraf et al. 2020, "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning" (arXiv:1910.08348):
a recurrent variational encoder, trained to predict the rewards of whole trials, and a policy without memory on its
belief, trained by PPO (Schulman et al. 2017, arXiv:1707.06347). The page `docs/varibad.md` has the equations and
every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from metarl.agent import MetaAgent
from metarl.config import Count, Layers, NonNegative, Positive, Rows, RowsOrOwn, UnitInterval, Units
from metarl.learning.device.gpu import send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.feedback import Feedback
from metarl.learning.experience.normalisation import NORMALISATION, Normaliser, ReturnScale
from metarl.learning.experience.trial_replay import TrialReplay
from metarl.learning.experience.trials import Trials, pack_trials, step_after
from metarl.learning.networks.belief import BeliefEncoder, Chosen, Decoder, choose_steps, kl_from_previous, summed_error
from metarl.learning.networks.cells import GATES
from metarl.learning.networks.distributions import Distribution, sample
from metarl.learning.networks.modules import ActorCritic
from metarl.learning.networks.optimisers import Adam
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.recurrent import memories_after_episodes
from metarl.learning.ppo.learner import PpoLearner, step_size
from metarl.learning.ppo.trials import Memory, TrialSettings, trial_ends, trial_returns, trial_samples
from metarl.learning.ppo.whole_trials import after_episodes, trials_memory
from metarl.learning.saving import check_tensors
from metarl.memory import FLOAT, LEARNED, SAVED, Need, RunSize, dense_parameters, recurrent_parameters
from metarl.storage import write_tensors
from metarl.types import Action, Bools, Floats, MetaBatch, Spaces, Step, Task, Trajectories

PRIOR_DEVIATION = 1.0
"""Of a latent under the prior, and as good for a log-variance: beliefs that vary by far less say nothing yet."""


@dataclass(frozen=True, kw_only=True)
class VaribadConfig(TrialSettings):
    """Settings of VariBAD; discount, clipping and entropy are the published ones."""

    clip: Positive = 0.1
    """How far the probability ratio may leave 1 before its gradient ends; usually 0.1 to 0.3."""
    entropy_weight: NonNegative = 0.01
    """Weight of the entropy bonus, per nat, relative to advantages of deviation 1 with normalise_advantages, else in
    units of the normalised reward (of the reward itself without normalise_rewards); usually 0 to 0.01."""
    gamma: UnitInterval = 0.97
    """Discount per step; usually 0.95 to 0.99."""
    gae_lambda: UnitInterval = 0.9
    """Decay of generalised advantage estimation; usually 0.9 to 1."""
    hidden: Layers = (128, 128)
    """Units of each hidden layer, of the policy and of the value function."""
    activation: Activation = "tanh"
    """After each of these layers."""
    normalise_belief: bool = True
    """Show policy and value function the belief normalised by running statistics."""
    latent: Units = 5
    """Components of the latent task variable m (Z); usually 5 to 10."""
    units: Units = 128
    """Size of the encoder's memory; usually 64 to 256."""
    encoder: Layers = (64,)
    """Units of each layer (ReLU) before the encoder's recurrent cell; there may be none."""
    decoder: Layers = (64, 32)
    """Units of each hidden layer (ReLU) of the decoders."""
    reward_sees_transition: bool = True
    """Show the reward decoder observation and action too, not the next observation alone."""
    reward_weight: NonNegative = 1.0
    """Weight of the reward decoder's squared errors."""
    transition_weight: NonNegative = 0.0
    """Weight of the squared errors of a decoder of next observations; 0 does without it. For tasks that differ in
    their dynamics."""
    kl_weight: NonNegative = 0.1
    """Weight of the KL between consecutive beliefs, per nat; usually 0.01 to 1."""
    vae_learning_rate: Positive = 1e-3
    """Step size of Adam for encoder and decoders."""
    vae_updates: RowsOrOwn = 30
    """Steps of Adam on encoder and decoders per iteration; usually 1 to 50."""
    vae_trials: Rows = 25
    """Trials of one such step, drawn from the buffer (all of them while there are fewer)."""
    elbo_terms: RowsOrOwn = 25
    """Prefixes of each trial whose belief is decoded in one step, drawn at random; 0 for all."""
    decoded_steps: RowsOrOwn = 25
    """Steps of each trial that these beliefs decode, drawn at random; 0 for all."""
    buffer_trials: Count = 1000
    """Trials that the buffer of encoder and decoders holds; older ones are overwritten."""


class TrialTensors(NamedTuple):
    """Whole trials as encoder and decoders see them.

    Attributes:
        inputs: Of the encoder, `[B, L, I]`.
        observations: Before each step, `[B, L, O]`.
        actions: As features, `[B, L, F]`.
        next_observations: After each step, `[B, L, O]`.
        rewards: `[B, L, 1]`.
        mask: `[B, L]`, 1 on steps that happened, else 0.
    """

    inputs: Tensor
    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    rewards: Tensor
    mask: Tensor


class Elbo(NamedTuple):
    """The parts of the bound, each summed over the prefixes of a trial, `[B]`.

    Attributes:
        rewards: Squared errors of the decoded rewards, summed over the trial's steps too.
        observations: Squared errors of the decoded next observations, likewise; zero where none are decoded.
        kl: KL of each belief from the one before, in nats.
    """

    rewards: Tensor
    observations: Tensor
    kl: Tensor

    def loss(self, config: VaribadConfig) -> Tensor:
        """Minus the bound (sections 3.1 and 3.2 of the paper), up to a constant; mean over the trials."""
        errors = config.reward_weight * self.rewards + config.transition_weight * self.observations
        return (errors + config.kl_weight * self.kl).mean()


class Vae(nn.Module):
    """Encoder and decoders.

    Args:
        config: The settings.
        inputs: Size of the encoder's input.
        observation: `O`.
        action: Numbers that describe an action.
        rng: Source of the initial weights.
    """

    def __init__(
        self, config: VaribadConfig, inputs: int, observation: int, action: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.encoder = BeliefEncoder(
            inputs, config.latent, hidden=config.encoder, activation="relu", units=config.units, rng=rng
        )
        self._sees_transition = config.reward_sees_transition
        seen = observation + (observation + action if config.reward_sees_transition else 0)
        self.reward = Decoder(config.latent, seen, config.decoder, 1, rng)
        self.transition = (
            Decoder(config.latent, observation + action, config.decoder, observation, rng)
            if config.transition_weight
            else None
        )

    def elbo(self, trials: TrialTensors, prefixes: Chosen, decoded: Chosen, noise: Tensor) -> Elbo:
        """The parts of the bound, estimated from some prefixes and steps.

        Args:
            trials: `[B, L, ...]`.
            prefixes: The `P` prefixes of each trial whose belief is decoded.
            decoded: The `D` steps of each trial that they decode.
            noise: Standard normal, `[B, P, Z]`: one latent per prefix.
        """
        beliefs, _ = self.encoder(trials.inputs, self.encoder.fresh_memory(len(trials.inputs)))
        kl = torch.where(trials.mask > 0, kl_from_previous(beliefs), 0.0).sum(dim=1)
        latents = type(beliefs)(*(prefixes.of(t) for t in beliefs)).drawn(noise)
        before = torch.cat([decoded.of(trials.observations), decoded.of(trials.actions)], dim=-1)
        after = decoded.of(trials.next_observations)
        seen = torch.cat([after, before], dim=-1) if self._sees_transition else after
        rewards = summed_error(self.reward(latents, seen), decoded.of(trials.rewards), prefixes, decoded)
        if self.transition is None:
            return Elbo(rewards, torch.zeros_like(rewards), kl)
        return Elbo(rewards, summed_error(self.transition(latents, before), after, prefixes, decoded), kl)


class Varibad(MetaAgent[Memory]):
    """VariBAD as a `metarl.agent.MetaAgent`; its state is a `Memory`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the networks and their training run.
        rng: Source of the initial parameters and of PPO's minibatches; the generator of what the training of
            encoder and decoders draws is spawned from it.
    """

    Config: ClassVar[type] = VaribadConfig
    summary: ClassVar[str] = "acts on a belief about the task, inferred at every step (Zintgraf et al. 2020)"
    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 4, "normalise_observations": True}
    adapts_within_episodes: ClassVar[bool] = True

    @classmethod
    def memory_needed(cls, config: VaribadConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """The parts of a training that can be large: the networks, whole trials, and the buffer of them.

        Args:
            config: The settings.
            spaces: Sizes and horizon.
            size: Of the training.
        """
        o, outputs, trial = spaces.observation_size, spaces.policy_outputs, config.episodes_per_trial * spaces.horizon
        inputs = (o + outputs + 2, *config.encoder)
        parameters = dense_parameters(inputs) + recurrent_parameters(inputs[-1], config.units, GATES["gru"])
        parameters += dense_parameters((config.units, 2 * config.latent))
        for last in (outputs, 1):
            parameters += dense_parameters((o + 2 * config.latent, *config.hidden, last))
        row = FLOAT * (2 * o + spaces.action_size + 2)
        stored = min(config.buffer_trials, size.iterations * size.tasks * size.episodes)
        return [
            Need(
                f"networks of {parameters:,} parameters",
                FLOAT * parameters if size.gpu else FLOAT * LEARNED * parameters,
                "fewer --agent.units or smaller layers (--agent.encoder, --agent.hidden)",
            ),
            Need(
                f"the buffer, of {config.buffer_trials:,} trials of {trial:,} steps with {2 * o:,} numbers each,",
                SAVED * stored * trial * row,
                "a smaller --agent.buffer-trials",
                reserved=config.buffer_trials * trial * row,
            ),
            trials_memory(spaces, size, config.episodes_per_trial, 2 * config.latent),
        ]

    def __init__(
        self, config: VaribadConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        self.config, self.spaces, self._device = config, spaces, device
        self.recorded = {
            "policy_output": (spaces.action_size,),
            "log_prob": (),
            "value": (),
            "belief": (2 * config.latent,),
        }
        self._actions = ActionMap(spaces, config.action_scale)
        self._feedback = Feedback(self._actions, config.reward_input_scale)
        o, z = spaces.observation_size, config.latent
        self._vae = Vae(config, o + self._feedback.size, o, self._actions.features, rng).to(device)
        self._vae_adam = Adam(self._vae.parameters(), config.vae_learning_rate)
        self._network = ActorCritic(
            o + 2 * z,
            spaces,
            hidden=config.hidden,
            activation=config.activation,
            policy=config,
            rng=rng,
        ).to(device)
        self._vae_rng = rng.spawn(1)[0]
        self._learner = PpoLearner(self._network, config, rng)
        floor, belief_units = config.deviation_floor, ("mean",) * z + ("log-variance",) * z
        self._observation_moments = Normaliser(o, floor, spaces.observation_units)
        self._belief_moments = Normaliser(2 * z, floor, belief_units, expected=PRIOR_DEVIATION)
        self._return_moments = ReturnScale(floor)
        self._columns = (o, spaces.action_size, 1, 1, o)  # observation, action, reward, over, next observation
        self._replay = TrialReplay(
            config.buffer_trials, config.episodes_per_trial * spaces.horizon, int(sum(self._columns))
        )

    @property
    def adaptation_steps(self) -> int:
        """`K`: one fewer than the episodes of a trial."""
        return self.config.episodes_per_trial - 1

    def episodes_per_adaptation(self, episodes: int) -> int:
        """The environments of a task are independent trials."""
        return 1

    # Acting ---------------------------------------------------------------------------------------------

    def begin(self, tasks: Sequence[Task], episodes: int) -> Memory:
        """An empty memory in every row: a new trial."""
        cell = self._vae.encoder.fresh_memory(len(tasks) * episodes)
        return Memory(cell, self._feedback.at_the_start(len(tasks), episodes), cell)

    @torch.no_grad()
    def act(self, state: Memory, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Memory]:
        """Infers the belief and samples an action; rows whose episode is over keep their memory."""
        check_step(step, self.spaces, *state.rows)
        m, e, _ = step.observation.shape
        told = self._feedback.while_acting(step, state.feedback)
        x = send(self._encoder_inputs(step.observation, told), self._device)
        belief, cell = self._vae.encoder(x.reshape(m * e, 1, -1), state.cell)
        live = send(step.live.reshape(1, m * e, 1), self._device)
        memory = replace(state, cell=torch.where(live, cell, state.cell))

        beliefs = torch.cat(belief, dim=-1).cpu().numpy().reshape(m, e, -1)
        distribution, values = self._network(self._policy_inputs(step.observation, beliefs))
        output = sample(distribution, rng, mode)
        log_probs = distribution.log_prob(send(output, self._device))
        extras = {
            "policy_output": output,
            "log_prob": log_probs.cpu().numpy(),
            "value": values.cpu().numpy(),
            "belief": beliefs,
        }
        return Action(self._actions.to_environment(output), extras), memory

    def adapt(self, state: Memory, trajectories: Trajectories) -> Memory:
        """Keeps the memory, and carries the last action, its reward and the end of the episode over to the next."""
        parts = trajectories.cut_episodes(check_episodes(trajectories, self.spaces, *state.rows))
        return after_episodes(self._vae.encoder, self._feedback, self._encoder_inputs, state, parts)

    def _seen(self, observations: Floats) -> Floats:
        """Observations as the networks see them."""
        return self._observation_moments.normalise(observations) if self.config.normalise_observations else observations

    def _encoder_inputs(self, observations: Floats, told: Floats) -> Floats:
        """Inputs of the encoder, `[..., O + F]`."""
        return np.concatenate([self._seen(observations), told], axis=-1, dtype=np.float32)

    def _policy_inputs(self, observations: Floats, beliefs: Floats) -> Tensor:
        """Inputs of policy and value function, `[..., O + 2 Z]`, on the device."""
        if self.config.normalise_belief:
            beliefs = self._belief_moments.normalise(beliefs)
        x = np.concatenate([self._seen(observations), beliefs], axis=-1, dtype=np.float32)
        return send(x, self._device)

    # Training -------------------------------------------------------------------------------------------

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """PPO on the iteration's trials, then encoder and decoders on trials of the buffer."""
        trials = pack_trials(batch.collects)
        self._replay.add(self._rows(trials), trials.mask)
        report = self._update_policy(trials, batch.progress) | self._update_vae(batch.progress)
        # After the updates, so that acting and learning see the same inputs.
        if self.config.normalise_observations:
            self._observation_moments.update(trials.observations, trials.mask)
        if self.config.normalise_belief:
            self._belief_moments.update(trials.extras["belief"], trials.mask)
        deviations = np.exp(0.5 * trials.extras["belief"][..., self.config.latent :][trials.mask])
        return report | {
            "policy/std": self._network.policy.std(report["update/entropy"]),
            "belief/std": float(deviations.mean()),
            "buffer/trials": float(self._replay.size),
        }

    def _update_policy(self, trials: Trials, progress: float = 0.0) -> dict[str, float]:
        """PPO on the beliefs that were acted on: they are numbers here, so no gradient reaches the encoder."""
        config = self.config
        ends = trial_ends(trials, config.episodes_cut_returns)
        if config.normalise_rewards:
            returns = trial_returns(trials.rewards.astype(np.float64), ends, config.gamma)
            self._return_moments.update(returns[..., None], trials.mask)
        scale = self._return_moments.scale if config.normalise_rewards else 1.0
        final_values = None if config.finite_trials else self._final_values(trials)
        samples = trial_samples(trials, ends, scale, config, self._device, final_values)
        samples = samples.rows(samples.mask.bool())  # [steps that happened, ...]
        x = self._policy_inputs(trials.observations[trials.mask], trials.extras["belief"][trials.mask])

        def forward(rows: Tensor) -> tuple[Distribution, Tensor]:
            distribution, values = self._network(x[rows])
            return distribution, values

        return self._learner.update(samples, forward, progress)

    @torch.no_grad()
    def _final_values(self, trials: Trials) -> Floats:
        """Values of observation and belief after the last step of each return, `[B]`; of episodes, `[B * (K + 1)]`."""
        encoder = self._vae.encoder
        if self.config.episodes_cut_returns:
            told = self._feedback.along(trials.actions, trials.rewards, trials.over)
            x = send(self._encoder_inputs(trials.observations, told), self._device)
            memories = memories_after_episodes(encoder, x, trials.over)
            last, told = self._feedback.going_on(trials, trials.over)
            belief, _ = encoder(send(self._encoder_inputs(last, told), self._device).unsqueeze(1), memories)
            beliefs = torch.cat(belief, dim=-1).squeeze(1).cpu().numpy()
        else:
            observations, told = self._feedback.beyond(trials)
            x = send(self._encoder_inputs(observations, told), self._device)
            belief, _ = encoder(x, encoder.fresh_memory(len(x)))
            beliefs = step_after(torch.cat(belief, dim=-1), trials.mask).cpu().numpy()
            last = step_after(torch.tensor(observations), trials.mask).numpy()
        _, values = self._network(self._policy_inputs(last, beliefs))
        return values.cpu().numpy().astype(np.float64)

    def _update_vae(self, progress: float = 0.0) -> dict[str, float]:
        """Steps of Adam on the bound; returns the step size, and means over them, of single errors and beliefs."""
        config, rng = self.config, self._vae_rng
        self._vae_adam.learning_rate = step_size(config.vae_learning_rate, config.anneal, progress)
        sums = torch.zeros(4, dtype=torch.float32, device=self._device)
        for _ in range(config.vae_updates):
            rows, mask = self._replay.sample(config.vae_trials, rng)
            trials = self._trial_tensors(rows, mask)
            prefixes = choose_steps(mask, config.elbo_terms, self._device, rng)
            decoded = choose_steps(mask, config.decoded_steps, self._device, rng)
            noise = rng.standard_normal((*prefixes.steps.shape, config.latent), dtype=np.float32)
            elbo = self._vae.elbo(trials, prefixes, decoded, send(noise, self._device))
            loss = elbo.loss(config)
            self._vae_adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._vae_adam.step()
            with torch.no_grad():
                steps = trials.mask.sum(dim=1)
                pairs = steps.square()
                parts = [(elbo.rewards / pairs).mean(), (elbo.observations / pairs).mean(), (elbo.kl / steps).mean()]
                sums += torch.stack([loss, *parts])
        means = (sums / max(config.vae_updates, 1)).tolist()
        names = ("loss", "reward_error", "observation_error", "kl")
        report = {f"vae/{name}": value for name, value in zip(names, means, strict=True)}
        return report | {"vae/learning_rate": self._vae_adam.learning_rate} if config.vae_updates else {}

    def _rows(self, trials: Trials) -> Floats:
        """Trials as the buffer stores them, `[B, L, width]`."""
        columns = (
            trials.observations,
            trials.actions,
            trials.rewards[..., None],
            trials.over[..., None],
            trials.next_observations,
        )
        return np.concatenate(columns, axis=-1, dtype=np.float32)

    def _trial_tensors(self, rows: Floats, mask: Bools) -> TrialTensors:
        """Stored trials as encoder and decoders see them, on the device."""
        observations, actions, rewards, over, after = np.split(rows, np.cumsum(self._columns)[:-1], axis=-1)
        told = self._feedback.along(actions, rewards[..., 0], over[..., 0])
        arrays = (
            self._encoder_inputs(observations, told),
            self._seen(observations),
            self._actions.to_features(actions),
            self._seen(after),
            rewards,
            mask,
        )
        return TrialTensors(*(send(a, self._device, torch.float32) for a in arrays))

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's states, running statistics and the buffer."""
        return self.learned() | self._replay.tensors("buffer")

    def learned(self) -> dict[str, Tensor]:
        """Those of `tensors` that learning changes: all but the experience that is kept."""
        return {
            **self._learner.tensors(),
            **{f"vae.{name}": p.detach().cpu().clone() for name, p in self._vae.named_parameters()},
            **self._vae_adam.tensors("vae_adam"),
            **self._observation_moments.tensors("observation_moments"),
            **self._belief_moments.tensors("belief_moments"),
            **self._return_moments.tensors("return_moments"),
        }

    def counters(self) -> dict[str, Any]:
        """The generators of the minibatches and of the training of encoder and decoders."""
        return {**self._learner.counters(), "vae_generator": self._vae_rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` and `counters` gave.

        Raises:
            ValueError: Names, shapes or generators do not fit this agent.
        """
        buffer = {name for name in tensors if name.startswith("buffer.")}
        check_tensors("varibad", {k: t for k, t in tensors.items() if k not in buffer}, self.learned())
        self._replay.check("buffer", tensors)
        generator = counters.get("vae_generator", {})
        try:
            self._vae_rng.bit_generator.state = generator
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"checkpoint of varibad: got generator {generator!r}, expected a PCG64 state") from error
        self._learner.restore(tensors, counters)
        with torch.no_grad():
            for name, parameter in self._vae.named_parameters():
                parameter.copy_(tensors[f"vae.{name}"])
        self._vae_adam.restore("vae_adam", tensors)
        self._observation_moments.restore("observation_moments", tensors)
        self._belief_moments.restore("belief_moments", tensors)
        self._return_moments.restore("return_moments", tensors)
        self._replay.restore("buffer", tensors)

    def save_policy(self, state: Memory, path: str | Path, task: int = 0) -> None:
        """Writes encoder, policy and the memories of one task's rows (`memory` `[1, E, H]`, `feedback` `[E, F]`)."""
        m, e = state.rows
        check_task(task, m)
        cell = state.cell.reshape(1, m, e, -1)[:, task]
        tensors = {f"network.{name}": t.detach() for name, t in self._network.named_parameters()}
        tensors |= {f"encoder.{name}": t.detach() for name, t in self._vae.encoder.named_parameters()}
        tensors |= {"memory": cell.clone(), "feedback": torch.tensor(state.feedback[task])}
        if self.config.normalise_observations:
            tensors |= self._observation_moments.exported("observation")
        if self.config.normalise_belief:
            tensors |= self._belief_moments.exported("belief")
        description = {
            "agent": "varibad",
            "encoder_inputs": "observation, previous action, previous reward, previous done",
            "inputs": "observation, mean and log-variance of the belief",
            "activation": self.config.activation,
            "encoder_activation": "relu",
            "reward_input_scale": self.config.reward_input_scale,
            "normalise_observations": self.config.normalise_observations,
            "normalise_belief": self.config.normalise_belief,
            "normalisation": NORMALISATION,
            **self._network.policy.description(),
            **self._actions.description(),
        }
        write_tensors(path, tensors | self._actions.tensors(), description)
