"""Recurrent SAC: off-policy RL2, a recurrent policy and recurrent critics trained by soft actor-critic on whole trials.

Ni, Eysenbach and Salakhutdinov 2022, "Recurrent Model-Free RL Can Be a Strong Baseline for Many POMDPs"
(arXiv:2110.05038), applied to trials as in RL2 (Duan et al. 2016, arXiv:1611.02779), on soft actor-critic
(`metarl.learning.networks.soft_actor_critic`). The page `docs/recurrent-sac.md` has the equations and every detail that
changes a result.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import Count, Layers, NonNegative, Positive, Rows, UnitInterval, Units, Whole
from metarl.learning.device.gpu import ReplayedStep, send, standard_normal
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.columns import Columns
from metarl.learning.experience.normalisation import DEVIATION_FLOOR
from metarl.learning.experience.trial_replay import TrialReplay
from metarl.learning.experience.trials import Trials, pack_trials
from metarl.learning.networks import soft_actor_critic as sac
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import cell_size
from metarl.learning.networks.exported.traceable import EncodedPolicy, TwoOutputs, exported_mlp
from metarl.learning.networks.optimisers import Adam
from metarl.learning.networks.sequence import memories_after_episodes
from metarl.learning.networks.sequence_encoder import Embedding, SequenceEncoder
from metarl.learning.saving import BufferedLearner
from metarl.learning.trials.actor import TrialActor
from metarl.learning.trials.needs import buffer_need, memories_need, networks_need, trials_need
from metarl.learning.trials.settings import MemorySettings, trial_ends, trial_steps
from metarl.memory import FLOAT, Need, RunSize, dense_parameters
from metarl.types import Floats, MetaBatch, Spaces, Trajectories

METRICS = ("critic_loss", "policy_loss", "value", "entropy", "temperature")  # of a gradient step
FLAGS = ("over", "truncated")


@dataclass(frozen=True, kw_only=True)
class RecurrentSacConfig(CellSettings, MemorySettings):
    """Settings of recurrent SAC; the defaults are those of pomdp-baselines, the authors' code, for cheetah-vel."""

    observation_embedding: Units = 32
    """Units of the layer on the observation, before the cell."""
    action_embedding: Units = 16
    """Units of the layer on the previous action, before the cell."""
    reward_embedding: Units = 16
    """Units of the layer on the previous reward and the end of an episode, before the cell."""
    hidden: Layers = (128, 128, 128)
    """Units of each hidden layer after the cell, of the policy and of the two critics."""
    gradient_steps: Rows = 200
    """Gradient steps per iteration; usually 20 to 500."""
    batch_trials: Rows = 32
    """Trials per gradient step, drawn from the buffer; all of them if it holds fewer."""
    buffer_trials: Count = 2500
    """Capacity of the buffer, in trials; the oldest are overwritten."""
    warmup_iterations: Whole = 5
    """Iterations that only collect data before the first gradient step."""
    learning_rate: Positive = 3e-4
    """Step size of Adam for all networks and the temperature."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    reward_scale: Positive = 1.0
    """Factor on the rewards in the critics' targets, which weights reward against entropy; usually 1 to 100."""
    tau: UnitInterval = 0.005
    """Fraction by which the target critics and their encoder move to the critics after each gradient step."""
    temperature: Positive = 1.0
    """Weight of the entropy against the scaled reward; the initial value if the temperature is tuned."""
    tune_temperature: bool = True
    """Tune the temperature towards a policy entropy of minus the number of action components, in nats."""
    normalise_observations: bool = False
    """Normalise observations by running statistics, those of the buffer when they are read."""
    deviation_floor: NonNegative = DEVIATION_FLOOR
    """Lower bound of the deviations that normalisation divides by, relative to the largest of the same unit; 0 for
    none."""


class Minibatch(NamedTuple):
    """Data of one gradient step: `B` trials of up to `L` steps.

    Attributes:
        inputs: Inputs of the encoders, before each step and after the last, `[B, L + 1, I]`.
        actions: `[B, L, A]` in [-1, 1].
        rewards: `[B, L]`.
        done: 1 after a step that ends the return without bootstrapping, else 0, `[B, L]`.
        mask: 1 on the steps that happened, else 0, `[B, L]`.
        next_noise: Standard normal, for the actions after the steps, `[B, L, A]`.
        action_noise: Standard normal, for the actions of the policy's loss, `[B, L, A]`.
    """

    inputs: Tensor
    actions: Tensor
    rewards: Tensor
    done: Tensor
    mask: Tensor
    next_noise: Tensor
    action_noise: Tensor


