from __future__ import annotations

import torch

from metarl.learning.adam import Adam


def test_steps_equal_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(7, generator=generator, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    adam, reference = Adam(ours, 0.03), torch.optim.Adam([theirs], lr=0.03)
    for _ in range(20):
        gradient = torch.randn(7, generator=generator, dtype=torch.float64)
        ours = adam.step(ours, gradient)
        theirs.grad = gradient
        reference.step()
        torch.testing.assert_close(ours, theirs.detach())


def test_the_first_step_has_the_length_of_the_step_size() -> None:
    moved = Adam(torch.zeros(2), 0.1).step(torch.zeros(2), torch.tensor([5.0, -0.01]))
    torch.testing.assert_close(moved, torch.tensor([-0.1, 0.1]), rtol=1e-5, atol=0.0)


def test_a_restored_optimiser_goes_on_bit_for_bit() -> None:
    adam, twin = Adam(torch.zeros(3), 0.1), Adam(torch.zeros(3), 0.1)
    parameters = adam.step(torch.ones(3), torch.tensor([1.0, -2.0, 0.3]))
    saved = {name: t.clone() for name, t in adam.tensors("adam").items()}
    twin.restore("adam", saved)
    gradient = torch.tensor([0.1, 0.2, -0.7])
    assert torch.equal(twin.step(parameters, gradient), adam.step(parameters, gradient))
    assert not torch.equal(Adam(torch.zeros(3), 0.1).step(parameters, gradient), twin.step(parameters, gradient))
