"""`metarl.wrap`: any `torch.nn.Module` adapts by an update rule, in a training loop of one's own.

```python
learner = metarl.wrap(module, rule="maml", lr=0.1)
fast = learner.clone()
fast.adapt(loss(fast(x), y))  # as often as wanted
loss(fast(x_query), y_query).backward()  # reaches learner.parameters()
```
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metarl.learning.rules.base import Evidence, GradientStep, LearnedStepSizes, UpdateRule
from metarl.learning.rules.gbml import LearnedDirection
from metarl.learning.rules.lstm import LstmRule
from metarl.names import did_you_mean
from metarl.seeding import Streams

RULES: dict[str, Callable[..., UpdateRule]] = {
    "maml": GradientStep,
    "meta-sgd": LearnedStepSizes,
    "meta-lstm": LstmRule,
    "gbml": LearnedDirection,
}
"""Update rules by name. The arguments of an entry are keywords of `wrap`; its `step_size` is called `lr` there."""


def wrap(
    module: nn.Module,
    rule: str | UpdateRule = "maml",
    lr: float | None = None,
    *,
    first_order: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Learner:
    """A module that adapts by an update rule.

    Parameters that require gradients at this call adapt. The others stay constants of every clone.

    Args:
        module: The module. It is used as it is, not copied; adaptation never changes it.
        rule: Name of a rule (`RULES`), or the rule itself.
        lr: Step size of the rule, if it has one: fixed in `maml`, the initial value of each in `meta-sgd`.
        first_order: Treat losses and gradients of the adaptation as constants in the meta-gradient (FOMAML).
        seed: Seed of the rule's own initial parameters.
        **settings: Further settings of a rule that is given by its name.

    Raises:
        ValueError: No such rule or setting, a step size that is not positive, or a module without parameters to adapt,
            with parameters on several devices or of several types, or whose parameters are not initialised yet.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module: got {type(module).__name__}, expected a torch.nn.Module")
    if lr is not None and not _is_positive(lr):
        raise ValueError(f"lr: got {lr!r}, expected a finite number above 0")
    if not isinstance(rule, str):
        given = [*settings, *(["lr"] if lr is not None else [])]
        if given:
            raise ValueError(f"{given[0]}: got it beside a rule object, expected it among the object's own arguments")
        methods = [getattr(rule, name, None) for name in ("initial", "fresh_memory", "step")]
        if isinstance(rule, type) or not all(map(callable, methods)):
            given_kind = f"the class {rule.__name__}" if isinstance(rule, type) else type(rule).__name__
            raise ValueError(f"rule: got {given_kind}, expected one of {', '.join(RULES)}, or an UpdateRule object")
        return Learner(module, rule, first_order=first_order, seed=seed)
    if rule not in RULES:
        expected = f"expected one of {', '.join(RULES)}, or an UpdateRule"
        raise ValueError(f"rule: got {rule!r}, {expected}.{did_you_mean(rule, RULES)}")
    return Learner(module, _made(rule, lr, settings), first_order=first_order, seed=seed)


def _is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    return isinstance(value, Real) and math.isfinite(number := float(value)) and number > 0


def _made(name: str, lr: float | None, settings: Mapping[str, Any]) -> UpdateRule:
    """The rule of a name; its arguments are checked against those of its constructor."""
    arguments = inspect.signature(RULES[name]).parameters
    known = ["lr" if argument == "step_size" else argument for argument in arguments]
    given = {**settings, **({"lr": lr} if lr is not None else {})}
    for setting in given:
        if setting not in known:
            there = f"settings: {', '.join(known)}" if known else "no settings"
            raise ValueError(f"{setting}: got it for the rule {name!r}, which has {there}")
    for setting, argument in zip(known, arguments.values(), strict=True):
        if setting not in given and argument.default is argument.empty:
            raise ValueError(f"{setting}: got none, expected a value; the rule {name!r} needs it")
    return RULES[name](**{"step_size" if setting == "lr" else setting: value for setting, value in given.items()})