class Following(NamedTuple):
    """Inputs of the value after each step.

    Attributes:
        policy: Features of the policy's encoder, `[B, L, H]`.
        critics: Features of the target critics' encoder, `[B, L, H]`.
        observations: `[B, L, O]`.
    """

    policy: Tensor
    critics: Tensor
    observations: Tensor


def heads(config: RecurrentSacConfig, spaces: Spaces) -> sac.ActorCritic:
    """Policy and critics on the features of their encoder and the observation, as functions of their parameters."""
    return sac.ActorCritic(config.units, spaces.action_size, config.hidden, context_size=spaces.observation_size)


def embeddings(config: RecurrentSacConfig, spaces: Spaces) -> tuple[Embedding, ...]:
    """The embeddings of an encoder, in the order of its inputs."""
    sizes = (spaces.observation_size, spaces.action_size, 2)
    units = (config.observation_embedding, config.action_embedding, config.reward_embedding)
    return tuple(Embedding(*one) for one in zip(sizes, units, strict=True))


class RecurrentSac(BufferedLearner, TrialActor[Any]):
    """Recurrent SAC as a `metarl.agent.MetaAgent`; its state is a `Memory`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Device of the networks.
        rng: Source of the initial parameters; the generator of the updates is spawned from it.

    Attributes:
        network: Encoder of the policy.
        encoders: Encoders of the policy ("actor"), of the critics ("critic"), and its slow copy ("target").
        actor_critic: Policy and critics.
        parameters: The current parameters of policy, critics and temperature, changed in place.
        optimiser: Adam of all of these but the slow copies.
        replay: Whole trials.
        rng: Generator of the updates.
        iteration: Meta-updates so far, warm-up included.

    Raises:
        ValueError: Actions are discrete or unbounded.
    """

    Config: ClassVar[type] = RecurrentSacConfig
    summary: ClassVar[str] = "RL2 off-policy, by soft actor-critic on whole trials (Ni et al. 2022)"
    acts_with: ClassVar[tuple[str, ...]] = (*TrialActor.acts_with, "actor_critic", "parameters")
    default_settings: ClassVar[Mapping[str, Any]] = {
        "tasks": 10,
        "episodes": 2,
        "normalise_observations": True,
        "units": 64,
        "hidden": (128, 128),
        "gradient_steps": 100,
        "batch_trials": 16,
        "learning_rate": 1e-3,
    }
    _squashed: ClassVar[bool] = True
    config: RecurrentSacConfig
    network: SequenceEncoder[Any]

    @classmethod
    def memory_needed(cls, config: RecurrentSacConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the networks, of whole trials, of the buffer, and of a gradient step."""
        parts, actor_critic, steps = embeddings(config, spaces), heads(config, spaces), trial_steps(config, spaces)
        cell = cell_size(config, sum(part.units for part in parts), steps)
        parameters = 3 * (cell.parameters + sum(dense_parameters(part) for part in parts))
        every = (actor_critic.policy_network, *[actor_critic.critic_networks] * 4)
        parameters += sum(dense_parameters(network.sizes) for network in every)
        trials = min(config.batch_trials, config.buffer_trials, size.iterations * size.tasks * size.episodes)
        drawn = trials * steps * (3 * config.units + 3 * sum(config.hidden))
        return [
            networks_need(parameters, size, "fewer --agent.units or smaller layers (--agent.hidden)"),
            buffer_need(spaces, size, config.episodes_per_trial, config.buffer_trials, len(FLAGS)),
            trials_need(spaces, size, config.episodes_per_trial, 0),
            memories_need(size, cell.memory),
            Need("the trials of a gradient step", 0 if size.gpu else FLOAT * drawn, "a smaller --agent.batch-trials"),
        ]

    def __init__(
        self, config: RecurrentSacConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        name, o = "recurrent-sac", spaces.observation_size
        actions = ActionMap.of_bounded(name, spaces)
        actor, critic = (
            SequenceEncoder[Any](embeddings(config, spaces), cell=config, steps=trial_steps(config, spaces), rng=rng)
            for _ in range(2)
        )
        target = copy.deepcopy(critic).requires_grad_(False)  # on a GPU its weights would lie apart
        for encoder in (actor, critic, target):
            encoder.to(device)
        super().__init__(name, config, spaces, actor, actions, device=device)
        self.encoders = {"actor": actor, "critic": critic, "target": target}
        self.recorded = {"policy_output": (spaces.action_size,)}
        self.actor_critic = heads(config, spaces)
        start = vars(self.actor_critic.initial(config.temperature, rng))
        p = self.parameters = sac.ActorCriticParameters(**{name: t.to(device) for name, t in start.items()})
        learned = [t.requires_grad_() for t in (p.policy, p.critics, p.log_temperature)]
        learned += [*actor.parameters(), *critic.parameters()]
        self.optimiser = Adam(learned, config.learning_rate, fused=True)
        columns = Columns(
            observations=o, actions=spaces.action_size, rewards=0, next_observations=o, **dict.fromkeys(FLAGS, 0)
        )
        self.replay: TrialReplay = TrialReplay(config.buffer_trials, trial_steps(config, spaces), columns)
        self.rng, self.iteration = rng.spawn(1)[0], 0
        self._replayed = ReplayedStep(self._step)

    def acting_part(self) -> RecurrentSac:
        """As `metarl.agent.Actor.acting_part`, with the policy as the only network."""
        part, none = cast(RecurrentSac, super().acting_part()), torch.empty(0)
        part.parameters = replace(self.parameters, critics=none, targets=none)
        return part

    def _choose(self, x: Tensor, memory: Any, rng: np.random.Generator, mode: bool) -> tuple[dict[str, Floats], Any]:
        """A sample of the policy, or tanh of its mean."""
        features, memory = self.network.step(x, memory)
        columns = (features, x[:, : self.spaces.observation_size])
        if x.is_cuda:
            mean, log_std = (t.cpu().numpy() for t in self.actor_critic.policy(self.parameters.policy, *columns))
        else:
            mean, log_std = self.actor_critic.policy_step(self.parameters.policy, *(c.numpy() for c in columns))
        if not mode:
            mean = mean + np.exp(log_std) * rng.standard_normal(mean.shape, dtype=np.float32)
        return {"policy_output": np.tanh(mean)}, memory

    # Training -------------------------------------------------------------------------------------------

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Stores the collected trials, then makes the gradient steps."""
        config, trials = self.config, pack_trials(batch.collects)
        self.replay.add(vars(trials), trials.mask)
        self.iteration += 1
        report = {"buffer/trials": float(self.replay.size)}
        if self.iteration > config.warmup_iterations:
            sums = torch.zeros(len(METRICS), dtype=torch.float32, device=self._device)
            for _ in range(config.gradient_steps):
                sums += self._gradient_step(*self.draw())
            means = (sums / config.gradient_steps).tolist()
            report |= {f"update/{name}": value for name, value in zip(METRICS, means, strict=True)}
        if config.normalise_observations:  # after the update, so that acting and learning see the same inputs
            self._observation_moments.update(trials.observations, trials.mask)
        return report

    def draw(self) -> tuple[Minibatch, Trials]:
        """Draws the data of one gradient step: as tensors, and the trials themselves."""
        columns, mask = self.replay.sample(self.config.batch_trials, self.rng)
        arrays = {name: column > 0.5 if name in FLAGS else column for name, column in columns.items()}
        trials = Trials(**cast(Any, arrays), mask=mask, extras={})
        ends = trial_ends(trials, self.config.episodes_cut_returns)
        done = ends if self.config.finite_trials else ends & ~trials.truncated
        actions = self._actions.to_features(trials.actions)
        tensors = (
            self._inputs(*self._feedback.with_bootstrap_step(trials)),
            *(send(a, self._device, torch.float32) for a in (actions, trials.rewards, done, mask)),
            *(standard_normal(self.rng, actions.shape, self._device) for _ in range(2)),
        )
        return Minibatch(*tensors), trials

    def _gradient_step(self, drawn: Minibatch, trials: Trials) -> Tensor:
        """One gradient step; returns the numbers of `METRICS`, `[5]`.

        On a GPU it is one launch, unless episodes cut returns: their ends are others in each step.
        """
        return self._step(*drawn, trials=trials) if self.config.episodes_cut_returns else self._replayed(*drawn)

    def _step(self, *tensors: Tensor, trials: Trials | None = None) -> Tensor:
        """One step of Adam on all losses, then of the targets; returns the numbers of `METRICS`, `[5]`.

        Args:
            tensors: The fields of the step's `Minibatch`.
            trials: The trials themselves, where episodes cut returns.
        """
        drawn = Minibatch(*tensors)
        config, p, actor_critic, mask = self.config, self.parameters, self.actor_critic, drawn.mask
        acting, valuing = (self._features(name, drawn.inputs) for name in ("actor", "critic"))
        observations = drawn.inputs[..., : self.spaces.observation_size]
        targets = self.targets(drawn, acting, trials)
        acting, valuing, observations = (t[:, :-1] for t in (acting, valuing, observations))
        values = actor_critic.critics(p.critics, valuing, drawn.actions, observations)
        critic_loss = sac.critic_loss(values, targets, mask)
        policy_loss, log_prob = sac.policy_loss(
            actor_critic, p, acting, drawn.action_noise, observations, critic_observations=valuing, mask=mask
        )
        loss = critic_loss + policy_loss  # of different parameters
        if config.tune_temperature:
            loss = loss + sac.temperature_loss(p.log_temperature, log_prob, -float(self.spaces.action_size), mask)
        torch.autograd.backward(loss)
        self.optimiser.step(clear=True)
        with torch.no_grad():
            p.targets.lerp_(p.critics, config.tau)
            slow, fast = ([*map(torch.Tensor.detach, self.encoders[n].parameters())] for n in ("target", "critic"))
            torch._foreach_lerp_(slow, fast, config.tau)
            means = (sac.mean(values.mean(dim=0), mask), -sac.mean(log_prob, mask))
            return torch.stack((critic_loss, policy_loss, *means, p.log_temperature.exp().squeeze()))

    @torch.no_grad()
    def targets(self, drawn: Minibatch, acting: Tensor, trials: Trials | None = None) -> Tensor:
        """Targets of the critics, `[B, L]`, without a graph.

        Args:
            drawn: The data of the gradient step.
            acting: Features of the policy's encoder, `[B, L + 1, H]`.
            trials: The trials themselves, where episodes cut returns.
        """
        config, observations = self.config, drawn.inputs[..., : self.spaces.observation_size]
        after = Following(*(t[:, 1:] for t in (acting, self._features("target", drawn.inputs), observations)))
        if config.episodes_cut_returns:
            assert trials is not None
            after = self._at_the_ends(trials, drawn.inputs, after)
        next_values = sac.soft_values(
            self.actor_critic,
            self.parameters,
            after.policy,
            drawn.next_noise,
            after.observations,
            critic_observations=after.critics,
        )
        return sac.critic_targets(config.reward_scale * drawn.rewards, drawn.done, next_values, config.gamma)

    def _features(self, name: str, inputs: Tensor) -> Tensor:
        """The features of an encoder at each step of whole trials, `[B, L + 1, H]`."""
        encoder = self.encoders[name]
        features: Tensor = encoder(inputs, encoder.fresh_memory(len(inputs)))[0]
        return features

    def _at_the_ends(self, trials: Trials, inputs: Tensor, after: Following) -> Following:
        """Continues each episode by a step of its own at its end, as if no time limit had ended it."""
        where = tuple(torch.tensor(index, device=self._device) for index in np.nonzero(trials.over))
        x = self._inputs(*self._feedback.bootstrap_steps(trials, trials.over))  # [C, I]
        ends = [x[:, : self.spaces.observation_size]]
        for name in ("target", "actor"):
            encoder = self.encoders[name]
            memories = memories_after_episodes(encoder, inputs[:, :-1], trials.over)
            ends.insert(0, encoder(x.unsqueeze(1), memories)[0][:, 0])
        return Following(*(t.index_put(where, e) for t, e in zip(after, ends, strict=True)))

    # Saving ---------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and running statistics."""
        saved = {name: t.detach().cpu().clone() for name, t in self._named_parameters().items()}
        return saved | self.optimiser.tensors("adam") | self._observation_moments.tensors("observation_moments")

    def _restore_learned(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._named_parameters().items():
                parameter.copy_(tensors[name])
        self.optimiser.restore("adam", tensors)
        self._observation_moments.restore("observation_moments", tensors)

    def _named_parameters(self) -> dict[str, Tensor]:
        """All parameters by their names in the checkpoint."""
        encoders = {f"encoders.{name}.{n}": t for name, e in self.encoders.items() for n, t in e.named_parameters()}
        return {**vars(self.parameters), **encoders}

    def _exported_parameters(self) -> dict[str, Tensor]:
        """The policy, and its encoder as `encoder.NAME`."""
        policy, _ = self.actor_critic.export(self.parameters.policy)
        return policy | {f"encoder.{name}": t.detach() for name, t in self.network.named_parameters()}

    def _traceable(self) -> nn.Module:
        policy, about = self.actor_critic.export(self.parameters.policy)
        head = TwoOutputs(exported_mlp(policy, about["activation"]), about["log_std_range"])
        return EncodedPolicy(self.network, head, self.spaces.observation_size)

    def _output_description(self) -> dict[str, Any]:
        """The policy's distribution and its actions."""
        return self._actions.description() | self.actor_critic.export(self.parameters.policy)[1]

    def _description(self) -> dict[str, Any]:
        about = super()._description()
        inputs = {"encoder_inputs": about.pop("inputs"), "inputs": "features of the encoder, observation"}
        return {**inputs, "encoder_activation": "relu", **self.config.description(), **about}
