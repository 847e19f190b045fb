"""The adaptation by any update rule, differentiated by autograd, and the base class of agents that adapt so."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.learning.gradient.agent import AdaptedPolicy
from metarl.learning.gradient.autograd_jacobian import AutogradJacobian
from metarl.learning.gradient.losses import inner_loss
from metarl.learning.gradient.policy import Samples, StackedPolicy, task_chunks
from metarl.learning.gradient.trust_region_agent import TrustRegionAgent, TrustRegionAgentConfig
from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.linearised import HeadAutograd, LossDerivatives
from metarl.learning.rules.base import Evidence, RuleSize, UpdateRule
from metarl.memory import FLOAT, LEARNED, Need, RunSize, dense_parameters
from metarl.types import MetaBatch, Spaces, Task, Trajectories


class AutogradAdaptation:
    """The adaptation of some tasks, with the products of its Jacobian by autograd.

    Policy gradients have a derivative of their own (`policy_evidence`), since networks of stacked policies are
    differentiable once.

    Args:
        adapted: Maps meta-parameters `[Q]` to the parameters after adaptation `[M, P]`, differentiable.
        meta_parameters: `[Q]`.
    """

    def __init__(self, adapted: Callable[[Tensor], Tensor], meta_parameters: Tensor) -> None:
        self._adapted = adapted
        leaf = meta_parameters.detach().requires_grad_()
        with torch.enable_grad():
            self._end = adapted(leaf)
        self._jacobian = AutogradJacobian([self._end], leaf)

    @property
    def end(self) -> Tensor:
        """See `Adaptation.end`."""
        return self._end.detach()

    def vjp(self, w: Tensor) -> Tensor:
        """See `Adaptation.vjp`."""
        return self._jacobian.vjp([w])

    def jvp(self, v: Tensor) -> Tensor:
        """See `Adaptation.jvp`."""
        return self._jacobian.jvp(v)[0]

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """See `Adaptation.adapted_from`."""
        return self._adapted(meta_parameters.detach()).detach()


def policy_evidence(
    policy: StackedPolicy,
    samples: Samples,
    parameters: Tensor,
    statistics: Tensor | None = None,
    *,
    first_order: bool = False,
) -> Evidence:
    """Loss and policy gradient of each task, with the Hessian products of `LossDerivatives` as their derivative.

    Args:
        policy: The policy.
        samples: Samples of a collect.
        parameters: `[M, P]`.
        statistics: Numbers about the data, `[M, S]`; none by default.
        first_order: Return the evidence without a graph.
    """
    linear = policy.linearise(parameters, samples.observations)
    losses = inner_loss(linear.distribution, samples)
    if statistics is None:
        statistics = losses.new_zeros(len(losses), 0)
    of = partial(inner_loss, samples=samples)
    if first_order:
        return Evidence(losses, linear.vjp(linear.cotangents(of)), statistics)
    derivatives = LossDerivatives(linear, HeadAutograd(linear.distribution, of))
    known: tuple[Tensor, Tensor] = _LossAndGradient.apply(parameters, losses, derivatives)  # type: ignore[no-untyped-call]
    return Evidence(known[0], known[1], statistics)


class _LossAndGradient(torch.autograd.Function):
    """Losses `[M]` and gradients `[M, P]` that are known, with their derivative in the parameters."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, losses: Tensor, derivatives: LossDerivatives) -> tuple[Tensor, Tensor]:
        ctx.derivatives = derivatives
        return losses.clone(), derivatives.gradient.clone()

    @staticmethod
    def backward(ctx: Any, of_losses: Tensor, of_gradients: Tensor) -> tuple[Tensor, None, None]:
        """A function of the cotangents alone: it is differentiable in them, and not in the parameters."""
        product = _HessianProduct.apply(of_gradients, ctx.derivatives)  # type: ignore[no-untyped-call]
        return of_losses.unsqueeze(1) * ctx.derivatives.gradient + product, None, None