class Learner(nn.Module):
    """A module and an update rule; `wrap` makes it.

    `parameters()` are those of the module and the rule's own: an outer optimiser trains them. Calling the learner calls
    the module, without adaptation. Training and evaluation mode are the module's, for clones as well.

    Args:
        module: The module.
        rule: The update rule.
        first_order: Default of its clones.
        seed: Seed of the rule's own initial parameters.

    Attributes:
        module: The module.
        rule: The update rule.
        own: The rule's own parameters, `[R]`; a parameter of the learner unless R is 0.
        first_order: Default of its clones.

    Raises:
        ValueError: See `wrap`.
    """

    own: Tensor

    def __init__(self, module: nn.Module, rule: UpdateRule, *, first_order: bool = False, seed: int = 0) -> None:
        super().__init__()
        adapted = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not adapted:
            raise ValueError("module: got no parameter that requires gradients, expected at least one to adapt")
        for name, p in adapted.items():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise ValueError(f"module: {name} is not initialised yet; call the module once before wrapping it")
        kinds = sorted({f"{p.dtype} on {p.device}" for p in adapted.values()})
        if len(kinds) > 1:
            raise ValueError(f"module: got parameters of {' and '.join(kinds)}, expected one type on one device")
        self.module, self.rule, self.first_order = module, rule, first_order
        self._names = tuple(adapted)
        self._recurrent = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
        self._weight_norm = next((name for name, part in module.named_modules() if _is_weight_norm(part)), None)
        start = self.flat().detach()
        own = rule.initial(start.cpu(), Streams(seed).learner).to(start)
        if len(own):
            self.own = nn.Parameter(own)
        else:
            self.register_buffer("own", own, persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's result, without adaptation."""
        return self.module(*args, **kwargs)

    def clone(self, first_order: bool | None = None) -> Clone:
        """The module at its current parameters, ready to adapt; gradients flow back to `parameters()`.

        Args:
            first_order: Treat losses and gradients of the adaptation as constants; by default as the learner says.

        Raises:
            ValueError: The order is second, and the module has a `weight_norm`.
        """
        with torch.enable_grad():
            start = self.flat()
            start = (start if start.requires_grad else start.requires_grad_()).unsqueeze(0)
            memory = self.rule.fresh_memory(self.own, start)
        order = self.first_order if first_order is None else first_order
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        return Clone(self, start, memory, buffers, first_order=order)

    def flat(self) -> Tensor:
        """The parameters that adapt, `[P]`, a function of the module's."""
        there = dict(self.module.named_parameters())
        return torch.cat([there[name].reshape(-1) for name in self._names])

    def named(self, parameters: Tensor) -> dict[str, Tensor]:
        """The parameters that adapt, by name and in their shapes.

        Args:
            parameters: `[P]`.
        """
        there = dict(self.module.named_parameters())
        shapes = [there[name].shape for name in self._names]
        parts = torch.split(parameters, [shape.numel() for shape in shapes])
        return {name: part.view(shape) for name, shape, part in zip(self._names, shapes, parts, strict=True)}

    def call(self, parameters: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The module's result at other parameters: a function without state, for `torch.vmap` and `torch.func`.

        Args:
            parameters: `[P]`.
            *args: Arguments of the module.
            **kwargs: Arguments of the module.
        """
        return functional_call(self.module, self.named(parameters), args, kwargs)


class Clone:
    """A module with adapted parameters and with buffers of its own; `Learner.clone` makes it.

    Args:
        learner: Its learner.
        parameters: `[1, P]`, with a graph.
        memory: The rule's memory.
        buffers: Its buffers by name; they are never written to.
        first_order: Treat losses and gradients of the adaptation as constants.

    Attributes:
        learner: Its learner.
        first_order: As given.

    Raises:
        ValueError: The order is second, and the module has a `weight_norm`.
    """

    def __init__(
        self, learner: Learner, parameters: Tensor, memory: Any, buffers: dict[str, Tensor], *, first_order: bool
    ) -> None:
        if not first_order and learner._weight_norm is not None:
            raise ValueError(
                f"clone: {learner._weight_norm} is PyTorch's weight_norm, whose second derivative is wrong; "
                "use first_order=True, or compute g * v / |v| in the module"
            )
        self.learner, self.first_order = learner, first_order
        self._parameters, self._memory, self._buffers = parameters, memory, buffers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The module's result at the adapted parameters."""
        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}  # the module may write to them
        state = {**self.learner.named(self._parameters[0]), **buffers}
        with _kernels(recurrent=bool(self.learner._recurrent), second_order=not self.first_order):
            result = functional_call(self.learner.module, state, args, kwargs)
        for part in self.learner._recurrent:  # each keeps a list of its weights, and so the clone's graph
            for name, p in part.named_parameters(recurse=False):
                setattr(part, name, p)
        self._buffers = {name: state[name] for name in buffers}  # also those that the module replaced
        return result

    def adapt(self, loss: Tensor, statistics: Tensor | None = None) -> None:
        """One step of the update rule. With `first_order` it frees the graph of the loss, as `backward` does.

        Args:
            loss: A scalar, computed from this clone since its last step.
            statistics: Numbers about the data, `[S]`, for a rule that reads them; none by default.

        Raises:
            ValueError: The loss is not a scalar, or does not depend on the clone's current parameters.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"type {type(loss).__name__}"
            raise ValueError(f"adapt: got a loss of {given}, expected a scalar tensor; reduce it, as by .mean()")
        with torch.enable_grad():
            gradient = None
            if loss.requires_grad:
                (gradient,) = torch.autograd.grad(
                    loss, self._parameters, create_graph=not self.first_order, allow_unused=True
                )
            if gradient is None:
                raise ValueError(
                    "adapt: got a loss that does not depend on this clone's current parameters; "
                    "compute it from this clone, after its last step and outside torch.no_grad()"
                )
            numbers = gradient.new_zeros(1, 0) if statistics is None else statistics.reshape(1, -1).to(gradient)
            evidence = Evidence(loss.reshape(1).to(gradient), gradient, numbers)
            if self.first_order:
                evidence = Evidence(*(part.detach() for part in evidence))
            self._parameters, self._memory = self.learner.rule.step(
                self.learner.own, self._parameters, evidence, self._memory
            )

    def clone(self, first_order: bool | None = None) -> Clone:
        """A copy that adapts on its own from here; gradients flow back through the steps so far.

        Args:
            first_order: Treat losses and gradients of the further steps as constants; by default as this clone does.
        """
        order = self.first_order if first_order is None else first_order
        with torch.enable_grad():
            start = self._parameters.clone()
        return Clone(self.learner, start, self._memory, dict(self._buffers), first_order=order)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The adapted parameters by name, with their graph."""
        yield from self.learner.named(self._parameters[0]).items()

    def parameters(self) -> Iterator[Tensor]:
        """The adapted parameters, with their graph."""
        yield from self.learner.named(self._parameters[0]).values()

    def state_dict(self) -> dict[str, Any]:
        """Adapted parameters, constants and buffers without a graph, for `load_state_dict` of such a module."""
        module, own = self.learner.module, {**dict(self.named_parameters()), **self._buffers}
        there = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        new = {id(tensor): own[name] for name, tensor in there.items() if name in own}  # tied: one tensor, many names
        kept = module.state_dict(keep_vars=True)
        return {
            name: new.get(id(value), value).detach().clone() if isinstance(value, Tensor) else value
            for name, value in kept.items()
        }


def _is_weight_norm(part: nn.Module) -> bool:
    """Whether a module is the parametrisation `weight_norm`, or has its older form as a hook."""
    hooks = (type(hook).__name__ == "WeightNorm" for hook in part._forward_pre_hooks.values())
    return type(part).__name__ == "_WeightNorm" or any(hooks)


@contextmanager
def _kernels(*, recurrent: bool, second_order: bool) -> Iterator[None]:
    """Kernels that have the derivatives needed.

    Fused attention has no second derivative. Recurrent networks of cuDNN have none either, and move the weights that
    they are given to memory of their own.
    """
    graph, cudnn = torch.is_grad_enabled(), torch.backends.cudnn
    before = cudnn.enabled
    without_cudnn = graph and before and recurrent
    try:
        if without_cudnn:
            cudnn.enabled = False
        with sdpa_kernel(SDPBackend.MATH) if graph and second_order else nullcontext():
            yield
    finally:
        if without_cudnn:
            cudnn.enabled = before
