"""RL2: a recurrent policy that carries its memory through the episodes of a trial and so learns to learn.

Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning" (arXiv:1611.02779), and Wang
et al. 2016, "Learning to reinforcement learn" (arXiv:1611.05763), trained by PPO (Schulman et al. 2017,
arXiv:1707.06347). The page `docs/rl2.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.config import Layers, RowsOrOwn, Units
from metarl.learning.device.gpu import send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.feedback import Feedback
from metarl.learning.experience.normalisation import NORMALISATION, Normaliser, ReturnScale
from metarl.learning.experience.trials import Trials, pack_trials, step_after
from metarl.learning.networks.cells import GATES, Cell
from metarl.learning.networks.distributions import sample
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.recurrent import (
    RecurrentActorCritic,
    in_segments,
    memories_after_episodes,
    memories_before_segments,
    unroll,
)
from metarl.learning.ppo.learner import Forward, PpoLearner, PpoSamples
from metarl.learning.ppo.trials import Memory, TrialSettings, trial_ends, trial_returns, trial_samples
from metarl.learning.ppo.whole_trials import after_episodes, trials_memory
from metarl.learning.saving import check_tensors
from metarl.memory import FLOAT, LEARNED, Need, RunSize, dense_parameters, recurrent_parameters
from metarl.storage import write_tensors
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class Rl2Config(TrialSettings):
    """Settings of RL2."""

    cell: Cell = "gru"
    """Kind of recurrent cell."""
    units: Units = 128
    """Size of the memory; usually 64 to 256."""
    encoder: Layers = (64,)
    """Units of each layer before the cell; there may be none."""
    hidden: Layers = ()
    """Units of each layer after the cell, of policy and value each, which see the cell's input too; usually none, as
    published, or one of 64 to 128."""
    activation: Activation = "tanh"
    """After each of these layers."""
    backpropagation_steps: RowsOrOwn = 0
    """Steps that gradients flow back through (truncated back-propagation through time); 0 for the whole trial."""
    segment_steps: RowsOrOwn = 0
    """Learn from segments of so many steps in place of whole trials, side by side and therefore faster where trials are
    long; each starts from the memory that its trial had there before the update. 0 for whole trials."""


class Rl2(MetaAgent[Memory]):
    """RL2 as a `metarl.agent.MetaAgent`; its state is a `Memory`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the policy and its training run.
        rng: Source of the initial parameters and of the minibatches.
    """

    Config: ClassVar[type] = Rl2Config
    summary: ClassVar[str] = "a recurrent policy whose memory spans the episodes of a task (Duan et al. 2016)"
    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 4, "normalise_observations": True}
    adapts_within_episodes: ClassVar[bool] = True

    @classmethod
    def memory_needed(cls, config: Rl2Config, spaces: Spaces, size: RunSize) -> list[Need]:
        """The parts of a training that can be large: the network, and whole trials.

        Args:
            config: The settings.
            spaces: Sizes and horizon.
            size: Of the training.
        """
        inputs = (spaces.observation_size + spaces.policy_outputs + 2, *config.encoder)
        parameters = dense_parameters(inputs) + recurrent_parameters(inputs[-1], config.units, GATES[config.cell])
        for outputs in (spaces.policy_outputs, 1):
            parameters += dense_parameters((config.units, *config.hidden, outputs))
        return [
            Need(
                f"a network of {parameters:,} parameters",
                FLOAT * parameters if size.gpu else FLOAT * LEARNED * parameters,
                "fewer --agent.units or smaller layers (--agent.encoder, --agent.hidden)",
            ),
            trials_memory(spaces, size, config.episodes_per_trial, config.units // config.minibatches),
        ]

    def __init__(self, config: Rl2Config, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        self.config, self.spaces, self._device = config, spaces, device
        self.recorded = {"policy_output": (spaces.action_size,), "log_prob": (), "value": ()}
        self._actions = ActionMap(spaces, config.action_scale)
        self._feedback = Feedback(self._actions, config.reward_input_scale)
        self._network = RecurrentActorCritic(
            spaces.observation_size + self._feedback.size,
            spaces,
            encoder=config.encoder,
            activation=config.activation,
            cell=config.cell,
            units=config.units,
            hidden=config.hidden,
            policy=config,
            rng=rng,
        ).to(device)
        self._learner = PpoLearner(self._network, config, rng)
        self._observation_moments = Normaliser(
            spaces.observation_size, config.deviation_floor, spaces.observation_units
        )
        self._return_moments = ReturnScale(config.deviation_floor)

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
        cell = self._network.fresh_memory(len(tasks) * episodes)
        return Memory(cell, self._feedback.at_the_start(len(tasks), episodes), cell)

    def act(self, state: Memory, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Memory]:
        """Takes in observation and feedback, and samples; rows whose episode is over keep their memory."""
        check_step(step, self.spaces, *state.rows)
        m, e, _ = step.observation.shape
        told = self._feedback.while_acting(step, state.feedback)
        x = send(self._inputs(step.observation, told), self._device)
        live = send(step.live.reshape(1, m * e, 1), self._device)
        with torch.no_grad():
            distribution, values, cell = self._network(x.reshape(m * e, 1, -1), state.cell)
            output = sample(distribution, rng, mode)  # [N, 1, A]
            log_probs = distribution.log_prob(send(output, self._device))
            memory = replace(state, cell=torch.where(live, cell, state.cell))
        output = output.reshape(m, e, -1)
        extras = {
            "policy_output": output,
            "log_prob": log_probs.cpu().numpy().reshape(m, e),
            "value": values.cpu().numpy().reshape(m, e),
        }
        return Action(self._actions.to_environment(output), extras), memory

    def adapt(self, state: Memory, trajectories: Trajectories) -> Memory:
        """Keeps the memory, and carries the last action, its reward and the end of the episode over to the next."""
        parts = trajectories.cut_episodes(check_episodes(trajectories, self.spaces, *state.rows))
        return after_episodes(self._network, self._feedback, self._inputs, state, parts)

    def _inputs(self, observations: Floats, feedback: Floats) -> Floats:
        """Inputs of the network, `[..., O + F]`."""
        if self.config.normalise_observations:
            observations = self._observation_moments.normalise(observations)
        return np.concatenate([observations, feedback], axis=-1, dtype=np.float32)

    # Training -------------------------------------------------------------------------------------------

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """PPO over whole trials."""
        config, trials = self.config, pack_trials(batch.collects)
        ends = trial_ends(trials, config.episodes_cut_returns)
        if config.normalise_rewards:
            returns = trial_returns(trials.rewards.astype(np.float64), ends, config.gamma)
            self._return_moments.update(returns[..., None], trials.mask)
        samples, forward = self._to_learn_from(self._samples(trials), self._trial_inputs(trials))
        report = self._learner.update(samples, forward, batch.progress)
        if config.normalise_observations:  # after the update, so that acting and learning see the same inputs
            self._observation_moments.update(trials.observations, trials.mask)
        return report | {"policy/std": self._network.policy.std(report["update/entropy"])}

    def _to_learn_from(self, samples: PpoSamples, x: Tensor) -> tuple[PpoSamples, Forward]:
        """Samples of whole trials or of segments `[B, L, ...]`, and how their rows pass through the network."""
        network, span = self._network, self.config.segment_steps
        if not span:
            return samples, lambda rows: unroll(network, x[rows], self.config.backpropagation_steps)
        memories = memories_before_segments(network, x, span)
        happened = in_segments(samples.mask, span).any(dim=1).nonzero().squeeze(1)
        starts, inputs = memories[:, happened], in_segments(x, span)[happened]
        samples = PpoSamples(*(in_segments(t, span)[happened] for t in samples))
        return samples, lambda rows: network(inputs[rows], starts[:, rows].contiguous())[:2]

    def _trial_inputs(self, trials: Trials) -> Tensor:
        """What the network was shown at each step of the trials, `[B, L, I]`."""
        told = self._feedback.along(trials.actions, trials.rewards, trials.over)
        return send(self._inputs(trials.observations, told), self._device)

    def _samples(self, trials: Trials) -> PpoSamples:
        """What PPO learns from, `[B, L, ...]`, on the device."""
        scale = self._return_moments.scale if self.config.normalise_rewards else 1.0
        ends = trial_ends(trials, self.config.episodes_cut_returns)
        final_values = None if self.config.finite_trials else self._final_values(trials)
        return trial_samples(trials, ends, scale, self.config, self._device, final_values)

    def _final_values(self, trials: Trials) -> Floats:
        """Values of the observation after the last step of each return, `[B]`; of episodes, `[B * (K + 1)]`."""
        if self.config.episodes_cut_returns:
            memories = memories_after_episodes(self._network, self._trial_inputs(trials), trials.over)
            x = send(self._inputs(*self._feedback.going_on(trials, trials.over)), self._device)
            with torch.no_grad():
                _, values, _ = self._network(x.unsqueeze(1), memories)
            return values.squeeze(1).cpu().numpy().astype(np.float64)
        x = send(self._inputs(*self._feedback.beyond(trials)), self._device)
        with torch.no_grad():
            _, values = unroll(self._network, x)
        return step_after(values, trials.mask).cpu().numpy().astype(np.float64)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and running statistics."""
        return {
            **self._learner.tensors(),
            **self._observation_moments.tensors("observation_moments"),
            **self._return_moments.tensors("return_moments"),
        }

    def counters(self) -> dict[str, Any]:
        """The generator of the minibatches."""
        return self._learner.counters()

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` and `counters` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        check_tensors("rl2", tensors, self.tensors())
        self._learner.restore(tensors, counters)
        self._observation_moments.restore("observation_moments", tensors)
        self._return_moments.restore("return_moments", tensors)

    def save_policy(self, state: Memory, path: str | Path, task: int = 0) -> None:
        """Writes the network and the memories of one task's rows (`memory` `[S, E, H]`, `feedback` `[E, F]`)."""
        m, e = state.rows
        check_task(task, m)
        cell = state.cell.reshape(len(state.cell), m, e, -1)[:, task]
        tensors = {f"network.{name}": t.detach() for name, t in self._network.named_parameters()}
        tensors |= {"memory": cell.clone(), "feedback": torch.tensor(state.feedback[task])}
        if self.config.normalise_observations:
            tensors |= self._observation_moments.exported("observation")
        description = {
            "agent": "rl2",
            "inputs": "observation, previous action, previous reward, previous done",
            "cell": self.config.cell,
            "activation": self.config.activation,
            "reward_input_scale": self.config.reward_input_scale,
            "normalise_observations": self.config.normalise_observations,
            "normalisation": NORMALISATION,
            **self._network.policy.description(),
            **self._actions.description(),
        }
        write_tensors(path, tensors | self._actions.tensors(), description)
