"""The roles: an `Actor` plays, a `MetaAgent` learns, and a `State` is what is passed between them."""

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
    """An agent's state within a trial (adapted parameters, a memory, a posterior): a value, never changed in place.

    It can be cut and joined along the tasks, so that several workers can share a batch.
    """

    def tasks(self, part: slice) -> Self:
        """The state of some of the `M` tasks, in order."""
        ...

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The state of all tasks of the parts, in order: the inverse of `tasks`."""
        ...


class Actor(Protocol[StateT]):
    """Acts and adapts: all that a worker needs, and nothing of the learner.

    A class that inherits from it has the defaults below.

    Attributes:
        spaces: Sizes and action bounds that it was built for.
        recorded: The extras that `act` records, each with the sizes of its axes after `[M, E]`: `()` for one number.
        acting_threads: Threads of torch while acting: 1, unless acting plans.
        adapts_within_episodes: Whether it adapts during an episode (a memory), so that its first episode is not the
            policy before adaptation.
    """

    spaces: Spaces
    recorded: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    acting_threads: int = 1
    adapts_within_episodes: ClassVar[bool] = False

    @property
    def adaptation_steps(self) -> int:
        """`K`, calls of `adapt` in one trial, each after a collect."""
        ...

    def episodes_per_adaptation(self, episodes: int) -> int:
        """Adaptation episodes that one `adapt` uses up, given `E`.

        `E` if the episodes of a task are pooled (gradient agents), 1 if they are independent trials.
        """
        ...

    def begin(self, tasks: Sequence[Task], episodes: int) -> StateT:
        """A fresh, unadapted state for `M` tasks with `E` environments each.

        The tasks serve as identities (PEARL keys its replay by them). Their parameters are off limits to any
        agent but a declared oracle, which reads those that `spaces.task_parameters` names.
        """
        ...

    def act(self, state: StateT, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, StateT]:
        """Actions for all rows, and the state after acting.

        Args:
            state: The state to act with.
            step: The observation, and the action and reward before it.
            rng: Source of the noise.
            mode: Take the mode of the policy's distribution instead of a sample.
        """
        ...

    def adapt(self, state: StateT, trajectories: Any) -> StateT:
        """The state after learning from one episode per environment of each task.

        Args:
            state: The state after acting.
            trajectories: The experience of a collect: `Trajectories` (joined episodes count in order), or whatever
                else the sampler collects.
        """
        ...


class MetaAgent(Actor[StateT], Protocol[StateT]):
    """An actor that also learns: it updates itself from the whole experience of an iteration.

    An implementation inherits from this class, with a frozen dataclass `Config` and, unless it has a `build` of its
    own, the constructor `(config, spaces, *, device, rng)`. It is announced under the entry-point group
    `metarl.agents`, or named as `module:Class`. Three more are read if present: `default_settings`, a mapping of
    settings for families that have no preset; `memory_needed(config, spaces, size)`, a class method with the large
    parts of a training (`metarl.memory.Need`); and `check_distribution(config, distribution, size)`, a class method
    that raises ValueError if the agent cannot learn these tasks.

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
        """A new, untrained agent.

        Args:
            config: Its settings, of its `Config`.
            spaces: Sizes and action bounds of the environments.
            device: Where networks and updates run.
            rng: Source of the initial parameters and of whatever the updates draw.

        Raises:
            ValueError: The agent cannot be built for these spaces.
        """
        kind: Any = cls
        agent: Self = kind(config, spaces, device=device, rng=rng)
        return agent

    def actor(self) -> Actor[StateT]:
        """The actor to collect with: the agent itself within one process, or a snapshot of its acting parameters."""
        return self

    def meta_update(self, batch: MetaBatch[Any]) -> dict[str, float]:
        """The outer-loop update; returns metrics for the log."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """The arrays that training changes, for the checkpoint.

        Parameters, moments of optimisers and statistics must be finite: a training that diverged is not saved. An agent
        that keeps experience among its tensors also has a method `learned()` with the others alone.
        """
        ...

    def counters(self) -> dict[str, Any]:
        """Everything else that training changes, as a JSON value."""
        ...

    def restore(self, tensors: Mapping[str, torch.Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        ...

    def save_policy(self, state: StateT, path: str | Path, task: int = 0) -> None:
        """Writes the adapted policy of one task as a self-describing safetensors file."""
        ...
