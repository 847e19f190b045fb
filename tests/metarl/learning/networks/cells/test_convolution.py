"""Convolutions over the last steps: over sequences, by single steps, and by a plain loop over a list of inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.convolution import Convolution, Layout, layout


def make(steps: int, inputs: int = 3, units: int = 4, dtype: torch.dtype = torch.float64) -> Convolution:
    cell = Convolution(inputs, units, steps, np.random.default_rng(steps))
    generator = torch.Generator().manual_seed(steps)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return cell.to(dtype)


def by_hand(cell: Convolution, history: list[np.ndarray]) -> np.ndarray:
    """The features of the newest of a row's inputs by loops, with zeros before the first."""
    window = cell.layout.window
    rows = ([np.zeros_like(history[0])] * window + history)[-window:]
    for layer, kernel, stride in zip(cell.convolutions, cell.layout.kernels, cell.layout.strides, strict=True):
        weight, bias = (p.detach().numpy() for p in layer.parameters())
        out = []
        for start in range(0, len(rows) - kernel + 1, stride):
            total = bias.copy()
            for j in range(kernel):
                total += weight[:, j * len(rows[0]) : (j + 1) * len(rows[0])] @ rows[start + j]
            out.append(np.maximum(total, 0.0))
        rows = out
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (50, Layout((9, 5, 5), (2, 1, 1), 13, 49)),
        (30, Layout((9, 5, 5), (2, 1, 1), 3, 29)),
        (20, Layout((9, 5, 2), (2, 1, 1), 1, 19)),
        (9, Layout((9, 1, 1), (2, 1, 1), 1, 9)),
        (4, Layout((4, 1, 1), (2, 1, 1), 1, 4)),
        (1, Layout((1, 1, 1), (2, 1, 1), 1, 1)),
    ],
)
def test_the_published_sizes_and_those_of_short_histories(steps: int, expected: Layout) -> None:
    assert layout(steps) == expected


@pytest.mark.parametrize("steps", range(1, 80))
def test_a_window_is_the_history_but_for_the_step_that_a_stride_leaves_out(steps: int) -> None:
    assert steps - layout(steps).window in (0, 1)


@pytest.mark.parametrize("steps", [1, 2, 8, 10, 23, 50])
def test_a_pass_over_a_sequence_equals_plain_loops_over_the_list_of_inputs(steps: int) -> None:
    cell, rng = make(steps), np.random.default_rng(0)
    x = rng.standard_normal((2, 60, 3))
    features, memory = cell(torch.tensor(x), cell.fresh_memory(2).double())
    assert features.shape == (2, 60, cell.outputs)
    for row in range(2):
        for t in (0, 1, 7, 30, 59):
            assert features[row, t].detach().numpy() == pytest.approx(by_hand(cell, list(x[row, : t + 1])), abs=1e-12)
    assert np.array_equal(memory.numpy(), x[:, 60 - (cell.layout.window - 1) :])


@pytest.mark.parametrize("steps", [1, 10, 50])
def test_the_memory_is_a_plain_list_of_the_last_inputs(steps: int) -> None:
    cell, rng = make(steps, dtype=torch.float32), np.random.default_rng(0)
    memory, kept = cell.fresh_memory(2), [np.zeros((2, 3), np.float32)] * (cell.layout.window - 1)
    sequence = []
    for _ in range(2 * steps):
        x = rng.standard_normal((2, 3), dtype=np.float32)
        before = memory.clone()
        features, after = cell.step(x, memory)
        assert torch.equal(memory, before), "a memory is a value"
        sequence.append(x)
        kept = [*kept, x][1:]
        assert after.shape == (2, cell.layout.window - 1, 3)
        assert all(np.array_equal(a, b) for a, b in zip(after.numpy().swapaxes(0, 1), kept, strict=True))
        expected = cell(torch.tensor(np.stack(sequence, axis=1)), cell.fresh_memory(2))[0][:, -1]
        assert features == pytest.approx(expected.detach().numpy(), abs=1e-5)
        memory = after


@pytest.mark.parametrize("steps", [1, 10, 50])
def test_a_sequence_may_be_cut_and_rows_may_end_early(steps: int) -> None:
    cell, rng = make(steps), np.random.default_rng(0)
    x, fresh = torch.tensor(rng.standard_normal((3, 20, 3))), cell.fresh_memory(3).double()
    whole, end = cell(x, fresh)
    first, memory = cell(x[:, :7], fresh)
    second, memory = cell(x[:, 7:], memory)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    assert torch.equal(memory, end)
    lengths = torch.tensor([1, 20, 12])
    features, after = cell.features_after(x, fresh, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(features[row], whole[row, length - 1])
        assert torch.equal(after[row], cell(x[row : row + 1, :length], fresh[:1])[1][0])


def test_the_gradient_is_that_of_finite_differences() -> None:
    cell = make(10, inputs=2, units=2)
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, 6, 2)), requires_grad=True)
    memory = torch.zeros(2, cell.layout.window - 1, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, *_: cell(x, memory)[0], (x, *cell.parameters()))


@pytest.mark.parametrize("steps", [1, 10, 50])
def test_its_size_is_known_before_it_is_built(steps: int) -> None:
    cell = make(steps)
    size = Convolution.size(3, 4, steps)
    assert size.parameters == sum(p.numel() for p in cell.parameters())
    assert size.memory == cell.fresh_memory(1).numel()
