"""Interfaces: an `Actor` acts and adapts, a `MetaAgent` also learns, and a `State` is the agent's state in a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
import torch

from metarl.types import Action, MetaBatch, Spaces, Step, Task

StateT = TypeVar("StateT")


class State(Protocol):
    """State of an agent within a trial (adapted parameters, a memory, a posterior); never changed in place.

    It can be cut and joined along the tasks, so that workers can share a batch.
    """

    def tasks(self, part: slice) -> Self:
        """The state of some of the `M` tasks, in order: copies, since products may depend on an array's alignment."""
        ...

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The state of all tasks of the parts, in order; the inverse of `tasks`."""
        ...


class Actor(Protocol[StateT]):
    """Acts and adapts: the part of an agent that a worker needs, without the learner.

    Subclasses inherit the defaults below.

    Attributes:
        spaces: Sizes and action bounds of the environments.
        recorded: The extras of each action, with the sizes of their axes after `[M, E]`; `()` for a single number.
        acting_threads: Torch threads while acting; 1, unless acting involves planning.
        acts_with: Names of the attributes that `act` reads; see `acting_part`. Empty for all.
        adapts_within_episodes: Whether the state adapts during an episode (a memory). The first episode then does not
            show the policy before adaptation.
    """

    spaces: Spaces
    recorded: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    acting_threads: int = 1
    acts_with: ClassVar[tuple[str, ...]] = ()
    adapts_within_episodes: ClassVar[bool] = False

    def acting_part(self) -> Actor[StateT]:
        """A copy for worker processes, without learner, replay and optimisers: it can only act.

        It shares its attributes with this actor, and is pickled before the next update.
        """
        if not self.acts_with:
            return self
        part = object.__new__(type(self))
        vars(part).update({name: getattr(self, name) for name in self.acts_with})
        return part

    @property
    def adaptation_steps(self) -> int:
        """`K`, number of calls of `adapt` in a trial, each after a collect."""
        ...

    def episodes_per_adaptation(self, episodes: int) -> int:
        """Adaptation episodes that one `adapt` consumes.

        Args:
            episodes: `E`.

        Returns:
            `E` if the episodes of a task are pooled (gradient agents), 1 if they are independent trials.
        """
        ...

    def begin(self, tasks: Sequence[Task], episodes: int) -> StateT:
        """The state before adaptation.

        Args:
            tasks: The `M` tasks, as identities (PEARL keys its replay by them). Only an oracle may read their
                parameters, those that `spaces.task_parameters` lists.
            episodes: `E`, environments per task.
        """
        ...

    def act(self, state: StateT, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, StateT]:
        """Chooses actions for all rows.

        Args:
            state: The current state.
            step: Observations, and the previous actions and rewards.
            rng: Source of the noise.
            mode: Take the mode of the policy's distribution instead of a sample.

        Returns:
            The actions, and the state after acting.
        """
        ...

    def adapt(self, state: StateT, trajectories: Any) -> StateT:
        """The state after adapting to one episode per environment of each task.

        Args:
            state: The state after acting.
            trajectories: The experience of a collect: `Trajectories` (joined episodes count in order), or another type
                that the sampler collects.
        """
        ...


class MetaAgent(Actor[StateT], Protocol[StateT]):
    """An actor that also learns from the experience of an iteration.

    An implementation inherits from this class. It has a frozen dataclass `Config` and, unless it overrides `build`, the
    constructor `(config, spaces, *, device, rng)`. Register it under the entry-point group `metarl.agents`, or name it
    as `module:Class`. Four optional members: `default_settings`, a mapping of settings for families without a preset;
    `memory_needed(config, spaces, size)`, a class method that lists the large arrays of a training
    (`metarl.memory.Need`); `check_distribution(config, distribution, size)`, a class method that raises ValueError
    if the agent cannot learn these tasks; and `policy_step(state, task=0, *, sampled=False)`, which returns one step of
    its policy as a traceable module (`metarl.learning.networks.exported.step.PolicyStep`) for `metarl export`: the
    policy of one task of an adapted state, or one that adapts by its memory and reads no state.

    Attributes:
        Config: The agent's settings.
        summary: One line for `metarl list`.
        config: The settings in use.
    """

    Config: ClassVar[type]
    summary: ClassVar[str]
    config: Any

    @classmethod
    def build(cls, config: Any, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> Self:
        """Creates an untrained agent.

        Args:
            config: An instance of its `Config`.
            spaces: Sizes and action bounds of the environments.
            device: Device of networks and updates.
            rng: Source of the initial parameters and of the updates' random numbers.

        Raises:
            ValueError: The agent cannot be built for these spaces.
        """
        kind: Any = cls
        agent: Self = kind(config, spaces, device=device, rng=rng)
        return agent

    def begin_training(self, tasks: Sequence[Task], episodes: int, progress: float = 0.0) -> StateT:
        """The state at the start of a trial that `meta_update` will learn from; that of `begin` by default.

        An agent that is told the tasks in training, and only there, overrides it. Every other trial starts by `begin`.

        Args:
            tasks: The `M` tasks; see `begin`.
            episodes: `E`, environments per task.
            progress: Fraction of the run's meta-updates that are done, in [0, 1), as in `MetaBatch`.
        """
        return self.begin(tasks, episodes)

    def meta_update(self, batch: MetaBatch[Any]) -> dict[str, float]:
        """The outer-loop update.

        Args:
            batch: The experience of the iteration.

        Returns:
            Metrics for the log.
        """
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """The arrays that training changes, for the checkpoint.

        Parameters, optimiser moments and statistics must be finite: a training that diverged is not saved. An agent
        whose tensors include stored experience also has a method `learned()`, which leaves it out.
        """
        ...

    def counters(self) -> dict[str, Any]:
        """All other state that training changes, as a JSON value."""
        ...

    def restore(self, tensors: Mapping[str, torch.Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names or shapes differ from this agent's.
        """
        ...

    def save_policy(self, state: StateT, path: str | Path, task: int = 0) -> None:
        """Writes the adapted policy of one task as a safetensors file with a JSON description.

        Args:
            state: The adapted state.
            path: File to write.
            task: Index of the task in the state.
        """
        ...
