"""Split aggregation by numbers worked out by hand; `test_every_cell` holds it to the contract of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.cells.aggregated import Aggregated
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import cell_size, make_cell
from metarl.learning.networks.modules import PolicySettings
from metarl.learning.networks.recurrent import RecurrentActorCritic
from metarl.types import Spaces


class Told(Cell[Tensor]):
    """A cell without a memory, whose features are its inputs."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.outputs = inputs
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def fresh_memory(self, rows: int) -> Tensor:
        return torch.zeros(rows, 1)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return x, memory


X = torch.tensor([[[-3.0, 1.0], [-5.0, 9.0], [-1.0, 4.0]]])


def test_the_first_half_passes_and_the_second_is_the_maximum_so_far() -> None:
    """The features are `x_t` (passed) and `x_{t-1}` (aggregated): 0 at first, then the first input."""
    cell = Aggregated(Told(4), 2)
    features, memory = cell(X - 10.0, cell.fresh_memory(1))
    assert torch.equal(features[..., :2], X - 10.0)
    assert features[0, :, 2:].tolist() == [[0.0, 0.0]] * 3, "the zeros before the first step are inputs too"
    assert torch.equal(memory.previous, X[:, -1] - 10.0)
    features, memory = cell(X, cell.fresh_memory(1))
    assert features[0, :, 2:].tolist() == [[0.0, 0.0], [0.0, 1.0], [0.0, 9.0]]
    assert memory.maximum.tolist() == [[0.0, 9.0]]


def test_features_below_zero_are_not_lifted_by_the_fresh_memory() -> None:
    cell = Aggregated(Told(4), 2)
    start = cell.fresh_memory(1)._replace(previous=torch.tensor([[-7.0, -8.0]]))
    features, _ = cell(X, start)
    assert features[0, :, 2:].tolist() == [[-7.0, -8.0], [-3.0, 1.0], [-3.0, 9.0]]
    step, memory = cell.step(X[:, 0].numpy(), start)
    assert step.tolist() == [[-3.0, 1.0, -7.0, -8.0]]
    assert memory.maximum.tolist() == [[-7.0, -8.0]]


def test_an_exported_memory_is_finite_even_before_the_first_step() -> None:
    cell = make_cell(CellSettings(cell="lstm", units=4, aggregate="max"), 3, 5, np.random.default_rng(0))
    exported = cell.exported_memory(cell.fresh_memory(2))
    assert {name: tuple(t.shape) for name, t in exported.items()} == {
        "memory": (2, 2, 4), "memory.previous": (2, 3), "memory.maximum": (2, 2)
    }  # fmt: skip
    assert all(torch.isfinite(t).all() for t in exported.values())


def test_the_derivative_goes_to_the_step_of_the_maximum() -> None:
    """The maxima of the second input are those of steps 0, 0, 2 and 2; the sum counts them with weights 1 to 4."""
    cell = Aggregated(Told(4), 2)
    x = torch.tensor([[[0.0, 5.0], [0.0, 2.0], [0.0, 7.0], [0.0, 6.0]]], requires_grad=True)
    before = x.detach()[:, 0] - 100.0
    features, _ = cell(torch.cat([x, x[:, -1:].detach()], dim=1), cell.fresh_memory(1)._replace(previous=before))
    (features[0, 1:, 3] * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad is not None
    assert x.grad[0, :, 1].tolist() == [3.0, 0.0, 7.0, 0.0]


def test_each_input_comes_with_the_one_before_it_across_the_ends_of_episodes() -> None:
    """With no encoder, the cell reads the observation before at the leading components of the second half."""
    spaces = Spaces(2, (-1.0,), (1.0,), horizon=2)
    network: RecurrentActorCritic[Any] = RecurrentActorCritic(
        5, spaces, encoder=(), activation="tanh", cell=CellSettings(units=4, aggregate="max"), steps=6, hidden=(),
        policy=PolicySettings(), rng=np.random.default_rng(0),
    )  # fmt: skip
    assert isinstance(network.cell, Aggregated)
    seen: list[Tensor] = []
    network.cell.inner.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.arange(30.0).view(1, 6, 5) / 30.0  # observation (2), action, reward, end of the episode
    x[..., 4] = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])  # episodes of 2 steps, one after another
    _, _, memory = network(x[:, :3], network.fresh_memory(1))
    network(x[:, 3:], memory)
    given = torch.cat(seen, dim=1)
    assert torch.equal(given[..., :5], x)
    assert torch.equal(given[:, 1:, 5:7], x[:, :-1, :2])
    assert not given[:, 0, 5:].any()


def test_an_odd_number_of_units_is_refused() -> None:
    settings = CellSettings(units=7, aggregate="max")
    with pytest.raises(ValueError, match=r"units: got 7, expected an even number .* use 8, or aggregate 'none'"):
        make_cell(settings, 3, 5, np.random.default_rng(0))


def test_the_memory_is_counted() -> None:
    plain, split = (cell_size(CellSettings(units=8, aggregate=kind), 3, 5) for kind in ("none", "max"))
    assert split.memory == plain.memory + 3 + 4
    assert split.parameters == plain.parameters + 3 * 8 * 3
