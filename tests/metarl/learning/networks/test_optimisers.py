from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.networks.optimisers import Adam


def leaves() -> list[Tensor]:
    """The last one never gets a gradient."""
    return [t.requires_grad_() for t in (torch.ones(3), torch.zeros(2, 2), torch.full((2,), 5.0))]


def set_gradients(parameters: list[Tensor], step: int) -> None:
    for p in parameters[:-1]:
        p.grad = torch.cos(p.detach() + step)


def train(parameters: list[Tensor], optimiser: Adam, steps: range) -> None:
    for i in steps:
        set_gradients(parameters, i)
        optimiser.step()


def make() -> tuple[list[Tensor], Adam]:
    parameters = leaves()
    return parameters, Adam(parameters, 0.1)


@pytest.mark.parametrize("fused", [False, True])
def test_it_is_pytorchs_adam_bit_for_bit(fused: bool) -> None:
    ours, theirs = leaves(), leaves()
    adam = Adam(ours, 0.1, eps=1e-5, fused=fused)
    expected = torch.optim.Adam(theirs, lr=0.1, eps=1e-5, fused=fused or None)
    for i in range(6):
        adam.step_size = expected.param_groups[0]["lr"] = 0.1 / (i + 1)
        for parameters, optimiser in ((ours, adam), (theirs, expected)):
            set_gradients(parameters, i)
            optimiser.step()
            optimiser.zero_grad()
        assert all(p.grad is None for p in ours)
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    assert torch.equal(ours[-1], torch.full((2,), 5.0)), "no gradient, no step"
    for field, tensor in expected.state[theirs[1]].items():
        assert torch.equal(adam.tensors("a")[f"a.1.{field}"], tensor)


def test_the_first_step_by_hand() -> None:
    """Both moments are corrected for their start at zero, so it is the step size times the sign of the gradient."""
    leaf = torch.tensor([1.0, 1.0], requires_grad=True)
    leaf.grad = torch.tensor([4.0, -0.5])
    Adam([leaf], 0.1).step()
    assert leaf.tolist() == pytest.approx([0.9, 1.1])


def test_a_restored_adam_goes_on_bit_for_bit() -> None:
    parameters, adam = make()
    train(parameters, adam, range(5))
    saved, values = adam.tensors("a"), [p.detach().clone() for p in parameters]
    assert saved["a.0.step"].item() == 5
    train(parameters, adam, range(5, 9))
    for used_before in (False, True):
        others, other = make()
        if used_before:
            train(others, other, range(2))
        with torch.no_grad():
            for p, v in zip(others, values, strict=True):
                p.copy_(v)
        other.restore("a", saved)
        train(others, other, range(5, 9))
        assert all(torch.equal(p, q) for p, q in zip(parameters, others, strict=True))
    assert saved["a.0.step"].item() == 5, "what was saved is a copy"


def test_an_unused_adam_is_saved_as_zeros_and_starts_afresh() -> None:
    parameters, adam = make()
    saved = adam.tensors("a")
    assert set(saved) == {f"a.{i}.{name}" for i in (0, 1, 2) for name in ("step", "exp_avg", "exp_avg_sq")}
    assert not any(t.any() for t in saved.values())
    others, other = make()
    other.restore("a", saved)
    train(parameters, adam, range(3))
    train(others, other, range(3))
    assert all(torch.equal(p, q) for p, q in zip(parameters, others, strict=True))


def test_an_attribute_of_another_name_is_an_error() -> None:
    """Else an annealed step size that is set under another name would be constant without notice."""
    adam = Adam([torch.zeros(1, requires_grad=True)], 0.1)
    with pytest.raises(AttributeError, match="learning_rate"):
        adam.learning_rate = 0.0  # type: ignore[attr-defined]
