"""Contract of all cells: steps, pieces and whole sequences agree; rows are independent; sizes are what is declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.cells.base import Cell, mapped
from metarl.learning.networks.cells.settings import READ, CellSettings
from metarl.learning.networks.cells.table import CELLS, cell_size, make_cell

INPUTS, UNITS, STEPS = 3, 8, 12

SETTINGS = [
    *(CellSettings(cell=name, units=UNITS) for name in CELLS),
    *(CellSettings(cell=name, units=UNITS, aggregate="max") for name in CELLS),
    CellSettings(cell="attention", units=UNITS, cell_layers=3, attention_heads=2, attention_window=4),
    CellSettings(cell="attention", units=UNITS, cell_layers=1, attention_heads=1, attention_window=2),
]
every_cell = pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.cell}-{s.attention_window}-{s.aggregate}")


def random_cell(settings: CellSettings, dtype: torch.dtype = torch.float32) -> Cell[Any]:
    """A cell whose biases and zeros are random too."""
    cell = make_cell(settings, INPUTS, STEPS, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return cell.to(dtype)


def inputs(rows: int = 3, steps: int = STEPS) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(2))


@every_cell
@torch.no_grad()
def test_steps_of_acting_are_a_pass_over_the_sequence(settings: CellSettings) -> None:
    cell, x = random_cell(settings), inputs()
    features, _ = cell(x, cell.fresh_memory(3))
    assert features.shape == (3, STEPS, cell.outputs) == (3, STEPS, UNITS)
    memory = cell.fresh_memory(3)
    for t in range(STEPS):
        feature, memory = cell.step(x[:, t].numpy().copy(), memory)
        torch.testing.assert_close(torch.tensor(feature), features[:, t], atol=2e-5, rtol=1e-4)


@every_cell
@pytest.mark.parametrize("span", [1, 5, 7])
@torch.no_grad()
def test_a_sequence_in_pieces_has_the_features_of_the_whole(settings: CellSettings, span: int) -> None:
    cell, x = random_cell(settings), inputs()
    whole, _ = cell(x, cell.fresh_memory(3))
    memory, pieces = cell.fresh_memory(3), []
    for piece in torch.split(x, span, dim=1):
        features, memory = cell(piece, memory)
        pieces.append(features)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=1e-4)


@every_cell
@torch.no_grad()
def test_a_memory_stays_valid_after_steps_from_it(settings: CellSettings) -> None:
    """Two continuations of one memory, played in turn, do not disturb one another."""
    cell, x = random_cell(settings), inputs()
    _, common = cell(x[:, :4], cell.fresh_memory(3))
    memories, other = [common, common], x.flip(1)
    for t in range(4, 8):
        for i, sequence in enumerate((x, other)):
            feature, memories[i] = cell.step(sequence[:, t].numpy().copy(), memories[i])
            path = torch.cat([x[:, :4], sequence[:, 4 : t + 1]], dim=1)
            expected = cell(path, cell.fresh_memory(3))[0][:, -1]
            torch.testing.assert_close(torch.tensor(feature), expected, atol=2e-5, rtol=1e-4)


@every_cell
@torch.no_grad()
def test_rows_that_are_not_live_keep_their_memory(settings: CellSettings) -> None:
    cell, x = random_cell(settings), inputs()
    _, memory = cell(x[:, :4], cell.fresh_memory(3))
    live = torch.tensor([True, False, True])
    for t in range(4, 7):
        _, new = cell.step(x[:, t].numpy().copy(), memory)
        memory = cell.keep(live, new, memory)
    features, _ = cell(x[:, 7:9], memory)
    expected, _ = cell(x[:, :9], cell.fresh_memory(3))
    torch.testing.assert_close(features[::2], expected[::2, 7:9], atol=2e-5, rtol=1e-4)
    short, _ = cell(torch.cat([x[1:2, :4], x[1:2, 7:9]], dim=1), cell.fresh_memory(1))
    torch.testing.assert_close(features[1:2], short[:, 4:], atol=2e-5, rtol=1e-4)


@every_cell
@torch.no_grad()
def test_memories_after_some_steps_of_each_row_go_on_as_the_slow_ones(settings: CellSettings) -> None:
    cell, x, steps = random_cell(settings), inputs(), torch.tensor([1, 6, 4])
    _, start = cell(inputs().flip(1)[:, :3], cell.fresh_memory(3))
    features, fast = cell.features_after(x[:, :6], start, steps)
    slow_features, slow = Cell.features_after(cell, x[:, :6], start, steps)
    torch.testing.assert_close(features, slow_features, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(cell(x, fast)[0], cell(x, slow)[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(cell(x, cell.memory_after(x[:, :6], start, steps))[0], cell(x, slow)[0], atol=2e-5,
                               rtol=1e-4)  # fmt: skip


@every_cell
@torch.no_grad()
def test_rows_are_independent_and_memories_are_cut_and_joined(settings: CellSettings) -> None:
    cell, x = random_cell(settings), inputs()
    whole, memory = cell(x[:, :6], cell.fresh_memory(3))
    torch.testing.assert_close(cell(x[1:2, :6], cell.fresh_memory(1))[0], whole[1:2], atol=2e-5, rtol=1e-4)
    after, _ = cell(x[:, 6:], memory)
    parts = [mapped(lambda t, i=i: t[i : i + 1].clone(), memory) for i in (2, 0)]
    joined = mapped(lambda *tensors: torch.cat(tensors), *parts)
    torch.testing.assert_close(cell(x[[2, 0], 6:], joined)[0], after[[2, 0]], atol=2e-5, rtol=1e-4)


@every_cell
def test_gradients_are_those_of_finite_differences(settings: CellSettings) -> None:
    """The value is a random projection of the features. All parameters and the inputs vary, in float64."""
    cell = random_cell(settings, torch.float64)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, INPUTS, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 6, UNITS, generator=generator, dtype=torch.float64)
    leaves = [x, *cell.parameters()]

    def value() -> Tensor:
        memory = mapped(lambda t: t.double() if t.is_floating_point() else t, cell.fresh_memory(2))
        result: Tensor = (cell(x, memory)[0] * weights).sum()
        return result

    gradients = torch.autograd.grad(value(), leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            leaf += 1e-6 * direction
            high = value()
            leaf -= 2e-6 * direction
            low = value()
            leaf += 1e-6 * direction
        slope = float((high - low) / 2e-6)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("name", CELLS)
def test_a_first_input_of_zeros_has_no_larger_gradient_than_others(name: Any, layers: int) -> None:
    """A layer norm of zeros would multiply it by 300 in each layer."""
    given: Any = {"cell_layers": layers} if name in READ["cell_layers"] else {}
    norms = []
    for first in (0.0, 1.0):
        cell = make_cell(CellSettings(cell=name, units=32, **given), 16, 10, np.random.default_rng(0))
        generator = torch.Generator().manual_seed(1)
        x, weights = torch.rand(4, 10, 16, generator=generator), torch.randn(4, 10, 32, generator=generator)
        x[:, 0] *= first
        loss = (cell(x, cell.fresh_memory(4))[0] * weights).mean()
        gradients = torch.autograd.grad(loss, list(cell.parameters()), materialize_grads=True)
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
    assert 0.5 < norms[0] / norms[1] < 2.0


@every_cell
def test_gradients_reach_the_memory_that_a_pass_starts_from(settings: CellSettings) -> None:
    cell, x = random_cell(settings), inputs()
    _, memory = cell(x[:, :3], cell.fresh_memory(3))
    cell(x[:, 3:], memory)[0][:, -1].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in cell.parameters())
    x_first = x[:, :3].clone().requires_grad_()
    _, memory = cell(x_first, cell.fresh_memory(3))
    cell(x[:, 3:6], memory)[0].sum().backward()
    assert x_first.grad is not None
    assert x_first.grad.abs().sum() > 0


@every_cell
def test_the_declared_size_is_the_cells(settings: CellSettings) -> None:
    cell, size = make_cell(settings, INPUTS, STEPS, np.random.default_rng(0)), cell_size(settings, INPUTS, STEPS)
    assert size.parameters == sum(p.numel() for p in cell.parameters())
    numbers = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal numbers
        numbers += tensor[0].numel()
        return tensor

    mapped(count, cell.fresh_memory(2))
    assert size.memory == numbers


@every_cell
def test_the_initial_weights_come_from_the_generator(settings: CellSettings) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (make_cell(settings, INPUTS, STEPS, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            CellSettings(cell="gru", cell_layers=3),
            "cell_layers: got 3 with cell 'gru'.* one of the cells mingru, s5, att",
        ),
        (CellSettings(cell="s5", attention_heads=2), "attention_heads: got 2 with cell 's5'"),
        (CellSettings(cell="snail", attention_window=9), "attention_window: got 9 with cell 'snail'"),
    ],
)
def test_settings_without_effect_are_refused(settings: CellSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_cell(settings, 3, 5, np.random.default_rng(0))
