"""The base class of few-shot learners that Adam trains on the loss of the queries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import Layers, NonNegative, Positive, Units
from metarl.few_shot.learner import FewShotLearner
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.learning.device.gpu import send
from metarl.learning.few_shot.losses import predictions
from metarl.learning.networks.cells.base import leaves
from metarl.learning.networks.optimisers import Adam, flat_gradient, step_size
from metarl.learning.saving import check_tensors, restore_generator
from metarl.storage import write_tensors
from metarl.types import Floats, MetaBatch, Task

StateT = TypeVar("StateT")
STATE_FORMAT = 1
"""Version of an exported state."""


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Settings that all few-shot learners share."""

    hidden: Layers = (40, 40)
    """Units of the hidden layers, for inputs that are vectors."""
    channels: Units = 32
    """Channels of each of the four convolutional blocks, for inputs that are images."""
    learning_rate: Positive = 1e-3
    """Step size of Adam in the outer loop."""
    anneal: bool = False
    """Decrease it linearly to 0 over the run."""
    gradient_clip: NonNegative = 10.0
    """Largest norm of the outer gradient; 0 for no limit."""


ConfigT = TypeVar("ConfigT", bound=LearnerConfig)


@dataclass(frozen=True)
class Examples:
    """Examples of each task on the learner's device.

    Args:
        x: `[M, B, *x_shape]`, of the type of the parameters.
        y: `[M, B, O]`, likewise.
    """

    x: Tensor
    y: Tensor

    def of_tasks(self, part: slice) -> Examples:
        """The examples of some of the tasks."""
        return Examples(self.x[part], self.y[part])


