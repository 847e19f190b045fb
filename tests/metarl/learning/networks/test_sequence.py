"""Networks with any memory: the defaults, and what passes whole trials through them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.cells.settings import CellName, CellSettings
from metarl.learning.networks.distributions import Categorical, at_step
from metarl.learning.networks.modules import PolicyHead, PolicySettings, linear
from metarl.learning.networks.recurrent import RecurrentActorCritic
from metarl.learning.networks.sequence import (
    SequenceNetwork,
    in_segments,
    memories_after_episodes,
    memories_before_segments,
    unroll,
)
from metarl.types import Spaces

SPACES = Spaces(observation_size=2, action_low=(0.0,), action_high=(2.0,), horizon=5, choices=3)


class Sums(NamedTuple):
    """Sums of the inputs so far, and how many there were, each within a tuple of its own."""

    total: Tensor
    count: tuple[Tensor]


class Mean(SequenceNetwork[Sums]):
    """The value is the sum of the mean of all inputs so far."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.policy = PolicyHead(2, SPACES, PolicySettings(), rng=rng)
        self.scale = linear(1, 1, 1.0, rng)

    def fresh_memory(self, rows: int) -> Sums:
        return Sums(torch.zeros(rows, 2), (torch.zeros(rows),))

    def forward(self, x: Tensor, memory: Sums) -> tuple[Categorical, Tensor, Sums]:
        totals = memory.total[:, None] + x.cumsum(dim=1)
        counts = memory.count[0][:, None] + torch.arange(1, x.shape[1] + 1)
        means = totals / counts.unsqueeze(-1)
        return self.policy(means), means.sum(dim=-1), Sums(totals[:, -1], (counts[:, -1],))


X = torch.tensor([[1.0, 3.0, 5.0, 7.0], [2.0, 2.0, 8.0, 0.0]]).unsqueeze(-1).expand(2, 4, 2)
MEANS = [[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 4.0, 3.0]]


def test_a_memory_is_mapped_tensor_by_tensor() -> None:
    one = Sums(torch.tensor([1.0]), (torch.tensor([2.0]),))
    assert mapped(torch.add, one, one) == Sums(torch.tensor([2.0]), (torch.tensor([4.0]),))
    assert mapped(torch.neg, (torch.tensor(1), torch.tensor(2))) == (torch.tensor(-1), torch.tensor(-2))
    assert mapped(torch.neg, torch.tensor(1)) == torch.tensor(-1)
    with pytest.raises(ValueError, match="zip"):
        mapped(torch.add, (torch.tensor(1),), (torch.tensor(1), torch.tensor(2)))


def test_rows_that_are_not_live_keep_their_memory() -> None:
    old, new = Mean().fresh_memory(2), Sums(torch.ones(2, 2), (torch.ones(2),))
    kept = Mean().keep(torch.tensor([True, False]), new, old)
    assert kept.total.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert kept.count[0].tolist() == [1.0, 0.0]


@torch.no_grad()
def test_the_memory_and_the_value_after_some_steps_of_each_row() -> None:
    network, steps = Mean(), torch.tensor([1, 3])
    after = network.memory_after(X, network.fresh_memory(2), steps)
    assert after.total[:, 0].tolist() == [1.0, 12.0]
    assert after.count[0].tolist() == [1.0, 3.0]
    assert network.value_after(X, steps).tolist() == [2 * MEANS[0][1], 2 * MEANS[1][3]]


@torch.no_grad()
@pytest.mark.parametrize("span", [0, 1, 3])
def test_a_trial_in_pieces_has_the_values_of_the_whole(span: int) -> None:
    distribution, values = unroll(Mean(), X, span)
    assert values.tolist() == [[2 * m for m in row] for row in MEANS]
    torch.testing.assert_close(
        distribution.logits, Mean().policy(torch.tensor(MEANS)[..., None].expand(2, 4, 2)).logits
    )


def test_segments_start_from_the_memory_before_them() -> None:
    network = Mean()
    before = memories_before_segments(network, X, 3)
    assert before.total[:, 0].tolist() == [0.0, 9.0, 0.0, 12.0]
    assert before.count[0].tolist() == [0.0, 3.0, 0.0, 3.0]
    assert in_segments(X, 3)[..., 0].tolist() == [[1, 3, 5], [7, 0, 0], [2, 2, 8], [0, 0, 0]]


def test_the_memory_after_each_episode() -> None:
    over = np.array([[True, False, False, True], [False, True, True, False]])
    after = memories_after_episodes(Mean(), X, over)
    assert after.total[:, 0].tolist() == [1.0, 16.0, 4.0, 12.0]
    assert after.count[0].tolist() == [1.0, 4.0, 2.0, 3.0]


def test_the_tensors_of_an_exported_memory_are_numbered() -> None:
    network = Mean()
    assert list(network.exported_memory(network.fresh_memory(2))) == ["memory.0", "memory.1.0"]
    assert set(network.exported_parameters()) == {
        "network.policy.output.weight", "network.policy.output.bias", "network.scale.weight", "network.scale.bias"
    }  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize(("cell", "parts"), [("gru", 1), ("lstm", 2)])
def test_packed_sequences_leave_the_memory_of_steps_one_after_another(cell: str, parts: int) -> None:
    network = RecurrentActorCritic(
        2, SPACES, encoder=(4,), activation="tanh", cell=CellSettings(cell=cell, units=6), steps=8, hidden=(),
        policy=PolicySettings(), rng=np.random.default_rng(0),
    )  # fmt: skip
    _, _, start = network(X.flip(0), network.fresh_memory(2))
    steps = torch.tensor([4, 2])
    fast = network.memory_after(X, start, steps)
    torch.testing.assert_close(fast, SequenceNetwork.memory_after(network, X, start, steps))
    assert network.exported_memory(fast)["memory"].shape == (parts, 2, 6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("hidden", [(), (4,)])
@pytest.mark.parametrize("choices", [0, 3])
@torch.no_grad()
def test_steps_of_acting_are_a_pass_over_the_trial(cell: CellName, hidden: tuple[int, ...], choices: int) -> None:
    spaces = Spaces(2, (0.0,), (2.0,), horizon=5, choices=choices)
    network = RecurrentActorCritic(
        3,
        spaces,
        encoder=(5,),
        activation="tanh",
        cell=CellSettings(cell=cell, units=6),
        steps=8,
        hidden=hidden,
        policy=PolicySettings(std="state"),
        rng=np.random.default_rng(0),
    )
    for name, parameter in network.named_parameters():
        if "bias" in name:  # zero at the start
            parameter.add_(torch.linspace(-1.0, 1.0, len(parameter)))
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    distribution, values, end = network(x, network.fresh_memory(2))
    memory = network.fresh_memory(2)
    for t in range(4):
        at, value, memory = network.step(x[:, t], memory)
        torch.testing.assert_close(at, at_step(distribution, t))
        torch.testing.assert_close(value, values[:, t])
    torch.testing.assert_close(memory, end)


@torch.no_grad()
def test_the_default_step_is_a_pass_of_one_step() -> None:
    network = Mean()
    memory, values = network.fresh_memory(2), []
    for t in range(4):
        distribution, value, memory = network.step(X[:, t], memory)
        values.append(value / 2)
        assert distribution.logits.shape == (2, 3)
    assert torch.stack(values, dim=1).tolist() == MEANS
