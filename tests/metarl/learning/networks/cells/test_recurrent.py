"""GRU and LSTM against PyTorch's modules: values and all gradients, in both precisions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metarl.learning.device.compiled import over_rows
from metarl.learning.networks.cells import recurrent_kernels
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.gru import Gru
from metarl.learning.networks.cells.lstm import Lstm

KINDS = {"gru": Gru, "lstm": Lstm}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5}
every_kind = pytest.mark.parametrize("kind", KINDS)


def random_cell(kind: str, inputs: int, units: int, dtype: torch.dtype) -> Cell[Any]:
    cell: Any = KINDS[kind](inputs, units, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(units))
    found: Cell[Any] = cell.to(dtype)
    return found


def torchs(cell: Any, x: Tensor, start: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The features and the states after the last step, by PyTorch's own pass."""
    memory = tuple(t.unsqueeze(0) for t in start)
    if isinstance(cell, nn.GRU):
        features, end = nn.GRU.forward(cell, x, memory[0])
        return features, end.squeeze(0)
    features, ends = nn.LSTM.forward(cell, x, (memory[0], memory[1]))
    return features, *(end.squeeze(0) for end in ends)


def ours(cell: Any, x: Tensor, start: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    features, end = cell(x, start[0] if len(start) == 1 else start)
    return features, *((end,) if isinstance(end, Tensor) else end)


@every_kind
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("rows", "steps", "inputs", "units"), [(1, 1, 1, 1), (5, 9, 3, 7), (4, 6, 4, 8), (11, 30, 6, 33)]
)
@pytest.mark.parametrize("used", ["all", "features", "end"])
def test_values_and_gradients_are_those_of_pytorch(
    kind: str, dtype: torch.dtype, rows: int, steps: int, inputs: int, units: int, used: str
) -> None:
    cell, generator = random_cell(kind, inputs, units, dtype), torch.Generator().manual_seed(1)
    x = torch.randn(rows, steps, inputs, generator=generator, dtype=dtype, requires_grad=True)
    start = tuple(
        torch.randn(rows, units, generator=generator, dtype=dtype, requires_grad=True)
        for _ in range(1 if kind == "gru" else 2)
    )
    leaves, found = [x, *start, *cell.parameters()], []
    for one_pass in (ours, torchs):
        results = one_pass(cell, x, start)
        weighed = torch.Generator().manual_seed(2)
        chosen = {"all": results, "features": results[:1], "end": results[1:]}[used]
        total = sum((torch.randn(t.shape, generator=weighed, dtype=dtype) * t).sum() for t in chosen)
        assert isinstance(total, Tensor)
        found.append((*results, *torch.autograd.grad(total, leaves)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@every_kind
def test_an_input_without_a_gradient_gets_none(kind: str) -> None:
    cell, x = random_cell(kind, 3, 4, torch.float32), torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    cell(x, cell.fresh_memory(2))[0].sum().backward()
    expected = [p.grad.clone() for p in cell.parameters() if p.grad is not None]
    for parameter in cell.parameters():
        parameter.grad = None
    cell(x.requires_grad_(), cell.fresh_memory(2))[0].sum().backward()
    assert all(torch.equal(p.grad, e) for p, e in zip(cell.parameters(), expected, strict=True) if p.grad is not None)
    assert len(expected) == 4
    assert x.grad is not None


@every_kind
@torch.no_grad()
def test_a_row_has_the_same_bits_whatever_is_beside_it(kind: str) -> None:
    cell, x = random_cell(kind, 5, 6, torch.float32), torch.randn(7, 9, 5, generator=torch.Generator().manual_seed(0))
    whole = cell(x, cell.fresh_memory(7))[0]
    for rows in (slice(0, 1), slice(2, 7), slice(1, 5)):
        assert torch.equal(cell(x[rows], cell.fresh_memory(len(x[rows])))[0], whole[rows])


@every_kind
def test_the_number_of_threads_changes_no_bit(kind: str) -> None:
    threads, found = torch.get_num_threads(), []
    x = torch.randn(9, 9, 5, generator=torch.Generator().manual_seed(0))
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            cell = random_cell(kind, 5, 6, torch.float32)
            leaf = x.clone().requires_grad_()
            features = cell(leaf, cell.fresh_memory(9))[0]
            features.square().sum().backward()
            assert leaf.grad is not None
            found.append((features.detach(), leaf.grad))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@every_kind
def test_a_second_derivative_is_refused(kind: str) -> None:
    cell, x = random_cell(kind, 3, 4, torch.float32), torch.ones(2, 5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(cell(x, cell.fresh_memory(2))[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@every_kind
@torch.no_grad()
def test_numbers_that_are_not_finite_stay_so(kind: str) -> None:
    cell, x = random_cell(kind, 3, 4, torch.float32), torch.zeros(2, 5, 3)
    x[1, 2, 0] = torch.nan
    features = cell(x, cell.fresh_memory(2))[0]
    assert features[0].isfinite().all()
    assert features[1, :2].isfinite().all()
    assert features[1, 2:].isnan().all()


def test_the_polynomial_of_the_exponential_function() -> None:
    """Through a GRU of one unit whose update gate is the logistic function of the input: `h = 1 - s(x)`."""
    x = torch.linspace(-100, 100, 40_001)
    cell = Gru(1, 1, np.random.default_rng(0))
    with torch.no_grad():
        cell.weight_ih_l0.copy_(torch.tensor([[0.0], [1.0], [0.0]]))
        cell.bias_ih_l0.copy_(torch.tensor([0.0, 0.0, 50.0]))  # a candidate of 1
        features, _ = cell(x.view(-1, 1, 1), cell.fresh_memory(len(x)))
    expected = torch.sigmoid(-x.double())
    torch.testing.assert_close(features.view(-1).double(), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_ranges_of_rows_cover_all_of_them_once(threads: int) -> None:
    before, seen = torch.get_num_threads(), list[tuple[int, int]]()
    try:
        torch.set_num_threads(threads)
        for rows in (1, 4, 5, 17):
            seen.clear()
            over_rows(lambda first, last: seen.append((first, last)), rows, 4)
            assert len(seen) == min(threads, -(-rows // 4))
            assert [row for first, last in sorted(seen) for row in range(first, last)] == list(range(rows))
            assert all(first % 4 == 0 for first, _ in seen)
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_thread_is_raised() -> None:
    def loop(first: int, last: int) -> None:
        if first:
            raise ValueError("second part")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="second part"):
            over_rows(loop, 8, 4)
    finally:
        torch.set_num_threads(before)


def test_products_of_four_rows_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for length, width in ((1, 1), (4, 8), (7, 5), (33, 17)):
        out, a, weights = (rng.standard_normal(shape) for shape in ((4, width), (4, length), (length, width)))
        expected = out + a @ weights
        recurrent_kernels.add_products(out, a, weights)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