class Learner(FewShotLearner[StateT], Generic[ConfigT, StateT]):
    """Meta-learns parameters by Adam on the mean loss of the queries after adaptation to the support.

    A subclass defines `_initial`, `_fresh`, `_adapted`, `_outputs` and `_loss`, all functions of the parameters.

    Args:
        config: The settings.
        spaces: Sizes of the examples.
        device: Device of networks and updates.
        rng: Source of the initial parameters; the generator of the updates is spawned from it.

    Attributes:
        parameters: The meta-parameters, `[Q]`.
        rng: Generator of the updates.

    Raises:
        ValueError: The learner cannot learn from such examples.
    """

    Config: ClassVar[type]
    summary: ClassVar[str]
    config: ConfigT
    spaces: ShotSpaces

    def __init__(self, config: ConfigT, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator) -> None:
        self.config, self.spaces, self.device = config, spaces, device
        self.parameters = self._initial(rng).to(device).requires_grad_()
        self._adam = Adam([self.parameters], config.learning_rate)
        self.rng = rng.spawn(1)[0]

    @classmethod
    def build(cls, config: Any, spaces: Any, *, device: torch.device, rng: np.random.Generator) -> Any:
        """Creates an untrained learner; see `MetaAgent.build`."""
        return cls(config, spaces, device=device, rng=rng)

    # Defined by each learner ----------------------------------------------------------------------------

    @abstractmethod
    def _initial(self, rng: np.random.Generator) -> Tensor:
        """Initial meta-parameters, `[Q]`."""

    @abstractmethod
    def _fresh(self, parameters: Tensor, tasks: int) -> StateT:
        """The state before adaptation."""

    @abstractmethod
    def _adapted(self, parameters: Tensor, state: StateT, support: Examples, *, exact: bool) -> StateT:
        """The state after adaptation.

        Args:
            parameters: The meta-parameters, `[Q]`.
            state: The state before.
            support: The support.
            exact: Keep the graph that training needs.
        """

    @abstractmethod
    def _outputs(self, parameters: Tensor, state: StateT, x: Tensor) -> Tensor:
        """Outputs for inputs: means, or logits of the classes.

        Args:
            parameters: The meta-parameters, `[Q]`.
            state: The state.
            x: `[M, B, *x_shape]`.

        Returns:
            `[M, B, O]`.
        """

    @abstractmethod
    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        """The objective of training, a scalar with a graph."""

    # The role -------------------------------------------------------------------------------------------

    def examples(self, shots: Shots) -> Examples:
        """The examples on the device, those of a task in one row."""
        m, e, t = shots.x.shape[:3]
        x, y = (send(np.ascontiguousarray(a), self.device, self.parameters.dtype) for a in (shots.x, shots.y))
        return Examples(x.reshape(m, e * t, *x.shape[3:]), y.reshape(m, e * t, -1))

    @torch.no_grad()
    def begin(self, tasks: Sequence[Task], episodes: int) -> StateT:
        """The state before adaptation; the tasks are not read."""
        return self._fresh(self.parameters.detach().clone(), len(tasks))

    @torch.no_grad()
    def adapt(self, state: StateT, shots: Shots) -> StateT:
        """See `FewShotLearner.adapt`."""
        return self._adapted(self.parameters.detach(), state, self.examples(shots), exact=False)

    @torch.no_grad()
    def predict(self, state: StateT, x: Floats) -> Tensor:
        """See `FewShotLearner.predict`."""
        m, e, t = x.shape[:3]
        inputs = send(np.ascontiguousarray(x), self.device, self.parameters.dtype).reshape(m, e * t, *x.shape[3:])
        outputs = self._outputs(self.parameters.detach(), state, inputs)
        return predictions(self.spaces, outputs).view(m, e, t, -1)

    def meta_update(self, batch: MetaBatch[Shots]) -> dict[str, float]:
        """One step of the outer loop."""
        support, queries = (self.examples(shots) for shots in batch.collects)
        loss, gradient = self._outer_gradient(support, queries)
        norm = float(gradient.norm())
        if self.config.gradient_clip and norm > self.config.gradient_clip:
            gradient = gradient * (self.config.gradient_clip / norm)
        size = step_size(self.config.learning_rate, self.config.anneal, batch.progress)
        self._descend(gradient, size)
        return {"update/loss": float(loss.detach()), "update/gradient_norm": norm, "update/learning_rate": size}

    def _outer_gradient(self, support: Examples, queries: Examples) -> tuple[Tensor, Tensor]:
        """The objective of training, a scalar, and its gradient in the meta-parameters, `[Q]`."""
        loss = self._loss(self.parameters, support, queries)
        return loss, flat_gradient(loss, [self.parameters])

    def _descend(self, gradient: Tensor, size: float) -> None:
        """A step of Adam of the given step size."""
        self._adam.step_size = size
        self._adam.step_along(gradient)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Meta-parameters and Adam's state."""
        return {"parameters": self.parameters.detach().cpu().clone()} | self._adam.tensors("adam")

    def counters(self) -> dict[str, Any]:
        """State of the updates' generator."""
        return {"rng": self.rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names, shapes or generator do not fit this learner; nothing is changed then.
        """
        check_tensors(type(self).__name__, tensors, self.tensors())
        restore_generator(type(self).__name__, self.rng, counters["rng"])
        with torch.no_grad():
            self.parameters.copy_(tensors["parameters"])
        self._adam.restore("adam", tensors)

    def save_policy(self, state: StateT, path: str | Path, task: int = 0) -> None:
        """Writes meta-parameters and the state of one task as a safetensors file with a JSON description.

        The arrays of the state are named by its fields, `state.FIELD.0`, `state.FIELD.1`, ...
        """
        one: Any = state
        arrays = {"parameters": self.parameters.detach().cpu().clone()}
        for name, part in vars(one.tasks(slice(task, task + 1))).items():
            arrays |= {f"state.{name}.{i}": t.detach().cpu().contiguous() for i, t in enumerate(leaves(part))}
        about = {"format": STATE_FORMAT, "agent": type(self).__name__, "settings": vars(self.config)}
        write_tensors(path if isinstance(path, Path) else Path(path), arrays, about)
