"""`metarl.wrap` against adaptation written by hand with `torch.func`, and meta-gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.functional import mse_loss

import metarl
from metarl.learning.rules.base import Evidence, GradientStep, evidence_of
from metarl.wrapped import RULES, Clone

DOUBLE = torch.float64
LR = 0.05
Batch = tuple[Tensor, Tensor]


class Recurrent(nn.Module):
    """The last output of a GRU, mapped linearly."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, num_layers=2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0][:, -1])


class Attending(nn.Module):
    """Attention of a sequence to itself, averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(dim=1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))


def convolutional() -> nn.Module:
    layers = nn.Conv2d(1, 3, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 2)
    return nn.Sequential(*layers)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (3,)),
    "convolutional": (convolutional, (1, 8, 8)),
    "gru": (Recurrent, (5, 3)),
    "attention": (Attending, (5, 4)),
}


def made(kind: str, seed: int = 0) -> tuple[nn.Module, list[Batch]]:
    """A module in float64, and four batches of data."""
    build, shape = MODULES[kind]
    noise = torch.Generator().manual_seed(seed)
    module = build().double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=noise, dtype=DOUBLE))
    x, y = (torch.randn(4, 7, *size, generator=noise, dtype=DOUBLE) for size in (shape, (2,)))
    return module, list(zip(x, y, strict=True))


def adapted_loss(fast: Clone, support: list[Batch], query: Batch) -> Tensor:
    """The loss of a query after one step per batch of the support."""
    for x, y in support:
        fast.adapt(mse_loss(fast(x), y))
    return mse_loss(fast(query[0]), query[1])


def loss_by_hand(
    module: nn.Module, start: dict[str, Tensor], rates: dict[str, Any], batches: list[Batch], first_order: bool
) -> Tensor:
    """The same by `torch.func`, with a step size per parameter."""

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(functional_call(module, parameters, (x,)), y)

    parameters = start
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for x, y in batches[:-1]:
            gradient = grad(loss)(parameters, x, y)
            if first_order:
                gradient = {name: g.detach() for name, g in gradient.items()}
            parameters = {name: p - rates[name] * gradient[name] for name, p in parameters.items()}
        return loss(parameters, *batches[-1])


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", list(MODULES))
def test_maml_is_that_written_by_hand(kind: str, first_order: bool, steps: int) -> None:
    module, batches = made(kind)
    batches = batches[-steps - 1 :]
    learner = metarl.wrap(module, rule="maml", lr=LR, first_order=first_order)
    found = adapted_loss(learner.clone(), batches[:-1], batches[-1])
    found.backward()
    start = dict(module.named_parameters())
    rates = dict.fromkeys(start, LR)
    expected = loss_by_hand(module, start, rates, batches, first_order)
    gradients = torch.autograd.grad(expected, list(start.values()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for (name, p), gradient in zip(start.items(), gradients, strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, gradient, rtol=0, atol=1e-10)
    other = loss_by_hand(module, start, rates, batches, not first_order)
    others = torch.autograd.grad(other, list(start.values()))
    assert max((a - b).abs().max().item() for a, b in zip(gradients, others, strict=True)) > 1e-5


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_meta_sgd_is_that_written_by_hand(kind: str, first_order: bool) -> None:
    module, batches = made(kind)
    learner = metarl.wrap(module, rule="meta-sgd", lr=LR, first_order=first_order)
    assert torch.equal(learner.own, torch.full_like(learner.own, LR))
    with torch.no_grad():
        learner.own.add_(torch.linspace(-0.1, 0.1, len(learner.own), dtype=DOUBLE))
    found = adapted_loss(learner.clone(), batches[:-1], batches[-1])
    found.backward()
    start = dict(module.named_parameters())
    rates = {name: r.detach().requires_grad_() for name, r in learner.named(learner.own).items()}
    expected = loss_by_hand(module, start, rates, batches, first_order)
    gradients = torch.autograd.grad(expected, [*start.values(), *rates.values()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    theirs = torch.cat([g.reshape(-1) for g in gradients])
    ours = torch.cat([*(p.grad.reshape(-1) for p in start.values() if p.grad is not None), learner.own.grad])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert {id(p) for p in learner.parameters()} == {*map(id, start.values()), id(learner.own)}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_meta_gradients_by_finite_differences(rule: str) -> None:
    module, batches = made("mlp")
    settings = {"lr": 0.3} if rule in ("maml", "meta-sgd", "gbml") else {}
    learner = metarl.wrap(module, rule=rule, **settings).double()

    def value() -> Tensor:
        return adapted_loss(learner.clone(), batches[:2], batches[-1])

    value().backward()
    checked = 0
    for p in learner.parameters():
        flat = p.data.view(-1)
        for i in range(0, len(flat), max(1, len(flat) // 12)):
            before, step = flat[i].item(), 1e-5
            values = []
            for sign in (1, -1):
                flat[i] = before + sign * step
                values.append(value().item())
            flat[i] = before
            assert p.grad is not None
            difference = (values[0] - values[1]) / (2 * step)
            assert p.grad.view(-1)[i].item() == pytest.approx(difference, rel=1e-6, abs=1e-9)
            checked += 1
    assert checked >= 20


# Rules of one's own -------------------------------------------------------------------------------------------


class Momentum:
    """`v' = m v + g s`, `theta' = theta - a v'`, with `a` and `m` learned and `s` the first statistic (or 1)."""

    def initial(self, parameters: Tensor, rng: np.random.Generator) -> Tensor:
        assert parameters.device.type == "cpu"
        return parameters.new_tensor([0.1, 0.5 + 0.1 * rng.random()])

    def fresh_memory(self, own: Tensor, parameters: Tensor) -> Tensor:
        return torch.zeros_like(parameters)

    def step(self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: Tensor) -> tuple[Tensor, Tensor]:
        scale = evidence.statistics[:, :1] if evidence.statistics.shape[1] else 1.0
        memory = own[1] * memory + evidence.gradient * scale
        return parameters - own[0] * memory * (1 + evidence.loss.unsqueeze(1)), memory


def test_a_rule_object_with_memory_loss_and_statistics() -> None:
    module, batches = made("mlp")
    learner = metarl.wrap(module, Momentum(), seed=3)
    assert torch.equal(learner.own, metarl.wrap(module, Momentum(), seed=3).own)
    assert not torch.equal(learner.own, metarl.wrap(module, Momentum(), seed=4).own)
    fast = learner.clone()
    start = learner.flat()
    theta, velocity = start, torch.zeros_like(start)
    for (x, y), scale in zip(batches[:3], (None, 2.0, 0.5), strict=True):
        statistics = None if scale is None else torch.tensor([scale, 7.0], dtype=DOUBLE)
        fast.adapt(mse_loss(fast(x), y), statistics)
        loss = mse_loss(learner.call(theta, x), y)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        velocity = learner.own[1] * velocity + gradient * (scale or 1.0)
        theta = theta - learner.own[0] * velocity * (1 + loss)
    x, y = batches[-1]
    parameters = list(learner.parameters())
    ours = torch.autograd.grad(mse_loss(fast(x), y), parameters)
    theirs = torch.autograd.grad(mse_loss(learner.call(theta, x), y), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_a_rule_of_first_order_sees_no_graph() -> None:
    module, ((x, y), *_) = made("mlp")

    class Seen(GradientStep):
        def step(self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: Any) -> Any:
            assert not any(part.requires_grad for part in evidence)
            assert parameters.requires_grad
            return super().step(own, parameters, evidence, memory)

    fast = metarl.wrap(module, Seen(LR), first_order=True).clone()
    fast.adapt(mse_loss(fast(x), y), mse_loss(fast(x), y).reshape(1))
    second = metarl.wrap(module, Seen(LR)).clone()
    loss = mse_loss(second(x), y)
    with pytest.raises(AssertionError):
        second.adapt(loss)


# Clones -------------------------------------------------------------------------------------------------------


def test_a_clone_of_a_clone_continues_on_its_own_and_flows_back_through_both() -> None:
    module, batches = made("mlp")
    learner = metarl.wrap(module, Momentum())
    first, at_once = learner.clone(), learner.clone()
    (x, y), (x2, y2), query, _ = batches
    first.adapt(mse_loss(first(x), y))
    before = first(x2)
    second = first.clone()
    adapted = adapted_loss(second, [(x2, y2)], query)
    assert torch.equal(first(x2), before)
    expected = adapted_loss(at_once, [(x, y), (x2, y2)], query)
    parameters = list(learner.parameters())
    assert torch.equal(adapted, expected)
    for one, other in zip(*(torch.autograd.grad(v, parameters) for v in (adapted, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    first.adapt(mse_loss(first(x2), y2))  # the parent goes on as well
    assert torch.equal(adapted_loss(first, [], query), adapted)


def test_a_clone_may_be_of_another_order() -> None:
    module, batches = made("mlp")
    gradients = []
    for of_learner, of_clone in ((False, True), (True, None), (True, False), (False, None)):
        learner = metarl.wrap(module, lr=LR, first_order=of_learner)
        fast = learner.clone(first_order=of_clone)
        assert fast.clone().first_order == fast.first_order != fast.clone(first_order=not fast.first_order).first_order
        loss = adapted_loss(fast.clone(), batches[:1], batches[1])
        gradients.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(module.parameters()))]))
    first, same_first, second, same_second = gradients
    assert torch.equal(first, same_first)
    assert torch.equal(second, same_second)
    assert (first - second).abs().max() > 1e-5


def test_adaptation_changes_neither_module_nor_gradients() -> None:
    module, batches = made("gru")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    learner = metarl.wrap(module, lr=LR)
    outside = module(batches[-1][0])
    with torch.no_grad():
        fast = learner.clone()
        with torch.enable_grad():
            loss = mse_loss(fast(batches[0][0]), batches[0][1])
        fast.adapt(loss)
        adapted = fast(batches[-1][0])
    assert not adapted.requires_grad
    assert (adapted - outside).abs().max() > 1e-4
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(module(batches[-1][0]), outside)
    assert torch.equal(learner(batches[-1][0]), outside)
    assert all(p.grad is None for p in module.parameters())


def test_an_outer_optimiser_trains_and_the_learner_is_saved_and_restored() -> None:
    module, batches = made("mlp")
    learner = metarl.wrap(module, "meta-sgd", LR)
    adam = torch.optim.Adam(learner.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = adapted_loss(learner.clone(), batches[:1], batches[1])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    other = metarl.wrap(made("mlp", seed=9)[0], "meta-sgd", 0.7)
    other.load_state_dict(learner.state_dict())
    assert torch.equal(
        adapted_loss(other.clone(), batches[:1], batches[1]), adapted_loss(learner.clone(), batches[:1], batches[1])
    )


def test_many_tasks_at_once_by_vmap_are_the_clones_one_by_one() -> None:
    module, _ = made("mlp")
    learner = metarl.wrap(module, "meta-sgd", LR)
    noise = torch.Generator().manual_seed(5)
    x, y, x_query, y_query = (torch.randn(6, 7, n, generator=noise, dtype=DOUBLE) for n in (3, 2, 3, 2))

    def losses(parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return (torch.vmap(learner.call)(parameters, x) - y).square().mean(dim=(1, 2))

    parameters = learner.flat().expand(len(x), -1)
    memory = learner.rule.fresh_memory(learner.own, parameters)
    for _ in range(2):
        evidence = evidence_of(lambda p: losses(p, x, y), parameters)
        parameters, memory = learner.rule.step(learner.own, parameters, evidence, memory)
    batched = losses(parameters, x_query, y_query)
    alone = torch.stack(
        [
            adapted_loss(learner.clone(), [(a, b), (a, b)], (c, d))
            for a, b, c, d in zip(x, y, x_query, y_query, strict=True)
        ]
    )
    torch.testing.assert_close(batched, alone, rtol=0, atol=1e-10)
    both = [torch.autograd.grad(value.mean(), list(learner.parameters())) for value in (batched, alone)]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