class _HessianProduct(torch.autograd.Function):
    """`H v` for each task, `[M, P]`; the Hessian is symmetric, so the product is its own transpose."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, derivatives: LossDerivatives) -> Tensor:
        ctx.derivatives = derivatives
        return derivatives.hessian_product(v)

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor, None]:
        product: Tensor = _HessianProduct.apply(w, ctx.derivatives)  # type: ignore[no-untyped-call]
        return product, None


@dataclass(frozen=True)
class RuleState(AdaptedPolicy):
    """The state of an agent with an update rule.

    Args:
        parameters: `[M, P]`.
        memory: The rule's memory; its first axis is M.
    """

    memory: Any = ()

    def tasks(self, part: slice) -> RuleState:
        """The state of some of the tasks."""
        return RuleState(self.parameters[part].clone(), mapped(lambda t: t[part].clone(), self.memory))

    @classmethod
    def join(cls, parts: Sequence[AdaptedPolicy]) -> RuleState:
        """The state of all tasks of the parts, in order."""
        memories = [part.memory for part in parts if isinstance(part, RuleState)]
        joined = mapped(lambda *tensors: torch.cat(tensors), *memories)
        return cls(torch.cat([part.parameters for part in parts]), joined)


@dataclass(frozen=True, kw_only=True)
class RuleAgentConfig(TrustRegionAgentConfig):
    """Settings of an agent with an update rule."""

    first_order: bool = False
    """Treat losses and gradients of the inner loop as constants in the meta-gradient."""


ConfigT = TypeVar("ConfigT", bound=RuleAgentConfig)


class RuleAgent(TrustRegionAgent[ConfigT], Generic[ConfigT]):
    """Adapts a policy by an update rule, and meta-learns initial parameters and rule by trust-region steps.

    A subclass defines `_make_rule`, `rule_size` if its rule has a size, and `_statistics` if its rule reads numbers
    about the data. It is built like a `GradientAgent`.

    Attributes:
        rule: The update rule.
        own: The rule's own parameters, `[R]`.
    """

    def __init__(self, config: ConfigT, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        super().__init__(config, spaces, device=device, rng=rng)
        self.rule: UpdateRule = self._make_rule()
        self.own = self.rule.initial(self.parameters.cpu(), rng).to(device)

    @classmethod
    def rule_size(cls, config: ConfigT, spaces: Spaces) -> RuleSize:
        """Sizes of the rule of these settings; nothing by default."""
        return RuleSize()

    @classmethod
    def memory_needed(cls, config: ConfigT, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of a gradient-based agent, of the rule's own, and of its graph for one task."""
        rule = cls.rule_size(config, spaces)
        parameters = dense_parameters((spaces.observation_size, *config.hidden, spaces.policy_outputs))
        of_tasks = parameters * (size.tasks * rule.memory + config.inner_steps * rule.graph)
        need = Need(
            f"the update rule, for {parameters:,} parameters of each of {size.tasks:,} tasks,",
            FLOAT * (LEARNED * rule.own + (0 if size.gpu else of_tasks)),
            "a smaller rule (--agent.rule-units), smaller layers (--agent.hidden) or fewer --tasks",
        )
        return [*super().memory_needed(config, spaces, size), *([need] if any(rule) else [])]

    @property
    def _task_bytes(self) -> int:
        rule = self.rule_size(self.config, self.spaces)
        return FLOAT * len(self.parameters) * (rule.memory + self.config.inner_steps * rule.graph)

    @abstractmethod
    def _make_rule(self) -> UpdateRule:
        """The update rule of these settings."""

    def _statistics(self, samples: Samples) -> Tensor | None:
        """Numbers about the data of each task, `[M, S]`; none by default."""
        return None

    @property
    def _meta_parameters(self) -> Tensor:
        """Initial parameters and the rule's own, concatenated, `[P + R]`."""
        return torch.cat([self.parameters, self.own])

    @_meta_parameters.setter
    def _meta_parameters(self, meta_parameters: Tensor) -> None:
        parts = torch.split(meta_parameters, [len(self.parameters), len(self.own)])
        self.parameters, self.own = (part.clone() for part in parts)

    def begin(self, tasks: Sequence[Task], episodes: int) -> RuleState:
        """The meta-learned parameters for every task, and a fresh memory of the rule."""
        parameters = self.parameters.expand(len(tasks), -1).contiguous()
        return RuleState(parameters, mapped(torch.Tensor.detach, self.rule.fresh_memory(self.own, parameters)))

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> RuleState:
        """One step of the rule per task."""
        assert isinstance(state, RuleState)
        samples, states = self._samples_for(state, trajectories), list[RuleState]()
        (num_tasks, steps), widths = samples.weights.shape, self.policy.widths
        for part in task_chunks(num_tasks, steps, widths, self.device, self._task_bytes):
            some = state.tasks(part)
            with torch.no_grad():
                after = self._step(self.own, some.parameters, some.memory, samples.tasks(part), first_order=True)
            states.append(RuleState(*after))
        return RuleState.join(states)

    def _step(
        self, own: Tensor, parameters: Tensor, memory: Any, samples: Samples, *, first_order: bool
    ) -> tuple[Tensor, Any]:
        """One step of the rule, projected onto the policy's bound: parameters `[M, P]` and memory."""
        evidence = policy_evidence(self.policy, samples, parameters, self._statistics(samples), first_order=first_order)
        parameters, memory = self.rule.step(own, parameters, evidence, memory)
        return self.policy.bound.projected(parameters), memory

    def _adaptation(self, samples: Sequence[Samples]) -> AutogradAdaptation:
        """Steps of the rule, differentiated by autograd."""

        def adapted(meta_parameters: Tensor) -> Tensor:
            start, own = torch.split(meta_parameters, [len(self.parameters), len(self.own)])
            parameters = start.expand(len(samples[0].weights), -1)
            memory = self.rule.fresh_memory(own, parameters)
            for one in samples:
                parameters, memory = self._step(
                    own, parameters, memory, one, first_order=self.config.first_order or not own.requires_grad
                )
            return parameters

        return AutogradAdaptation(adapted, self._meta_parameters)

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One trust-region step over initial parameters and rule together."""
        return {**super().meta_update(batch), "rule/norm": float(self.own.norm())}

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, those of the rule, and running statistics."""
        return {**super().tensors(), "rule": self.own.detach().cpu()}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores the arrays of `tensors`.

        Raises:
            ValueError: Names or shapes differ from this agent's.
        """
        super().restore(tensors, counters)
        self.own = tensors["rule"].to(self.device, copy=True)
