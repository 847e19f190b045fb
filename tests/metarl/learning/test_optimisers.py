from __future__ import annotations

import torch

from metarl.learning.optimisers import adam_tensors, restore_adam


def train(parameters: list[torch.Tensor], optimiser: torch.optim.Adam, steps: range) -> None:
    for i in steps:
        for p in parameters:
            p.grad = torch.cos(p.detach() + i)
        optimiser.step()


def make() -> tuple[list[torch.Tensor], torch.optim.Adam]:
    parameters = [torch.ones(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    return parameters, torch.optim.Adam(parameters, lr=0.1)


def test_a_restored_adam_goes_on_bit_for_bit() -> None:
    parameters, adam = make()
    train(parameters, adam, range(5))
    saved, values = adam_tensors("a", adam), [p.detach().clone() for p in parameters]
    assert saved["a.0.step"].item() == 5
    train(parameters, adam, range(5, 9))
    for used_before in (False, True):
        others, other = make()
        if used_before:
            train(others, other, range(2))
        with torch.no_grad():
            for p, v in zip(others, values, strict=True):
                p.copy_(v)
        restore_adam("a", other, saved)
        train(others, other, range(5, 9))
        assert all(torch.equal(p, q) for p, q in zip(parameters, others, strict=True))
    assert saved["a.0.step"].item() == 5, "what was saved is a copy"


def test_an_unused_adam_is_saved_as_zeros_and_starts_afresh() -> None:
    parameters, adam = make()
    saved = adam_tensors("a", adam)
    assert set(saved) == {f"a.{i}.{name}" for i in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    assert not any(t.any() for t in saved.values())
    others, other = make()
    restore_adam("a", other, saved)
    train(parameters, adam, range(3))
    train(others, other, range(3))
    assert all(torch.equal(p, q) for p, q in zip(parameters, others, strict=True))
