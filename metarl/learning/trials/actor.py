"""Agents with a memory that spans a trial: how they act, adapt and are exported, whoever trains them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from metarl.agent import MetaAgent
from metarl.learning.device.gpu import send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.feedback import Feedback
from metarl.learning.experience.normalisation import NORMALISATION, Normaliser
from metarl.learning.experience.trials import pack_trials
from metarl.learning.networks.cells.base import MemoryT, Remembering, mapped
from metarl.learning.networks.exported.step import Actions, PolicyStep
from metarl.learning.networks.exported.traceable import TrialStep, traceable
from metarl.storage import write_tensors
from metarl.types import Action, Floats, Spaces, Step, Task, Trajectories


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


class ActorSettings(Protocol):
    """The settings that acting and adapting read."""

    @property
    def episodes_per_trial(self) -> int:
        """`K + 1`."""

    @property
    def reward_input_scale(self) -> float:
        """Factor on the previous reward as an input."""

    @property
    def normalise_observations(self) -> bool:
        """Whether observations are normalised by running statistics."""

    @property
    def deviation_floor(self) -> float:
        """Lower bound of the deviations that normalisation divides by."""


class TrialActor(MetaAgent[Memory[MemoryT]], Generic[MemoryT]):
    """The part of an agent with a memory that does not depend on its training; its state is a `Memory`.

    A subclass chooses the actions (`_choose`), and describes them in an exported file (`_exported_parameters`,
    `_output_description`).

    Args:
        name: Name of the agent, for messages and exported files.
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        network: The network that acts, with `input_size(spaces)` inputs, observation first.
        actions: Map from its outputs to actions.
        device: Device of the network.

    Attributes:
        network: The network.
    """

    config: Any
    _squashed: ClassVar[bool] = False
    """Whether outputs of the policy pass through a tanh after the noise."""
    adapts_within_episodes: ClassVar[bool] = True
    acts_with: ClassVar[tuple[str, ...]] = (
        "config",
        "spaces",
        "recorded",
        "_device",
        "_actions",
        "network",
        "_feedback",
        "_observation_moments",
    )

    def __init__(
        self,
        name: str,
        config: ActorSettings,
        spaces: Spaces,
        network: Remembering[MemoryT],
        actions: ActionMap,
        *,
        device: torch.device,
    ) -> None:
        self.config, self.spaces, self._name, self._device = config, spaces, name, device
        self.network: Any = network.to(device)
        self._actions, self._feedback = actions, Feedback(actions, config.reward_input_scale)
        self._observation_moments = Normaliser(
            spaces.observation_size, config.deviation_floor, spaces.observation_units
        )

    @property
    def adaptation_steps(self) -> int:
        """`K`: one fewer than the episodes of a trial."""
        steps: int = self.config.episodes_per_trial - 1
        return steps

    def episodes_per_adaptation(self, episodes: int) -> int:
        """1: the environments of a task are independent."""
        return 1

    @abstractmethod
    def _choose(
        self, x: Tensor, memory: MemoryT, rng: np.random.Generator, mode: bool
    ) -> tuple[dict[str, Floats], MemoryT]:
        """Chooses the outputs of the policy for a step.

        Args:
            x: Inputs of the network, `[N, I]`.
            memory: Memory of the `N` rows.
            rng: Source of the noise.
            mode: Take the mode instead of a sample.

        Returns:
            The extras that `recorded` declares, each `[N, ...]`, and the memory after the step.
        """

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
        recorded, content = self._choose(x.view(m * e, -1), state.content, rng, mode)
        if not step.live.all():
            content = self.network.keep(send(step.live.reshape(-1), self._device), content, state.content)
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

    def _seen(self, observations: Floats) -> Floats:
        """Observations as the network sees them."""
        return self._observation_moments.normalise(observations) if self.config.normalise_observations else observations

    def _inputs(self, observations: Floats, feedback: Floats) -> Tensor:
        """Inputs of the network, `[..., I]`, on the device."""
        x = np.concatenate([self._seen(observations), feedback], axis=-1, dtype=np.float32)
        return send(x, self._device)

    # Saving ---------------------------------------------------------------------------------------------

    def save_policy(self, state: Memory[MemoryT], path: str | Path, task: int = 0) -> None:
        """Writes network, memory and feedback `[E, F]` of one task's rows, and a description."""
        check_task(task, len(state.feedback))
        one = state.tasks(slice(task, task + 1))
        tensors = self._exported_parameters() | self.network.exported_memory(one.content)
        tensors |= {"feedback": torch.tensor(one.feedback[0]), **self._actions.tensors(), **self._exported_statistics()}
        description = {"format": 1, "agent": self._name, **self._description(), **self._output_description()}
        write_tensors(path, tensors, description)

    def policy_step(self, state: Memory[MemoryT], task: int = 0, *, sampled: bool = False) -> PolicyStep:
        """One step from a fresh memory, the same for every task; see `metarl.agent.MetaAgent`."""
        statistics = self._observation_moments.exported("observation") if self.config.normalise_observations else {}
        return TrialStep(
            self.spaces.observation_size,
            Actions(self._actions.tensors(), self._actions.description()),
            self._traceable(),
            statistics,
            self.config.reward_input_scale,
            sampled=sampled,
            squashed=self._squashed,
        )

    def _traceable(self) -> nn.Module:
        """The network as a traceable module: policy, values and memory for inputs `[1, 1, I]` and a memory."""
        return traceable(self.network)

    @abstractmethod
    def _exported_parameters(self) -> dict[str, Tensor]:
        """The parameters of an exported policy, by name."""

    @abstractmethod
    def _output_description(self) -> dict[str, Any]:
        """The policy's output in the description of an exported policy."""

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
