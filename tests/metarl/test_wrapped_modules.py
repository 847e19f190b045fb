"""`metarl.wrap` on modules with buffers, tied, frozen or unused parameters; and the lines of its errors."""

from __future__ import annotations

import copy
import gc
import re
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, mse_loss
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import metarl
from metarl.learning.rules.base import GradientStep
from metarl.wrapped import RULES, Learner

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The initial weights of torch's modules are the same in every run."""
    torch.manual_seed(1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def steps(learner: Learner, count: int, width: int) -> Tensor:
    """A query's loss after some steps on random data."""
    fast = learner.clone()
    for i in range(count):
        fast.adapt(mse_loss(fast(drawn(5, width, seed=i)), drawn(5, 2, seed=10 + i)))
    return mse_loss(fast(drawn(5, width, seed=20)), drawn(5, 2, seed=21))


def gradients_agree_with_differences(learner: Learner, width: int = 3) -> None:
    """Compares every meta-gradient with central differences."""
    torch.manual_seed(0)
    learner.zero_grad()
    steps(learner, 2, width).backward()
    for name, p in learner.named_parameters():
        if not p.requires_grad:
            continue
        for i in range(p.numel()):
            values = []
            for change in (1e-5, -2e-5):
                p.data.view(-1)[i] += change
                torch.manual_seed(0)
                values.append(steps(learner, 2, width).item())
            p.data.view(-1)[i] += 1e-5
            assert p.grad is not None, name
            difference = (values[0] - values[1]) / 2e-5
            assert p.grad.view(-1)[i].item() == pytest.approx(difference, rel=1e-5, abs=1e-8), name


class Tied(nn.Module):
    """An encoder whose transpose decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.encoder(x)))


def test_tied_parameters_are_one_and_stay_tied() -> None:
    module = Tied().double()
    learner = metarl.wrap(module, "meta-sgd", 0.1)
    assert len(learner.own) == 4
    gradients_agree_with_differences(learner, width=2)
    fast = learner.clone()
    x, y = drawn(5, 2), drawn(5, 2, seed=1)
    fast.adapt(mse_loss(fast(x), y))
    (adapted,) = fast.parameters()
    assert torch.equal(fast(x), linear(torch.tanh(linear(x, adapted)), adapted))
    other = Tied().double()
    other.load_state_dict(fast.state_dict())
    assert torch.equal(other(x), fast(x))
    assert {"encoder.weight", "decoder.weight"} == set(fast.state_dict())


def test_parameters_without_gradient_are_constants_of_all_clones() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    module[0].weight.requires_grad_(False)
    learner = metarl.wrap(module, "meta-sgd", 0.1)
    assert len(learner.own) == 4 + 4 * 2 + 2
    gradients_agree_with_differences(learner)
    fast = learner.clone()
    fast.adapt(mse_loss(fast(drawn(5, 3)), drawn(5, 2)))
    assert [name for name, _ in fast.named_parameters()] == ["0.bias", "2.weight", "2.bias"]
    assert torch.equal(fast.state_dict()["0.weight"], module[0].weight)
    assert not torch.equal(fast.state_dict()["0.bias"], module[0].bias)
    assert module[0].weight.grad is None


def test_a_body_that_is_frozen_at_the_call_alone_is_trained_by_the_outer_loop_only() -> None:
    """ANIL (Raghu et al. 2020): the head adapts, everything is meta-learned."""
    body, head = nn.Linear(3, 4), nn.Linear(4, 2)
    module = nn.Sequential(body.requires_grad_(False), nn.Tanh(), head).double()
    learner = metarl.wrap(module, lr=0.1)
    body.requires_grad_(True)
    gradients_agree_with_differences(learner)
    fast = learner.clone()
    fast.adapt(mse_loss(fast(drawn(5, 3)), drawn(5, 2)))
    assert [name for name, _ in fast.named_parameters()] == ["2.weight", "2.bias"]
    assert body.weight.grad is not None


def test_a_parameter_that_the_loss_does_not_use_stays() -> None:
    module = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)}).double()

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = module

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["used"](x)

    fast = metarl.wrap(First(), lr=0.1).clone()
    fast.adapt(mse_loss(fast(drawn(5, 3)), drawn(5, 2)))
    adapted = dict(fast.named_parameters())
    assert torch.equal(adapted["parts.unused.weight"], module["unused"].weight)
    assert not torch.equal(adapted["parts.used.weight"], module["used"].weight)


def test_parameters_frozen_later_still_adapt_without_a_meta_gradient() -> None:
    """The choice is that of the call of `wrap`; an outer optimiser skips them."""
    module = nn.Linear(3, 2).double()
    learner = metarl.wrap(module, lr=0.1)
    module.requires_grad_(False)
    fast = learner.clone()
    fast.adapt(mse_loss(fast(drawn(5, 3)), drawn(5, 2)))
    assert not torch.equal(dict(fast.named_parameters())["weight"], module.weight)


def test_batch_norm_statistics_are_a_clones_own() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    learner = metarl.wrap(module, lr=0.1)
    gradients_agree_with_differences(learner)
    norm, x, y = module[1], drawn(6, 3), drawn(6, 2)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert torch.equal(norm.running_mean, torch.zeros(4, dtype=DOUBLE))
    first, second = learner.clone(), learner.clone()
    inner = module[0](x).detach()
    first.adapt(mse_loss(first(x), y))
    state = first.state_dict()
    assert state["1.num_batches_tracked"] == 1
    torch.testing.assert_close(state["1.running_mean"], 0.1 * inner.mean(dim=0))
    third = first.clone()
    third(x)
    assert third.state_dict()["1.num_batches_tracked"] == 2
    assert first.state_dict()["1.num_batches_tracked"] == 1
    assert second.state_dict()["1.num_batches_tracked"] == norm.num_batches_tracked == 0
    learner.eval()
    plain = copy.deepcopy(module)
    plain.load_state_dict(first.state_dict())
    assert torch.equal(first(x), plain(x))
    assert first.state_dict()["1.num_batches_tracked"] == 1
    learner.train()
    learner(x)
    assert norm.num_batches_tracked == 1, "the learner itself moves the module's"
    assert second.state_dict()["1.num_batches_tracked"] == 0


def test_statistics_that_move_do_not_disturb_a_derivative_that_read_them() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
    learner = metarl.wrap(module, lr=0.1)
    x, y = drawn(6, 3), drawn(6, 2)
    fast, same = learner.clone(), learner.clone()
    adapted = []
    for clone, moved in ((fast, False), (same, True)):
        learner.eval()
        loss = mse_loss(clone(x), y)
        learner.train()
        if moved:
            clone(x + 5.0)
        clone.adapt(loss)
        adapted.append(torch.cat([p.detach().reshape(-1) for p in clone.parameters()]))
    assert torch.equal(*adapted)


def test_a_buffer_that_the_module_replaces_is_a_clones_own() -> None:
    class Counting(nn.Module):
        count: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count = self.count + 1
            return self.layer(x)

    module = Counting().double()
    fast = metarl.wrap(module, lr=0.1).clone()
    for _ in range(3):
        fast(drawn(5, 3))
    assert fast.state_dict()["count"] == 3
    assert module.count == 0


def test_dropout_draws_anew_at_each_call_and_is_off_in_evaluation() -> None:
    module = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Linear(6, 2)).double()
    learner = metarl.wrap(module, lr=0.1)
    gradients_agree_with_differences(learner)
    fast, x = learner.clone(), drawn(5, 3)
    assert not torch.equal(fast(x), fast(x))
    learner.eval()
    assert torch.equal(fast(x), fast(x))
    assert torch.equal(fast(x), module(x))


@pytest.mark.parametrize("kind", ["nested", "spectral norm", "one number"])
def test_other_modules(kind: str) -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    modules: dict[str, nn.Module] = {
        "nested": nn.Sequential(nn.Sequential(inner, nn.Tanh()), nn.Linear(3, 2)),
        "spectral norm": nn.Sequential(spectral_norm(nn.Linear(3, 3)).eval(), nn.Linear(3, 2)),
        "one number": nn.Sequential(nn.PReLU(), nn.Linear(3, 2).requires_grad_(False)),
    }
    learner = metarl.wrap(modules[kind].double(), lr=0.1)
    gradients_agree_with_differences(learner)


def test_weight_norm_is_of_first_order_only() -> None:
    """The second derivative of PyTorch 2.13's kernel is not that of its formula, so meta-gradients would be wrong."""
    module = nn.Sequential(weight_norm(nn.Linear(3, 2)), nn.Tanh()).double()
    learner = metarl.wrap(module, lr=0.1, first_order=True)
    line = said(metarl.wrap(module, lr=0.1).clone)
    assert line.startswith("clone: 0.parametrizations.weight.0 is PyTorch's weight_norm")
    assert said(learner.clone().clone, first_order=False) == line
    x, y = drawn(5, 3), drawn(5, 2)
    fast = learner.clone()
    fast.adapt(mse_loss(fast(x), y))
    copied = copy.deepcopy(module)
    copied.load_state_dict(fast.state_dict())
    ours = torch.autograd.grad(mse_loss(fast(x), y), list(module.parameters()))
    theirs = torch.autograd.grad(mse_loss(copied(x), y), list(copied.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_recurrent_module_can_be_copied_and_saved_after_its_clones_ran() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0][:, -1]

    module = Last().double()
    learner = metarl.wrap(module, lr=0.1)
    fast, x = learner.clone(), drawn(5, 4, 3)
    fast.adapt(mse_loss(fast(x), drawn(5, 2)))
    fast(x)
    graph = weakref.ref(fast._parameters)
    assert graph() is not None
    del fast
    gc.collect()
    assert graph() is None
    assert torch.equal(copy.deepcopy(module)(x), module(x))
    assert torch.backends.cudnn.enabled is True


def test_a_new_rule_is_an_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clipped(GradientStep):
        def __init__(self, step_size: float, largest: float = 1.0) -> None:
            super().__init__(step_size)
            self.largest = largest

    monkeypatch.setitem(RULES, "clipped", Clipped)
    rule = metarl.wrap(nn.Linear(3, 2), "clipped", 0.2, largest=3.0).rule
    assert isinstance(rule, Clipped)
    assert (rule.step_size, rule.largest) == (0.2, 3.0)
    for words, settings in (
        ("smallest: got it for the rule 'clipped', which has settings: lr, largest", {"lr": 0.1, "smallest": 2.0}),
        ("step_size: got it for the rule 'clipped'", {"lr": 0.1, "step_size": 2.0}),
    ):
        with pytest.raises(ValueError, match=words):
            metarl.wrap(nn.Linear(3, 2), "clipped", **settings)  # type: ignore[arg-type]


# Errors -------------------------------------------------------------------------------------------------------


def said(function, *args, **kwargs) -> str:
    """The one line of a `ValueError`."""
    with pytest.raises(
        ValueError, match=r"expected|wrong|call the module|current parameters|needs it|which has|beside"
    ) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrap_refuses_in_one_line() -> None:
    module, frozen = nn.Linear(3, 2), nn.Linear(3, 2).requires_grad_(False)
    mixed = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double())
    known = re.escape(", ".join(RULES))
    for expected, args, settings in (
        (f"rule: got 'mamml', expected one of {known}, or an UpdateRule. Did you mean 'maml'?", (module, "mamml"), {}),
        ("rule: got the class GradientStep, expected one of", (module, GradientStep), {}),
        ("rule: got SGD, expected one of", (module, torch.optim.SGD(module.parameters(), 0.1)), {}),
        ("lr: got none, expected a value; the rule 'maml' needs it", (module,), {}),
        ("lr: got -1, expected a finite number above 0", (module,), {"lr": -1}),
        ("lr: got nan, expected", (module,), {"lr": float("nan")}),
        ("lr: got '0.1', expected", (module,), {"lr": "0.1"}),
        ("lr: got it beside a rule object", (module, GradientStep(0.1)), {"lr": 0.1}),
        ("hidden: got it beside a rule object", (module, GradientStep(0.1)), {"hidden": 3}),
        ("module: got function, expected a torch.nn.Module", (said,), {"lr": 0.1}),
        ("module: got no parameter that requires gradients", (frozen,), {"lr": 0.1}),
        ("module: got no parameter that requires gradients", (nn.Tanh(),), {"lr": 0.1}),
        ("module: weight is not initialised yet; call the module once", (nn.LazyLinear(2),), {"lr": 0.1}),
        ("module: got parameters of torch.float32 on cpu and torch.float64 on cpu", (mixed,), {"lr": 0.1}),
    ):
        assert said(metarl.wrap, *args, **settings).startswith(expected.replace("\\", "")), expected


def test_adapt_refuses_in_one_line() -> None:
    module, x, y = nn.Linear(3, 2).double(), drawn(5, 3), drawn(5, 2)
    learner = metarl.wrap(module, lr=0.1)
    fast, other = learner.clone(), learner.clone()
    assert said(fast.adapt, (fast(x) - y).square()).startswith("adapt: got a loss of shape (5, 2), expected a scalar")
    assert said(fast.adapt, 0.5).startswith("adapt: got a loss of type float, expected a scalar")
    foreign = "adapt: got a loss that does not depend on this clone's current parameters"
    earlier = mse_loss(fast(x), y)
    assert said(fast.adapt, mse_loss(other(x), y)).startswith(foreign)
    assert said(fast.adapt, mse_loss(learner(x), y)).startswith(foreign)
    assert said(fast.adapt, earlier.detach()).startswith(foreign)
    assert said(fast.clone().adapt, earlier).startswith(foreign)
    with torch.no_grad():
        assert said(fast.adapt, mse_loss(fast(x), y)).startswith(foreign)
    fast.adapt(earlier)
    assert said(fast.adapt, earlier).startswith(foreign), "computed before the last step"
    fast.adapt(mse_loss(fast(x), y).reshape(1))
