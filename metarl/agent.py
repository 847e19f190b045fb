"""The one protocol that every agent fulfils, whatever its way of adapting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch

from metarl.types import Action, MetaBatch, Spaces, Step, Task, Trajectories

StateT = TypeVar("StateT")


class MetaAgent(Protocol, Generic[StateT]):
    """An agent begins a state, acts with it, adapts it, and updates itself from the whole experience.

    The state (`StateT`) is a value of the agent's own type: adapted parameters, a memory, a posterior. It is
    passed in and returned and never kept on the agent, which is why the same loop serves all of them.

    An implementation is a class with a frozen dataclass `Config` and the constructor
    `(config, spaces, *, device, rng)`, announced under the entry-point group `metarl.agents`. Two class methods are
    asked before it is built, if it has them: `memory_needed(config, spaces, size)` for the large parts of a training
    (`metarl.memory.Need`), and `check_distribution(config, distribution, size)`, which raises ValueError if the agent
    cannot learn these tasks.

    Attributes:
        Config: The agent's settings.
        summary: One line for `metarl list`.
        config: The settings in use.
        spaces: What it was built for.
        adapts_within_episodes: Whether it adapts while an episode goes on (a memory), so that its first episode is
            not what it does before adaptation. An agent without this attribute does not.
    """

    Config: ClassVar[type]
    summary: ClassVar[str]
    config: Any
    spaces: Spaces
    adapts_within_episodes: ClassVar[bool]

    @property
    def adaptation_steps(self) -> int:
        """`K`: how often `adapt` follows a collect in one trial."""
        ...

    def episodes_per_adaptation(self, episodes: int) -> int:
        """Adaptation episodes that one `adapt` uses up, given `E`.

        `E` where the episodes of a task are pooled (gradient agents), 1 where they are independent trials.
        """
        ...

    def begin(self, tasks: Sequence[Task], episodes: int) -> StateT:
        """A fresh, unadapted state for `M` tasks with `E` environments each.

        The tasks serve as identities (PEARL keys its replay by them). Their parameters are off limits to any
        agent but a declared oracle, which reads those that `spaces.task_parameters` names.
        """
        ...

    def act(self, state: StateT, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, StateT]:
        """Actions for all rows, and the state after having acted.

        Args:
            state: What the agent acts with.
            step: What it sees.
            rng: Source of the noise.
            mode: Take the mode of the policy's distribution in place of a draw from it.
        """
        ...

    def adapt(self, state: StateT, trajectories: Trajectories) -> StateT:
        """The state after learning from one episode per environment of each task.

        Several of each that were joined (`Trajectories.join_episodes`) count in order.
        """
        ...

    def meta_update(self, batch: MetaBatch) -> dict[str, float]:
        """Improves the agent itself (the outer loop) and reports numbers for the log."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that training changes and that is an array, for the checkpoint.

        Parameters, moments of optimisers and statistics have to be finite: a training that blew up is not saved. An
        agent that keeps experience among its tensors has a method `learned()` too, with the others alone.
        """
        ...

    def counters(self) -> dict[str, Any]:
        """Everything that training changes and that is not an array, as a JSON value."""
        ...

    def restore(self, tensors: Mapping[str, torch.Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` and `counters` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        ...

    def save_policy(self, state: StateT, path: str | Path, task: int = 0) -> None:
        """Writes the adapted policy of one task as a self-describing safetensors file."""
        ...
