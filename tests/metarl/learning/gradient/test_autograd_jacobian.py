"""Products with a Jacobian, against the Jacobian that PyTorch computes column by column."""

from __future__ import annotations

import torch

from metarl.learning.gradient.autograd_jacobian import AutogradJacobian


def outputs(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two functions of `[4]`, `[2, 2]` and `[3]`, and one that does not depend on it."""
    return torch.stack([x[:2] * x[2:].sin(), x[1:3] ** 3]), x[:3] * x[3], x.new_ones(2)


def test_products_are_those_with_the_whole_matrix() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, generator=rng, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    jacobian = AutogradJacobian(outputs(leaf), leaf)
    matrices = torch.autograd.functional.jacobian(outputs, x, strict=False)
    flat = [matrix.reshape(-1, 4) for matrix in matrices]
    for seed in range(3):
        v = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        tangents = jacobian.jvp(v)
        assert [t.shape for t in tangents] == [(2, 2), (3,), (2,)]
        for tangent, matrix in zip(tangents, flat, strict=True):
            torch.testing.assert_close(tangent.flatten(), matrix @ v, rtol=0, atol=1e-12)
        cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64) for t in tangents]
        expected = sum(matrix.T @ c.flatten() for matrix, c in zip(flat, cotangents, strict=True))
        torch.testing.assert_close(jacobian.vjp(cotangents), expected, rtol=0, atol=1e-12)
