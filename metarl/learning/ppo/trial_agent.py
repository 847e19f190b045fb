"""Agents with a memory that spans a trial, trained by PPO: everything except the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.device.gpu import send
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.feedback import Feedback
from metarl.learning.experience.normalisation import NORMALISATION, Normaliser
from metarl.learning.experience.trials import Trials, pack_trials
from metarl.learning.networks.cells.base import MemoryT, mapped
from metarl.learning.networks.distributions import Distribution, sample_with_log_prob
from metarl.learning.networks.sequence import SequenceNetwork, memories_after_episodes, unroll
from metarl.learning.ppo.agent import PpoAgent
from metarl.learning.ppo.learner import PpoSamples
from metarl.learning.ppo.trials import TrialSettings, trial_ends, trial_returns, trial_samples
from metarl.storage import write_tensors
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True)
class Memory(Generic[MemoryT]):
    """The state of an agent with a memory.

    Args:
        content: The network's memory of `M * E` rows, task-major.
        feedback: Inputs about the last step before the next episode, `[M, E, F]`; zeros at the start of a trial.
        before: The content before the current episode, at the time of `feedback`; None if equal to `content`.
    """

    content: MemoryT
    feedback: Floats
    before: MemoryT | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """`(M, E)`."""
        m, e, _ = self.feedback.shape
        return m, e

    def tasks(self, part: slice) -> Memory[MemoryT]:
        """The state of some of the tasks, in order."""
        m, e = self.rows

        def cut(tensor: Tensor) -> Tensor:  # a copy: a view would hold the whole batch
            return tensor.view(m, e, *tensor.shape[1:])[part].flatten(0, 1).clone()

        before = None if self.before is None else mapped(cut, self.before)
        return Memory(mapped(cut, self.content), self.feedback[part].copy(), before)

    @classmethod
    def join(cls, parts: Sequence[Memory[MemoryT]]) -> Memory[MemoryT]:
        """The state of all tasks of the parts, in order."""

        def joined(contents: list[MemoryT]) -> MemoryT:
            return mapped(lambda *tensors: torch.cat(tensors), *contents)

        before = [part.content if part.before is None else part.before for part in parts]
        feedback = np.concatenate([part.feedback for part in parts])
        return cls(joined([part.content for part in parts]), feedback, joined(before))


def input_size(spaces: Spaces) -> int:
    """`I`, inputs of the network: the observation, and action, reward and end of the previous step."""
    return spaces.observation_size + spaces.policy_outputs + 2


class TrialAgent(PpoAgent[Memory[MemoryT]], Generic[MemoryT]):
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
    adapts_within_episodes: ClassVar[bool] = True
    acts_with: ClassVar[tuple[str, ...]] = (*PpoAgent.acts_with, "network", "_feedback", "_observation_moments")
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
        self.network = network.to(device)
        self._observation_moments = Normaliser(
            spaces.observation_size, config.deviation_floor, spaces.observation_units
        )
        learned, statistics = network if learns is None else learns, {"observation_moments": self._observation_moments}
        super().__init__(name, config, spaces, learned, statistics, device=device, rng=rng, forward=self._forward)
        self._feedback = Feedback(self._actions, config.reward_input_scale)

    @property
    def adaptation_steps(self) -> int:
        """`K`: one fewer than the episodes of a trial."""
        return self.config.episodes_per_trial - 1

    # Acting ---------------------------------------------------------------------------------------------

    def begin(self, tasks: Sequence[Task], episodes: int) -> Memory[MemoryT]:
        """A fresh memory in every row: a new trial."""
        content = self.network.fresh_memory(len(tasks) * episodes)
        return Memory(content, self._feedback.at_the_start(len(tasks), episodes), content)

    @torch.inference_mode()
    def act(
        self, state: Memory[MemoryT], step: Step, rng: np.random.Generator, mode: bool = False
    ) -> tuple[Action, Memory[MemoryT]]:
        """Updates the memory by observation and feedback, and samples; rows that are not live keep their memory."""
        check_step(step, self.spaces, *state.rows)
        m, e, _ = step.observation.shape
        x = self._inputs(step.observation, self._feedback.while_acting(step, state.feedback))
        distribution, values, content = self.network.step(x.view(m * e, -1), state.content)
        if not step.live.all():
            content = self.network.keep(send(step.live.reshape(-1), self._device), content, state.content)
        output, log_probs = sample_with_log_prob(distribution, rng, mode)  # [N, A], [N]
        recorded = {name: t.cpu().numpy() for name, t in {"value": values, **self._recorded(content)}.items()}
        recorded |= {"policy_output": output, "log_prob": log_probs}
        extras = {name: array.reshape(m, e, *self.recorded[name]) for name, array in recorded.items()}
        return Action(self._actions.to_environment(extras["policy_output"]), extras), replace(state, content=content)

    def adapt(self, state: Memory[MemoryT], trajectories: Trajectories) -> Memory[MemoryT]:
        """Keeps the memory, and carries the last step's action, reward and end over to the next episode.

        After a single episode the memory is up to date. If several were played without `adapt` in between, the network
        has not observed their ends: they pass through it again, from the memory before them.
        """
        episodes = trajectories.cut_episodes(check_episodes(trajectories, self.spaces, *state.rows))
        content = state.content
        if len(episodes) > 1:
            trials = pack_trials(episodes)
            feedback = self._feedback.along(trials.actions, trials.rewards, trials.over)
            feedback[:, 0] = state.feedback.reshape(len(feedback), -1)
            before = content if state.before is None else state.before
            with torch.no_grad():
                x = self._inputs(trials.observations, feedback)
                content = self.network.memory_after(x, before, torch.tensor(trials.mask.sum(axis=1)))
        return Memory(content, self._feedback.at_the_end(episodes[-1]), content)

    def _recorded(self, content: MemoryT) -> Mapping[str, Tensor]:
        """Further extras to record, each `[M * E, ...]`, from the memory after a step; `recorded` declares them."""
        return {}

    def _seen(self, observations: Floats) -> Floats:
        """Observations as the network sees them."""
        return self._observation_moments.normalise(observations) if self.config.normalise_observations else observations

    def _inputs(self, observations: Floats, feedback: Floats) -> Tensor:
        """Inputs of the network, `[..., I]`, on the device."""
        x = np.concatenate([self._seen(observations), feedback], axis=-1, dtype=np.float32)
        return send(x, self._device)

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
        final_values = None if config.finite_trials else self._final_values(trials)
        ends = trial_ends(trials, config.episodes_cut_returns)
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

    def save_policy(self, state: Memory[MemoryT], path: str | Path, task: int = 0) -> None:
        """Writes network, memory and feedback `[E, F]` of one task's rows, and a description."""
        check_task(task, len(state.feedback))
        one = state.tasks(slice(task, task + 1))
        tensors = self.network.exported_parameters() | self.network.exported_memory(one.content)
        tensors |= {"feedback": torch.tensor(one.feedback[0]), **self._actions.tensors(), **self._exported_statistics()}
        description = {"format": 1, "agent": self._name, **self._description(), **self.network.policy.description()}
        write_tensors(path, tensors, description | self._actions.description())

    def _exported_statistics(self) -> dict[str, Tensor]:
        """Means and deviations of the normalised inputs."""
        return self._observation_moments.exported("observation") if self.config.normalise_observations else {}

    def _description(self) -> dict[str, Any]:
        """Inputs and network in the description of an exported policy."""
        return {
            "inputs": "observation, previous action, previous reward, previous done",
            "reward_input_scale": self.config.reward_input_scale,
            "normalise_observations": self.config.normalise_observations,
            "normalisation": NORMALISATION,
        }
