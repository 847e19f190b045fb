"""Few-shot learners that adapt a network by an update rule: MAML and its kin, with the rules of the policy agents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import Rounds
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.learning.few_shot.base import Examples, Learner, LearnerConfig
from metarl.learning.few_shot.losses import losses
from metarl.learning.few_shot.networks import Network
from metarl.learning.networks.cells.base import mapped
from metarl.learning.rules.base import RuleSize, UpdateRule, evidence_of
from metarl.memory import FLOAT, LEARNED, Need, RunSize


@dataclass(frozen=True, kw_only=True)
class GradientConfig(LearnerConfig):
    """Settings of a learner with an update rule."""

    inner_steps: Rounds = 1
    """Steps of adaptation, each on the whole support."""


@dataclass(frozen=True)
class AdaptedNetwork:
    """The state of a learner with an update rule.

    Args:
        parameters: Parameters of each task's network, `[M, P]`.
        memory: The rule's memory; its first axis is M.
    """

    parameters: Tensor
    memory: Any = ()

    def tasks(self, part: slice) -> AdaptedNetwork:
        """The state of some of the tasks."""
        return AdaptedNetwork(self.parameters[part].clone(), mapped(lambda t: t[part].clone(), self.memory))

    @classmethod
    def join(cls, parts: Sequence[AdaptedNetwork]) -> AdaptedNetwork:
        """The state of all tasks of the parts, in order."""
        memory = mapped(lambda *tensors: torch.cat(tensors), *(part.memory for part in parts))
        return cls(torch.cat([part.parameters for part in parts]), memory)


ConfigT = TypeVar("ConfigT", bound=GradientConfig)


class GradientLearner(Learner[ConfigT, AdaptedNetwork], Generic[ConfigT]):
    """Adapts a network by an update rule, and meta-learns initial parameters and rule.

    The meta-parameters are `[theta, own]`: the initial parameters of the network, `[P]`, and the rule's own, `[R]`. The
    outer gradient goes through the steps of adaptation exactly, unless `first_order`. A subclass defines `_make_rule`,
    `rule_size` if its rule has a size, and `_statistics` if its rule reads numbers about the data.

    Attributes:
        network: The network.
        rule: The update rule.
    """

    adapts_in_steps = True

    def __init__(self, config: ConfigT, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator) -> None:
        self.config, self.spaces = config, spaces
        self.network = Network(spaces.x_shape, tuple(config.hidden), spaces.y_size, config.channels)
        self.rule: UpdateRule = self._make_rule()
        super().__init__(config, spaces, device=device, rng=rng)

    @property
    def first_order(self) -> bool:
        """Treat losses and gradients of the inner loop as constants in the meta-gradient."""
        return False

    @classmethod
    def rule_size(cls, config: Any, spaces: ShotSpaces) -> RuleSize:
        """Sizes of the rule of these settings; nothing by default."""
        return RuleSize()

    @classmethod
    def memory_needed(cls, config: Any, spaces: Any, size: RunSize) -> list[Need]:
        """Memory of the networks and of the rule, and of the graph of the adaptation."""
        network = Network(spaces.x_shape, tuple(config.hidden), spaces.y_size, config.channels)
        rule = cls.rule_size(config, spaces)
        per_step = 2 + rule.memory + rule.graph
        adapted = network.size * size.tasks * (per_step * config.inner_steps + 2)
        need = Need(
            f"adapting {size.tasks:,} networks of {network.size:,} parameters in {config.inner_steps} steps",
            FLOAT * (LEARNED * (network.size + rule.own) + (0 if size.gpu else adapted)),
            "smaller layers (--agent.hidden, --agent.channels) or fewer --tasks",
        )
        return [need]

    @abstractmethod
    def _make_rule(self) -> UpdateRule:
        """The update rule of these settings."""

    def _statistics(self, support: Examples) -> Tensor | None:
        """Numbers about the support of each task, `[M, S]`; none by default."""
        return None

    def _initial(self, rng: np.random.Generator) -> Tensor:
        start = self.network.initial(rng)
        return torch.cat([start, self.rule.initial(start, rng)])

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Initial parameters of the network `[P]`, and the rule's own `[R]`."""
        start, own = torch.split(parameters, [self.network.size, len(parameters) - self.network.size])
        return start, own

    def _fresh(self, parameters: Tensor, tasks: int) -> AdaptedNetwork:
        start, own = self._split(parameters)
        of_tasks = start.expand(tasks, -1)
        return AdaptedNetwork(of_tasks, self.rule.fresh_memory(own, of_tasks))

    def _adapted(
        self,
        parameters: Tensor,
        state: AdaptedNetwork,
        support: Examples,
        *,
        exact: bool,
        steps: int | None = None,
    ) -> AdaptedNetwork:
        own = self._split(parameters)[1]
        loss, statistics = partial(self._losses, support), self._statistics(support)
        first_order = self.first_order or not exact
        for _ in range(self.config.inner_steps if steps is None else steps):
            evidence = evidence_of(loss, state.parameters, statistics, first_order=first_order)
            state = AdaptedNetwork(*self.rule.step(own, state.parameters, evidence, state.memory))
        return state

    def _losses(self, examples: Examples, parameters: Tensor) -> Tensor:
        """Loss of each task's network, `[M]`."""
        return losses(self.spaces, self.network(parameters, examples.x), examples.y)

    @torch.no_grad()
    def adapt_in_steps(self, state: AdaptedNetwork, shots: Shots, steps: int) -> AdaptedNetwork:
        """As `adapt`, with a given number of steps."""
        return self._adapted(self.parameters.detach(), state, self.examples(shots), exact=False, steps=steps)

    def _outputs(self, parameters: Tensor, state: AdaptedNetwork, x: Tensor) -> Tensor:
        return self.network(state.parameters, x)

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        state = self._fresh(parameters, len(support.x))
        state = self._adapted(parameters, state, support, exact=True)
        return self._losses(queries, state.parameters).mean()
